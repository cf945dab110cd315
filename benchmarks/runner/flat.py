"""What a fleet asks all the time, while finished jobs pile up: milliseconds on both databases, and the query plans."""

from __future__ import annotations

import argparse
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa
import sqlalchemy.event

from benchmarks import common
from benchmarks.runner import servers
from storage import database, hosts, lifecycle, noop, outbox, queries, records, settings, tables
from storage.database import Database
from tests import builders
from tests.sql import heard, plan

OPEN, TIMES = 200, 30
"""Jobs that wait while the rest is finished, and how often each step is timed."""

HERE = builders.platform()

Step = Callable[[], object]


class Silent:
    """A broker that takes everything, and in which something always waits: only the database is timed."""

    def publish_all(self, wake_ups: list[tuple[str, str]]) -> Iterator[list[str]]:
        """Take them."""
        yield [job_id for job_id, _ in wake_ups]

    def empty(self, queues: object) -> frozenset[str]:
        """None is."""
        return frozenset()


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--finished", type=int, nargs="+", default=[0, 10_000], help="finished jobs, one row each")
    parser.add_argument("--plans", action="store_true", help="print the query plans of the last row, too")


def run(asked: argparse.Namespace) -> None:
    """Print a row for each number of finished jobs on each database."""
    with servers.running() as running, common.scratch() as folder:
        for kind in ("sqlite", "postgresql"):
            for at, count in enumerate(asked.finished):
                address = _address(running, folder, kind, at)
                plans = asked.plans and at == len(asked.finished) - 1
                _row(address, kind, count, head=at == 0, plans=plans)


def _address(running: servers.Servers, folder: Path, kind: str, at: int) -> str:
    if kind == "postgresql":
        return running.make_database(f"flat{at}")
    address = f"sqlite:///{folder / f'{at}.db'}"
    database.upgrade(address)
    return address


def _row(address: str, kind: str, count: int, *, head: bool, plans: bool) -> None:
    with Database.open(address) as db:
        hosts.register(db, name="a", platform=HERE)
        ids = lifecycle.submit(
            db, study=lifecycle.StudyText(name="s", text="s"), jobs=[noop.job(HERE.key, n) for n in range(OPEN)]
        ).new
        if count:
            _pile(db, ids[0], count)
        outbox.mark_published(db, ids[: OPEN // 2])
        _analyze(db, address)
        steps = _steps(db, list(ids))
        taken = {name: _milliseconds(step) for name, step in steps.items()}
        if head:
            print(f"\n| {kind}: finished | {' | '.join(taken)} |")
            print(f"| ---: |{' ---: |' * len(taken)}")
        print(f"| {count} | {' | '.join(f'{one:.2f} ms' for one in taken.values())} |", flush=True)
        if plans:
            waiting = queries.job_ids(db, [noop.job(HERE.key, n).key for n in range(OPEN)], "queued")
            _plans(db, _steps(db, waiting))


def _steps(db: Database, waiting: list[str]) -> Mapping[str, Step]:
    """What is timed: the reconciler's look and its parts, and what a job costs."""
    config = settings.Settings(lease=60.0)
    claims: list[records.Claim] = []

    def claim() -> None:
        got = lifecycle.claim(db, waiting.pop(), host="a", platform_key=HERE.key, lease=60.0)
        assert got is not None
        claims.append(got)

    return {
        "look (tick)": lambda: outbox.tick(db, Silent(), "a", config),  # type: ignore[arg-type]
        "expire": lambda: lifecycle.expire(db),
        "claim": claim,
        "heartbeat": lambda: lifecycle.renew(db, claims[-1], lease=60.0, progress={"phase": "measuring"}),
        "store": lambda: lifecycle.finish(db, claims.pop(), noop.NoopMeasurement()),
        "open jobs": lambda: queries.jobs(db, states="running"),
    }


def _milliseconds(step: Step) -> float:
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        step()
        taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken)


def _pile(db: Database, job_id: str, count: int) -> None:
    """Copy a job, as done, with its attempt and result, many times."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
    got = lifecycle.claim(db, job_id, host="a", platform_key=HERE.key, lease=60.0)
    assert got is not None
    lifecycle.finish(db, got, noop.NoopMeasurement())
    with db.transaction() as connection:
        for table, key in ((tables.job, "id"), (tables.attempt, "job_id"), (tables.result, "job_id")):
            columns = ", ".join(f'"{column.name}"' for column in table.c)
            changed = {key: "'d' || n.i", "key": "'d' || n.i"}
            values = ", ".join(changed.get(column.name, f'"{column.name}"') for column in table.c)
            source = f"FROM n, {table.name} WHERE {key} = :id"
            copy = sa.text(f"INSERT INTO {table.name} ({columns}) {numbers} SELECT {values} {source}")
            connection.execute(copy, {"count": count, "id": job_id})


def _analyze(db: Database, address: str) -> None:
    if db.dialect != "postgresql":
        return
    engine = sa.create_engine(database.parse(address), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()


def _plans(db: Database, steps: Mapping[str, Step]) -> None:
    for name, step in steps.items():
        with heard(db) as said:
            step()
        for statement, given in dict(said).items():
            if statement.startswith(("SELECT", "UPDATE", "WITH")):
                print(f"\n{db.dialect}, {name}: {' '.join(statement.split())[:160]} …")
                print(textwrap.indent(plan(db, statement, given), "    "))
