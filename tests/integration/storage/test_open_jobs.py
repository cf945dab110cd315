"""What is asked all the time goes by indexes that hold no job that has ended, on both databases.

Quick, for it looks at plans of an almost empty database; that nothing reads all of a full one is shown in
`test_query_plans`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from storage import hosts, leadership, lifecycle, noop, outbox, queries, records, tables
from storage.database import Database
from tests import builders
from tests.integration.storage import fleet
from tests.sql import exchanges, heard

Ask = Callable[[Database, records.Claim], object]

ROUTE = outbox.Route(platform_key=fleet.key("A"), wanted_host=None)

ASKED: dict[str, tuple[Ask, str]] = {
    "wake-ups to send": (lambda db, _: outbox.unpublished(db), "ix_job_due"),
    "wake-ups unanswered": (lambda db, _: outbox.silent_routes(db, 30.0), "ix_job_waiting"),
    "wake-ups unanswered, of one queue": (lambda db, _: outbox.silent(db, ROUTE, 30.0), "ix_job_"),
    "leases that ran out": (lambda db, _: lifecycle.expire(db), "ix_job_running"),
    "orphans of a host": (lambda db, _: lifecycle.adopt(db, "a2"), "ix_job_running"),
    "running jobs": (lambda db, _: queries.jobs(db, states="running"), "ix_job_running"),
    "jobs that ended lately": (lambda db, _: queries.jobs(db, ended_after=1e9), "ix_job_finished_at"),
    "heartbeat": (lambda db, claim: lifecycle.renew(db, claim, lease=60.0), "KEY"),
    "heartbeat that tells": (lambda db, claim: lifecycle.renew(db, claim, lease=60.0, progress={}), "KEY"),
    "claim": (lambda db, claim: fleet.try_claim(db, outbox.unpublished(db)[0].job_id), "KEY"),
    "result": (lambda db, claim: lifecycle.finish(db, claim, noop.NoopMeasurement()), "KEY"),
}

KEYS = {"sqlite": "sqlite_autoindex_job_1", "postgresql": "pk_job"}


@pytest.fixture
def claimed(db: Database) -> records.Claim:
    """The first of three jobs, with a host that works on it."""
    fleet.register(db)
    first, *_ = fleet.submit(db, *(fleet.planned(replica=n) for n in range(3)))
    return fleet.claim(db, first)


def plans(db: Database, ask: Callable[[], object]) -> dict[str, str]:
    """The plan of each statement about jobs; Postgres is told to use an index if it has any that fits."""
    with heard(db) as said:
        ask()
    explain = "EXPLAIN QUERY PLAN " if db.dialect == "sqlite" else "EXPLAIN "
    found: dict[str, str] = {}
    with db.transaction() as connection:
        if db.dialect == "postgresql":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        for statement, given in said:
            if " job" in statement and statement.startswith(("SELECT", "UPDATE job", "WITH")):
                lines = connection.exec_driver_sql(explain + statement, given)
                found[statement] = "\n".join(str(row[-1]) for row in lines)
    return found


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_all_the_time_goes_by_an_index(db: Database, claimed: records.Claim, name: str) -> None:
    ask, index = ASKED[name]
    index = KEYS[db.dialect] if index == "KEY" else index

    found = plans(db, lambda: ask(db, claimed))

    assert any(index in how for how in found.values()), found
    assert not any("Seq Scan on job " in how for how in found.values()), found


def test_a_heartbeat_changes_no_index() -> None:
    """Postgres then writes one row and nothing else (a heap-only tuple)."""
    told = {"lease_until_at", "progress"}
    for index in tables.job.indexes:
        condition = str(index.dialect_options["postgresql"]["where"])
        assert not told & {column.name for column in index.columns}, index.name
        assert not any(name in condition for name in told), index.name


def test_a_heartbeat_and_a_result_wait_for_postgres_once_and_a_claim_for_its_commit_too(postgres: str) -> None:
    with Database.open(postgres) as db:
        fleet.register(db)
        first, other = fleet.submit(db, fleet.planned(replica=0), fleet.planned(replica=1))
        claims: list[records.Claim] = []
        costs = {
            "claim": exchanges(db, lambda: claims.append(fleet.claim(db, first))),
            "heartbeat": exchanges(db, lambda: lifecycle.renew(db, claims[0], lease=60.0)),
            "heartbeat that tells": exchanges(db, lambda: lifecycle.renew(db, claims[0], lease=60.0, progress={})),
            "result": exchanges(db, lambda: lifecycle.finish(db, claims[0], noop.NoopMeasurement())),
        }
        last = fleet.claim(db, other)
        legs = [builders.leg()]
        with_samples = exchanges(db, lambda: lifecycle.finish(db, last, builders.latency(), legs))
    assert costs.pop("claim") == 3, "BEGIN, the claim, COMMIT"
    assert set(costs.values()) == {1}, costs
    assert with_samples > 1, "BEGIN and COMMIT around two tables' rows: the trace does count"


def test_a_claim_costs_sqlite_two_statements_and_a_result_three(sqlite: str) -> None:
    with Database.open(sqlite) as db:
        fleet.register(db)
        (job_id,) = fleet.submit(db)
        with heard(db) as claiming:
            mine = fleet.claim(db, job_id)
        with heard(db) as storing:
            assert lifecycle.finish(db, mine, noop.NoopMeasurement())
    words = [[" ".join(statement.split()[:2]) for statement, _ in said] for said in (claiming, storing)]
    begun = "BEGIN IMMEDIATE"
    assert words == [[begun, "UPDATE job", "INSERT INTO"], [begun, "UPDATE job", "UPDATE attempt", "INSERT INTO"]]


def test_jobs_are_taken_over_by_whoever_claims_them_after_a_dead_worker(db: Database, claimed: records.Claim) -> None:
    hosts.register(db, name="a2", platform=fleet.PLATFORMS["A"])
    leadership.hold(db, "somebody", every=15.0)
    with db.transaction() as connection:
        connection.execute(sa.update(tables.leader).values(steady_since_at=tables.now() - 3600.0))
        connection.execute(sa.update(tables.job).values(lease_until_at=tables.now() - 1.0))

    taken = fleet.claim(db, claimed.job_id, "a2")

    assert (taken.token, taken.attempt) == (claimed.token + 1, 2)
    assert fleet.tries(db, claimed.job_id) == ["expired", "running"]
