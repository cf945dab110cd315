"""Servers for the fault suite: one Postgres for a pytest process, one Redis and one database for a test."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from storage import database
from storage.database import Database
from tests import services
from tests.faults.fleet import QUICK, Fleet, Host
from tests.faults.proxy import Proxy

TEMPLATE = "quantfleet_template"

MakeFleet = Callable[..., Fleet]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for leases and restarts gets more time than other tests; a machine may be busy."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def postgres_of_session() -> Iterator[services.Postgres]:
    with services.folder() as folder:
        server = services.Postgres(folder=folder / "postgres")
        with services.running(server):
            database.upgrade(server.make_database(TEMPLATE))
            yield server


@pytest.fixture
def postgres(postgres_of_session: services.Postgres) -> services.Postgres:
    """A running server, whatever the test before did to it."""
    if postgres_of_session.process is None:
        postgres_of_session.start()
    return postgres_of_session


@pytest.fixture
def redis() -> Iterator[services.Redis]:
    with services.folder() as folder:
        server = services.Redis(folder=folder / "redis")
        with services.running(server):
            yield server


@pytest.fixture
def make_fleet(tmp_path: Path, postgres: services.Postgres, redis: services.Redis) -> Iterator[MakeFleet]:
    """Makes a fleet without hosts; whatever becomes of the test, nothing of it stays."""
    with contextlib.ExitStack() as stack:

        def make(times: Mapping[str, float] = QUICK) -> Fleet:
            name = f"f_{uuid.uuid4().hex}"
            postgres.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
            address = postgres.address_of(name)
            made = Fleet(
                folder=tmp_path,
                redis=redis,
                postgres=postgres,
                database_address=address,
                to_redis=stack.enter_context(Proxy(redis)),
                to_postgres=stack.enter_context(Proxy(postgres)),
                db=stack.enter_context(Database.open(address)),
                times=times,
            )
            stack.callback(_end, made.hosts)
            return made

        yield make


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    """A quick fleet without hosts."""
    return make_fleet()


def _end(hosts: list[Host]) -> None:
    for host in hosts:
        host.kill()
