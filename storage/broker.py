"""The queue: message, routing, and Celery's settings; it carries wake-ups, never the truth.

A message is `{"job": id, "schema": version}` and nothing else: losing one costs time, repeating or forging one
can only wake a real job. Without a broker address jobs travel through kombu's file transport beside the
SQLite database (the embedded mode); it loses messages when killed, which `storage.outbox` makes good.
"""

from __future__ import annotations

import contextlib
import re
import reprlib
import socket
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import celery
import kombu
import sqlalchemy.engine

from storage import addresses, errors, records, settings, statements

TASK = "quantfleet.run_job"
"""The one task that there is."""

TIME_LIMIT_S = 6 * 3600
"""Backstop for a task that hangs: far above any job's own bound."""

PING_S = 5.0
"""How long a broker may take to answer at all."""

_JOB_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""What a job's id can look like: no database has to see the rest."""

QUICK_FAILURE = {"max_retries": 1, "interval_start": 0.2}
"""A publisher tells that the broker is away rather than wait for it, as kombu does; whoever has it tries again."""

FILE_ORDER_S = 0.001
"""The file transport orders messages by the millisecond, and by chance within one."""


def queue_of(platform_key: str, wanted_host: str | None = None) -> str:
    """The queue that a job's wake-up goes to: its host's, its platform's, or everyone's."""
    if wanted_host is not None:
        return f"host.{wanted_host}"
    return "any" if platform_key == records.ANY_PLATFORM else f"platform.{platform_key}"


def queues_of(platform_key: str, host: str) -> tuple[str, ...]:
    """The queues that a host's worker listens to, always by name."""
    return queue_of(platform_key, host), queue_of(platform_key), queue_of(records.ANY_PLATFORM)


def message(job_id: str) -> dict[str, Any]:
    """What travels through the queue for one job."""
    return {"job": job_id, "schema": records.SCHEMA_VERSION}


def job_of(body: Any) -> str:
    """The job id of a message, which may be anything that JSON can hold; ValueError for one that is none of ours."""
    job, schema = (body.get("job"), body.get("schema")) if isinstance(body, Mapping) else (None, None)
    if not (
        isinstance(job, str) and _JOB_ID.fullmatch(job) and type(schema) is int and schema <= records.SCHEMA_VERSION
    ):
        raise ValueError(f"not a message of quantfleet, or of a newer one: {reprlib.repr(body)}")
    return job


def queue_folder(config: settings.Settings) -> Path:
    """Where the embedded queue lies: beside its SQLite database."""
    database = sqlalchemy.engine.make_url(config.database).database
    if not database:
        raise errors.SettingsError("the embedded mode needs a SQLite database in a file")
    return Path(f"{database}.queue").resolve()


def configuration(config: settings.Settings) -> dict[str, Any]:
    """Celery's settings, each for a reason given in docs/design.md under "Delivery"."""
    common: dict[str, Any] = {
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": 1,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_create_missing_queues": False,
        "task_time_limit": TIME_LIMIT_S,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "worker_hijack_root_logger": False,
        "worker_enable_remote_control": False,
        "worker_send_task_events": config.events,
        "task_send_sent_event": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "enable_utc": True,
    }
    return {**common, **(_redis(config) if config.broker else _files(config))}


def app(config: settings.Settings, queues: Iterable[str] = ()) -> celery.Celery:
    """A Celery app for the settings; makes no connection yet."""
    made = celery.Celery("quantfleet", set_as_current=False)
    made.conf.update(configuration(config))
    made.conf.task_queues = [kombu.Queue(name) for name in queues]
    return made


class Publisher:
    """Sends wake-ups for jobs."""

    def __init__(self, config: settings.Settings) -> None:
        self._app = app(config)
        self._app.conf.broker_transport_options |= QUICK_FAILURE
        self._queues: dict[str, kombu.Queue] = {}
        self._in_files = not config.broker
        self._address = config.broker or "the file queue"
        self._link: kombu.Connection | None = None

    def publish(self, job_id: str, queue: str) -> None:
        """Send one wake-up; raises Unreachable when the broker does not take it."""
        target = self._queues.setdefault(queue, kombu.Queue(queue))
        with translated(self._address):
            self._app.send_task(TASK, args=[message(job_id)], queue=target, retry=False)
        if self._in_files:
            time.sleep(FILE_ORDER_S)

    def publish_all(self, wake_ups: Sequence[tuple[str, str]]) -> Iterator[Sequence[str]]:
        """Send wake-ups, each a job's id and its queue, in this order; yields the ids of those that the broker took,
        some at a time. Raises as `publish`: what is not yet yielded then may have been taken or not.
        """
        if self._in_files:
            for job_id, queue in wake_ups:
                self.publish(job_id, queue)
                yield [job_id]
            return
        from storage import redis_transport  # which stands on this module

        for some in statements.chunks(wake_ups):
            with self._channel() as channel:
                redis_transport.push(channel, some)
            yield [job_id for job_id, _ in some]

    def waiting(self, queue: str) -> int:
        """Messages in a queue that no worker has taken yet."""
        with self._channel() as channel:
            return int(channel._size(queue))  # kombu has no public size

    def empty(self, queues: Iterable[str]) -> frozenset[str]:
        """Those of some queues in which nothing waits."""
        names = sorted(set(queues))
        if not names:
            return frozenset()
        if self._in_files:
            return frozenset(name for name in names if not self.waiting(name))
        from storage import redis_transport

        with self._channel() as channel:
            return frozenset(name for name, size in redis_transport.sizes(channel, names).items() if not size)

    def purge(self, queue: str) -> None:
        """Drop a queue's messages; their jobs are in the database all the same."""
        with self._channel() as channel:
            channel._purge(queue)

    def ping(self) -> None:
        """Ask the broker for an answer; raises Unreachable, or SettingsError for what time will not mend."""
        quick = {} if self._in_files else {"socket_timeout": PING_S, "socket_connect_timeout": PING_S}
        try:
            with translated(self._address), self._app.connection_for_write(transport_options=quick) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=PING_S)
                connection.default_channel._size("any")  # a channel alone may not have said a word yet
        except errors.Unreachable:
            if self._address.startswith("rediss://") and _speaks_plainly(self._address):
                raise _no_tls(self._address) from None
            raise

    def close(self) -> None:
        """Drop the connections; what is asked next connects anew."""
        self._hang_up()
        self._app.close()

    @contextlib.contextmanager
    def _channel(self) -> Iterator[Any]:
        """The channel of one connection that is kept; after any trouble it is another one."""
        try:
            with translated(self._address):
                if self._link is None:
                    self._link = self._app.connection_for_write()
                yield self._link.default_channel
        except BaseException:
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(Exception):  # it may be what the trouble is about
                link.release()


@contextlib.contextmanager
def translated(address: str) -> Iterator[None]:
    """What kombu and its transports raise, as quantfleet's errors, without the address's password."""
    try:
        yield
    except errors.QuantfleetError:
        raise
    except Exception as exc:
        known = _broker_error(exc, address)
        if known is None:
            raise
        raise known from exc


_REFUSED = {
    "WRONGPASS": "refuses the password",
    "invalid password": "refuses the password",
    "invalid username-password": "refuses the password",
    "NOAUTH": "wants a password",
    "Authentication required": "wants a password",
    "NOPERM": "refuses this user the right to do that",
    "DB index is out of range": "has no database of that number; write /0 at the end of its address",
    "is not valid for": "shows a certificate for another name than the address has",
    "certificate has expired": "shows a certificate that has expired",
    "CERTIFICATE_VERIFY_FAILED": "shows a certificate of an authority that is not known here; "
    "name the authority's file with ?ssl_ca_certs=FILE",
    "certificate required": "wants a certificate of ours; add ssl_certfile=FILE&ssl_keyfile=FILE to its address",
    "Protocol Error": "does not speak plain Redis there; for TLS write rediss:// instead of redis://",
}
"""What a broker says when only a person can mend it; Redis and OpenSSL have no error codes, only texts. The first
that fits is meant."""


def _broker_error(exc: BaseException, address: str) -> errors.QuantfleetError | None:
    where, said = f"broker {settings.redact(address)}", settings.without_password(str(exc), address)
    for sign, what in _REFUSED.items():
        if sign.lower() in said.lower():
            detail = f" ({said})" if "certificate" in sign.lower() or sign == "is not valid for" else ""
            return errors.SettingsError(f"{where} {what}{detail}")
    if "wrong version number" in said.lower() or "record layer failure" in said.lower():
        return _no_tls(address)
    if isinstance(exc, (OSError, kombu.exceptions.KombuError)) or type(exc).__module__.startswith("redis."):
        return errors.Unreachable(f"{where} does not answer: {said}{_hint(said, address)}")
    return None


def _hint(said: str, address: str) -> str:
    """What else a connection that is closed without a word may mean."""
    if "closed by server" not in said and "reset by peer" not in said:
        return ""
    if address.startswith("rediss://"):
        return " (or does it want a certificate of ours: ssl_certfile=FILE&ssl_keyfile=FILE?)"
    return " (or does it speak TLS there: rediss://?)"


def _no_tls(address: str) -> errors.SettingsError:
    where = settings.redact(address)
    return errors.SettingsError(f"broker {where} does not speak TLS there; write redis:// instead of rediss://")


def _speaks_plainly(address: str) -> bool:
    """Whether a broker that keeps silent on TLS answers without it: Redis waits for the end of what it cannot read."""
    parts = urllib.parse.urlsplit(address)
    try:
        with socket.create_connection((parts.hostname, parts.port or 6379), timeout=2.0) as link:
            link.sendall(b"PING\r\n")
            return link.recv(1) in (b"+", b"-")
    except OSError:
        return False


def _files(config: settings.Settings) -> dict[str, Any]:
    folder = queue_folder(config)
    for part in ("messages", "control", "processed"):
        try:
            (folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise errors.SettingsError(f"cannot write the queue folder {folder}: {exc.strerror}") from exc
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": str(folder / "messages"),
            "data_folder_out": str(folder / "messages"),
            "control_folder": str(folder / "control"),
            "processed_folder": str(folder / "processed"),
            "polling_interval": 0.2,
        },
    }


def _redis(config: settings.Settings) -> dict[str, Any]:
    for scheme in ("redis", "rediss"):  # by kombu's registry: named in the settings it would be named in logs too
        kombu.transport.TRANSPORT_ALIASES[scheme] = "storage.redis_transport:Transport"
    return {
        **addresses.broker_settings(config.broker),
        "worker_disable_prefetch": True,
        "broker_transport_options": {
            "visibility_timeout": 3600,
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
    }
