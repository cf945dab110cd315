"""A claim and a result change several tables or none, also where all of it is one statement (Postgres)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
import sqlalchemy.exc

from storage import errors, lifecycle, noop, outbox, queries, records, tables
from storage.database import Database
from tests import builders
from tests.integration.storage import fleet

RESULT = noop.NoopMeasurement()


@pytest.fixture
def job_id(db: Database) -> str:
    fleet.register(db)
    return fleet.submit(db)[0]


def insert(db: Database, table: sa.Table, **values: Any) -> None:
    """A row behind quantfleet's back."""
    with db.transaction() as connection:
        connection.execute(sa.insert(table).values(values))


def row_in_the_way(db: Database, job_id: str, token: int) -> None:
    who = {"job_id": job_id, "token": token, "host": "a1", "platform_key": fleet.key("A")}
    insert(db, tables.result, **who, finished_at=0.0, flags=[], notes=[], document={})


def test_a_claim_whose_attempt_cannot_be_noted_takes_nothing(db: Database, job_id: str) -> None:
    who = {"job_id": job_id, "token": 1, "host": "a1", "platform_key": fleet.key("A")}
    insert(db, tables.attempt, **who, number=1, state="expired", started_at=0.0)

    with pytest.raises(sqlalchemy.exc.IntegrityError):
        fleet.claim(db, job_id)

    now = fleet.view(db, job_id)
    assert (now.state, now.attempts, fleet.tries(db, job_id)) == ("queued", 0, ["expired"])


def test_a_claim_that_gets_nothing_notes_no_attempt(db: Database, job_id: str) -> None:
    fleet.claim(db, job_id)

    assert fleet.try_claim(db, job_id, "a2") is None

    assert (fleet.view(db, job_id).attempts, fleet.tries(db, job_id)) == (1, ["running"])


@pytest.mark.parametrize("legs", [[], [builders.leg()]], ids=["no samples", "samples"])
def test_a_result_that_cannot_be_stored_ends_nothing(db: Database, job_id: str, legs: list[records.Leg]) -> None:
    mine = fleet.claim(db, job_id)
    row_in_the_way(db, job_id, token=7)

    with pytest.raises(sqlalchemy.exc.IntegrityError):
        lifecycle.finish(db, mine, builders.latency(), legs)

    assert (fleet.view(db, job_id).state, fleet.tries(db, job_id)) == ("running", ["running"])
    lifecycle.renew(db, mine, lease=60.0)  # the connection is usable, and the job its own


def test_samples_that_cannot_be_stored_take_their_result_with_them(db: Database, job_id: str) -> None:
    mine = fleet.claim(db, job_id)
    broken = builders.leg(side=None)

    with pytest.raises(sqlalchemy.exc.IntegrityError):
        lifecycle.finish(db, mine, builders.latency(), [broken])

    assert (fleet.view(db, job_id).state, fleet.tries(db, job_id)) == ("running", ["running"])
    assert queries.results(db) == []


def test_a_result_that_waits_for_whoever_takes_its_job_back_ends_the_attempt_all_the_same(
    db: Database, job_id: str
) -> None:
    """The one statement began before the other's end: it must not go by what it saw of the attempt then."""
    mine = fleet.claim(db, job_id)
    fleet.pass_time(db, 3600.0, tables.job)
    with ThreadPoolExecutor(1) as pool:
        with db.transaction() as connection:
            assert lifecycle._expire(connection, sa.true()) == [job_id]
            storing = pool.submit(lifecycle.finish, db, mine, RESULT)
            time.sleep(0.5)
            assert not storing.done()
        assert storing.result()

    assert (fleet.view(db, job_id).state, fleet.tries(db, job_id)) == ("done", ["done"])


def test_a_claim_that_waits_for_another_gets_nothing_when_that_one_commits(db: Database, job_id: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        with db.transaction() as connection:
            connection.execute(sa.update(tables.job).values(state="running", token=1))
            claiming = pool.submit(fleet.try_claim, db, job_id)
            time.sleep(0.5)
            assert not claiming.done()
        assert claiming.result() is None

    assert fleet.tries(db, job_id) == []


def test_who_opened_a_database_for_reading_can_neither_claim_nor_finish(
    address: str, db: Database, job_id: str
) -> None:
    mine = fleet.claim(db, job_id)
    (other,) = fleet.submit(db, fleet.planned(replica=1))
    with Database.open(address, readonly=True) as reader:
        with pytest.raises(errors.DatabaseReadOnly):
            fleet.try_claim(reader, other)
        with pytest.raises(errors.DatabaseReadOnly):
            lifecycle.finish(reader, mine, RESULT)
    assert [each.job_id for each in outbox.unpublished(db)] == [other]
    assert fleet.view(db, job_id).state == "running"
