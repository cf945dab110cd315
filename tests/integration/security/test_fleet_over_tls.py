"""A worker with TLS on both links: it measures, its passwords stay where they belong, and forged messages are nothing.

One launcher serves all tests of this module; what they look at is collected while it does its job.
"""

from __future__ import annotations

import contextlib
import dataclasses
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from storage import broker, database, queries
from tests import services
from tests.integration.security.test_messages import evil_messages
from tests.integration.worker.fleet import LONG, Fleet, Host

pytestmark = pytest.mark.slow

SECRETS = {services.PASSWORD, urllib.parse.quote(services.PASSWORD, safe=""), "s3cret"}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What could be seen of a host that measured over TLS, after evil messages came."""

    jobs: Sequence[queries.JobView]
    lines: Mapping[int, Sequence[str]]  # command line of each of its processes, while it measured
    environs: Mapping[int, Mapping[str, str]]  # environment of those that measure
    encrypted: Sequence[bool]  # of its database sessions
    log: str
    folder: Path  # with cache and everything that it wrote
    evil: Path  # a file that must not be
    restarts: int  # of the worker


@pytest.fixture(scope="module")
def seen(
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: services.Redis,
    postgres_over_tcp: services.Postgres,
    authority: services.Authority,
) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("tls")
    redis_server.client().flushall()
    certificate = authority.sign("127.0.0.1")
    with (
        services.TlsEnd(redis_server, certificate.context()) as redis_end,
        services.TlsEnd(postgres_over_tcp, certificate.context(), postgres=True) as postgres_end,
    ):
        made = postgres_over_tcp.make_database("over_tls")
        query = urllib.parse.urlencode({"sslmode": "verify-full", "sslrootcert": str(authority.file)})
        address = f"{made}?{query}".replace(f":{postgres_over_tcp.port}/", f":{postgres_end.port}/")
        database.upgrade(address)
        over = f"rediss://:{redis_server.password}@{redis_end.host}:{redis_end.port}/0?ssl_ca_certs={authority.file}"
        fleet = Fleet(folder=folder, address=address, redis=redis_server)
        host = fleet.host(QUANTFLEET_BROKER=over)
        try:
            yield measure(fleet, host, redis_server, folder / "evil")
        finally:
            fleet.end()


def measure(fleet: Fleet, host: Host, redis: services.Redis, evil: Path) -> Seen:
    host.start().serving()
    with fleet.database() as db:
        platform_key = queries.hosts(db)[0].platform.key
    for name in broker.queues_of(platform_key, host.name):
        redis.client().lpush(name, *evil_messages(evil))
    fleet.submit(budget=dataclasses.replace(LONG, max_seconds=4))
    fleet.wait_measuring()
    seen = {**told(descendants(host)), "encrypted": sessions(fleet)}
    fleet.wait_done()
    queues = broker.queues_of(platform_key, host.name)
    services.wait_for(lambda: not any(redis.client().llen(name) for name in queues), 30, "queues that are empty")
    restarts = host.log.count("serving as") - 1
    return Seen(jobs=fleet.jobs(), log=host.log, folder=fleet.folder, evil=evil, restarts=restarts, **seen)  # type: ignore[arg-type]


def told(family: Iterable[psutil.Process]) -> dict[str, object]:
    """Command lines, and what measured processes have in their environment; one may end while it is asked."""
    lines: dict[int, list[str]] = {}
    environs: dict[int, dict[str, str]] = {}
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # zombies, too
            line = one.cmdline()
            if "worker.child" in " ".join(line):
                environs[one.pid] = one.environ()
            lines[one.pid] = line
    return {"lines": lines, "environs": environs}


def descendants(host: Host) -> list[psutil.Process]:
    assert host.process is not None
    launcher = psutil.Process(host.process.pid)
    return [launcher, *launcher.children(recursive=True)]


def sessions(fleet: Fleet) -> list[bool]:
    """Whether this test's own session is encrypted; the host has the same address."""
    with fleet.database() as db, db.read() as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        return [bool(driver.pgconn.ssl_in_use)]


def test_a_job_is_measured_over_tls_on_both_links(seen: Seen) -> None:
    assert [(job.state, job.attempts, job.crashes) for job in seen.jobs] == [("done", 1, 0)]
    assert seen.encrypted == [True]


def test_no_command_line_holds_a_password(seen: Seen) -> None:
    assert len(seen.lines) >= 4  # launcher, worker, supervisor, nursery and what it measures
    text = "\n".join(" ".join(line) for line in seen.lines.values())
    assert "worker.launcher" in text
    assert "worker.child" in text
    assert not any(secret in text for secret in SECRETS), text


def test_what_is_measured_knows_neither_password_nor_address(seen: Seen) -> None:
    assert seen.environs
    for environ in seen.environs.values():
        assert "PATH" in environ
        text = "\n".join(f"{name}={value}" for name, value in environ.items())
        assert not any(secret in text for secret in SECRETS), text
        assert not any(name.startswith("QUANTFLEET_") and "://" in value for name, value in environ.items())


def test_no_log_and_no_file_holds_a_password(seen: Seen) -> None:
    assert "serving as" in seen.log
    for file in seen.folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(secret.encode() in content for secret in SECRETS), file


def test_evil_messages_are_dropped_and_told(seen: Seen) -> None:
    assert not seen.evil.exists()
    assert "message dropped: not a message of quantfleet" in seen.log
    assert "message dropped: it is no JSON" in seen.log
    assert "job no-such-job: nothing to do" in seen.log
    assert "Traceback" not in seen.log


def test_evil_messages_do_not_end_the_worker(seen: Seen) -> None:
    assert seen.restarts == 0, seen.log
