"""Redis and Postgres for a benchmark, with a migrated database, and the settings that reach them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage import database, settings
from storage.database import Database
from tests import services

DURABLE = {"fsync": "on", "synchronous_commit": "on", "max_connections": "200"}
"""The tests' servers forget what was not yet written when the power fails; a fleet's do not."""


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Both servers, running, and a folder of their user's."""

    folder: Path
    postgres: services.Postgres
    redis: services.Redis

    def make_database(self, name: str) -> str:
        """A migrated database; its address."""
        address = self.postgres.make_database(name)
        database.upgrade(address)
        return address

    def config(self, address: str, **given: object) -> settings.Settings:
        """Settings of a worker of this fleet."""
        cache = self.folder / "cache"
        return settings.Settings.model_validate(
            {"database": address, "broker": self.redis.address, "cache": cache, "noop": True, **given}
        )


@contextlib.contextmanager
def running() -> Iterator[Servers]:
    """Both servers, gone afterwards."""
    with services.folder() as folder:
        postgres = services.Postgres(folder=folder / "postgres", settings=dict(DURABLE))
        redis = services.Redis(folder=folder / "redis")
        with services.running(postgres), services.running(redis):
            yield Servers(folder=folder, postgres=postgres, redis=redis)


def commits(db: Database) -> int:
    """Transactions that a Postgres database has committed, as far as it has been told."""
    with db.read() as connection:
        query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.exec_driver_sql(query).scalar_one())
