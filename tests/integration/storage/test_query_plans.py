"""What a reconciler and a worker ask all the time costs by what waits, not by what was ever measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
import sqlalchemy.event

from storage import database, lifecycle, outbox, settings, tables
from storage.database import Database
from tests.integration.storage import fleet
from tests.sql import heard, plan

DONE, WAITING = 20_000, 50


@pytest.fixture
def full(address: str) -> Iterator[Database]:
    """Many finished jobs, and some of each kind that wait, run, or were declined."""
    with Database.open(address) as db:
        fleet.register(db)
        jobs = [fleet.planned(("A", "B", fleet.ANY)[n % 3], replica=n) for n in range(WAITING)]
        ids = fleet.submit(db, *jobs, fleet.planned("A", "a2"), fleet.planned(fleet.ANY, replica=WAITING))
        outbox.mark_published(db, ids[::2])
        fleet.claim(db, ids[0])
        lifecycle.decline(db, fleet.claim(db, ids[-1]), "no")
        multiply(db, ids[0])
        fleet.pass_time(db, outbox.LOST_S + 1)
    if address.startswith("postgresql"):
        engine = sa.create_engine(database.parse(address), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        engine.dispose()
    with Database.open(address) as db:
        yield db


def multiply(db: Database, job_id: str) -> None:
    """Copy a job, as done, many times."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
    with db.transaction() as connection:
        for table, key in ((tables.job, "id"), (tables.attempt, "job_id")):
            names = [column.name for column in table.c]
            changed = {key: "'d' || n.i", "key": "'d' || n.i", "state": "'done'", "lease_until_at": "NULL"}
            columns = ", ".join(f'"{name}"' for name in names)
            values = ", ".join(changed.get(name, f'"{name}"') for name in names)
            copy = (
                f"INSERT INTO {table.name} ({columns}) {numbers} SELECT {values} FROM n, {table.name} WHERE {key} = :id"  # noqa: S608
            )
            connection.execute(sa.text(copy), {"count": DONE, "id": job_id})
        link = f"INSERT INTO job_after (job_id, after_id) {numbers} SELECT 'd' || n.i, 'd1' FROM n"  # noqa: S608
        connection.execute(sa.text(link), {"count": DONE})


def asked() -> dict[str, Callable[[Database], object]]:
    route = outbox.Route(platform_key=fleet.key("A"), wanted_host=None)
    anywhere = outbox.Route(platform_key=fleet.ANY, wanted_host=None)
    config = settings.Settings()
    return {
        "unpublished": outbox.unpublished,
        "silent_routes": lambda db: outbox.silent_routes(db, 30.0),
        "silent": lambda db: outbox.silent(db, route, 30.0),
        "silent, declined": lambda db: outbox.silent(db, anywhere, 30.0),
        "expire": lifecycle.expire,
        "adopt": lambda db: lifecycle.adopt(db, "a2"),
        "claim": lambda db: fleet.try_claim(db, outbox.unpublished(db)[0].job_id),
        "tick": lambda db: outbox.tick(db, fleet.Queues(), "a1", config),
    }


@pytest.mark.slow
def test_no_question_of_the_reconciler_reads_every_job(full: Database) -> None:
    assert reads_all(plan(full, "SELECT id FROM job WHERE message = 'x'", ()))  # what is looked for, seen once
    for name, ask in asked().items():
        with heard(full) as said:
            ask(full)
        questions = [(statement, given) for statement, given in said if statement.startswith(("SELECT", "UPDATE"))]
        assert questions, name
        for statement, given in questions:
            how = plan(full, statement, given)
            assert not reads_all(how), f"{name}: {statement}\n{how}"


def reads_all(how: str) -> bool:
    return any(sign in how for sign in ("Seq Scan on job", "SCAN job", "Seq Scan on attempt", "SCAN attempt"))
