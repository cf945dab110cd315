"""A small fleet in a database: hosts of unlike platforms, jobs for them, a queue in memory, and time that passes."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
import sqlalchemy.event

from storage import broker, errors, hosts, keys, lifecycle, queries, records, tables
from storage.database import Database
from tests import builders

PLATFORMS = {name: builders.platform(cpu=f"CPU {name}") for name in ("A", "B", "C")}
HOSTS = {"a1": "A", "a2": "A", "b1": "B", "c1": "C"}
"""Host → platform."""

ANY = records.ANY_PLATFORM


def key(platform: str) -> str:
    """The key of a platform by its letter; "any" stays what it is."""
    return ANY if platform == ANY else PLATFORMS[platform].key


def register(db: Database, *names: str) -> None:
    for name in names or HOSTS:
        hosts.register(db, name=name, platform=PLATFORMS[HOSTS[name]])


def planned(platform: str = "A", wanted_host: str | None = None, replica: int = 0) -> records.PlannedJob:
    job = builders.planned(platform_key=key(platform), replica=replica)
    job_key = keys.job_key(job.case, job.platform_key, replica, wanted_host)
    return dataclasses.replace(job, key=job_key, wanted_host=wanted_host)


def submit(db: Database, *jobs: records.PlannedJob) -> list[str]:
    study = lifecycle.StudyText(name="study", text="text")
    return list(lifecycle.submit(db, study=study, jobs=jobs or [planned()]).new)


def try_claim(db: Database, job_id: str, host: str = "a1", *, lease: float = 60.0) -> records.Claim | None:
    return lifecycle.claim(db, job_id, host=host, platform_key=key(HOSTS[host]), lease=lease)


def claim(db: Database, job_id: str, host: str = "a1", *, lease: float = 60.0) -> records.Claim:
    got = try_claim(db, job_id, host, lease=lease)
    assert got is not None
    return got


def view(db: Database, job_id: str) -> queries.JobView:
    return next(job for job in queries.jobs(db) if job.id == job_id)


def tries(db: Database, job_id: str) -> list[str]:
    return [attempt.state for attempt in queries.attempts(db, job_id)]


def pass_time(db: Database, seconds: float, *tables_: sa.Table) -> None:
    """Let so many seconds go by for jobs, hosts and the reconciler's duty, or only for some of these tables."""
    with db.transaction() as connection:
        for table in tables_ or (tables.job, tables.host, tables.leader):
            earlier: dict[str, Any] = {c.name: c - seconds for c in table.c if c.name.endswith("_at")}
            connection.execute(sa.update(table).values(earlier))


def hurry(db: Database) -> None:
    """Let a SQLite database trust its disk's cache: nobody cuts the power of a test."""
    if db.dialect == "sqlite":
        sqlalchemy.event.listen(db._engine, "connect", lambda driver, _: driver.execute("PRAGMA synchronous = OFF"))
        db.close()  # connections are opened anew


class Queues(broker.Publisher):
    """The broker in memory; it can be lost, and stop answering after so many more messages."""

    def __init__(self) -> None:
        self.held: dict[str, list[str]] = defaultdict(list)
        self.accepts: int | None = None
        self.published = 0

    def publish(self, job_id: str, queue: str) -> None:
        self._answer()
        if self.accepts is not None:
            self.accepts -= 1
        self.held[queue].append(job_id)
        self.published += 1

    def publish_all(self, wake_ups: Sequence[tuple[str, str]]) -> Iterator[Sequence[str]]:
        for job_id, queue in wake_ups:
            self.publish(job_id, queue)
            yield [job_id]

    def waiting(self, queue: str) -> int:
        self._answer()
        return len(self.held[queue])

    def empty(self, queues: Iterable[str]) -> frozenset[str]:
        return frozenset(queue for queue in queues if not self.waiting(queue))

    def purge(self, queue: str) -> None:
        self.held[queue].clear()

    def close(self) -> None:
        pass

    def lose(self) -> None:
        """The broker comes back empty."""
        self.held.clear()

    @property
    def contents(self) -> dict[str, list[str]]:
        """What waits where."""
        return {queue: list(held) for queue, held in self.held.items() if held}

    def _answer(self) -> None:
        if self.accepts == 0:
            raise errors.Unreachable("the broker in memory does not answer")
