# Three images of one project, each an ordinary user's, none with build tools in it:
#
#   docker build --target scheduler --tag quantfleet-scheduler .     plans, submits, watches, migrates; no torch
#   docker build --target monitoring --tag quantfleet-monitoring .   Flower
#   docker build --target worker --tag quantfleet-worker .           measures
#
# TORCH_INDEX is where torch comes from. The default holds CPU-only builds; the torch of PyPI drags gigabytes of GPU
# libraries along that nothing here uses.

ARG PYTHON=3.11-slim-bookworm

# Dependencies come before the code, and in layers of their own: a change of the code rebuilds, and ships, 3 MB. The
# packages are empty until then.
FROM python:${PYTHON} AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /usr/local/quantfleet
ENV PATH=/usr/local/quantfleet/bin:$PATH
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
RUN mkdir scheduler storage worker && touch scheduler/__init__.py storage/__init__.py worker/__init__.py \
    && pip install --constraint constraints.txt .

# torch alone comes from its own index, and without what it needs: no other package can be taken from there.
FROM dependencies AS worker-dependencies
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --constraint constraints.txt --index-url "$TORCH_INDEX" --no-deps torch \
    && pip install --constraint constraints.txt '.[all,s3]'

FROM dependencies AS monitoring-dependencies
COPY deploy/flower.txt deploy/flower.txt
RUN pip install --constraint constraints.txt --requirement deploy/flower.txt && pip check

FROM dependencies AS wheel
COPY scheduler scheduler
COPY storage storage
COPY worker worker
RUN pip wheel --no-deps --wheel-dir /dist .

# What all run as: a user without a password, a shell or anything of its own but two folders. Volumes that are put
# there for the first time take their owner over.
FROM python:${PYTHON} AS bare
RUN groupadd --gid 10001 quantfleet \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/quantfleet --shell /usr/sbin/nologin quantfleet \
    && install --directory --owner quantfleet --group quantfleet /var/lib/quantfleet /run/quantfleet
ENV PATH=/usr/local/quantfleet/bin:$PATH \
    HOME=/var/lib/quantfleet \
    HF_HOME=/var/lib/quantfleet/huggingface \
    QUANTFLEET_CACHE=/var/lib/quantfleet/cache \
    QUANTFLEET_LOCK=/run/quantfleet/measuring.lock
WORKDIR /var/lib/quantfleet

FROM bare AS monitoring
COPY --from=monitoring-dependencies /usr/local/quantfleet /usr/local/quantfleet
USER quantfleet
EXPOSE 5555
# Flower takes the broker's address from CELERY_BROKER_URL: an argument could be read by every user of the machine.
ENTRYPOINT ["celery"]
CMD ["flower"]

FROM bare AS scheduler
COPY --from=dependencies /usr/local/quantfleet /usr/local/quantfleet
COPY --from=wheel /dist /dist
RUN pip install --no-cache-dir --no-deps --force-reinstall /dist/*.whl && pip check && rm -r /dist
USER quantfleet
ENTRYPOINT ["quantfleet"]
CMD ["--help"]

FROM bare AS worker
COPY --from=worker-dependencies /usr/local/quantfleet /usr/local/quantfleet
COPY --from=wheel /dist /dist
RUN pip install --no-cache-dir --no-deps --force-reinstall /dist/*.whl && pip check && rm -r /dist
USER quantfleet
# SIGINT gives the running job back at once, so that a container stops in seconds; SIGTERM, sent by hand, lets it
# finish its job first.
STOPSIGNAL SIGINT
# Healthy: the fleet's database has seen this host lately; the launcher then dates its lock. No Python is started for
# it, and it is rare, because the machine that pays for it is the one that is measured (some 0.05 s of a core a time).
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s --retries=2 \
    CMD find "$QUANTFLEET_LOCK.${QUANTFLEET_HOST:-$(hostname)}.worker" -mmin -2 | grep -q .
ENTRYPOINT ["quantfleet"]
CMD ["worker"]
