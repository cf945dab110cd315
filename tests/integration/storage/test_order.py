"""Jobs that wait for others: nobody wakes or claims them before, and nothing keeps them waiting for ever."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import sqlalchemy as sa

from storage import lifecycle, outbox, records, tables
from storage.database import Database
from tests import builders
from tests.integration.storage import fleet


def chain(length: int) -> list[records.PlannedJob]:
    """Jobs of which each waits for the one before."""
    jobs = [fleet.planned("A", replica=number) for number in range(length)]
    return [
        jobs[0],
        *(dataclasses.replace(job, after=(before.key,)) for before, job in itertools.pairwise(jobs)),
    ]


def awake(db: Database) -> list[str]:
    return [due.job_id for due in outbox.unpublished(db)]


def test_a_job_that_waits_is_neither_published_nor_claimed_until_the_other_is_done(db: Database) -> None:
    fleet.register(db)
    first, second, third = fleet.submit(db, *chain(3))

    assert awake(db) == [first]
    assert fleet.try_claim(db, second) is None

    running = fleet.claim(db, first)
    assert fleet.try_claim(db, second) is None, "the other one is only running"
    assert lifecycle.finish(db, running, builders.latency())

    assert awake(db) == [second]
    assert fleet.try_claim(db, third) is None
    assert fleet.try_claim(db, second) is not None


@pytest.mark.parametrize("end", ["failed", "cancelled", "unsupported", "dead"])
def test_however_the_other_ends_the_job_runs_and_finds_out_for_itself(db: Database, end: str) -> None:
    fleet.register(db)
    first, second = fleet.submit(db, *chain(2))
    with db.transaction() as connection:
        connection.execute(sa.update(tables.job).where(tables.job.c.id == first).values(state=end))

    assert awake(db) == [second]
    assert fleet.try_claim(db, second) is not None


def test_the_lost_wake_up_of_a_waiting_job_is_not_looked_for(db: Database) -> None:
    fleet.register(db)
    first, second = fleet.submit(db, *chain(2))
    outbox.mark_published(db, [first, second])
    fleet.claim(db, first)
    fleet.pass_time(db, outbox.LOST_S + 1)

    assert outbox.silent_routes(db, outbox.LOST_S) == []


def test_what_was_prepared_for_another_study_is_waited_for_too_and_done_at_once(db: Database) -> None:
    fleet.register(db)
    first, second = chain(2)
    (known,) = fleet.submit(db, first)
    lifecycle.finish(db, fleet.claim(db, known), builders.latency())

    (new,) = fleet.submit(db, first, second)

    assert awake(db) == [new]


def test_a_key_that_nobody_planned_keeps_nobody_waiting(db: Database) -> None:
    fleet.register(db)
    (only,) = fleet.submit(db, dataclasses.replace(fleet.planned("A"), after=("0000000000000000",)))

    assert awake(db) == [only]


def test_retrying_the_first_makes_the_second_wait_again(db: Database) -> None:
    fleet.register(db)
    first, second = fleet.submit(db, *chain(2))
    failure = records.Failure(reason="error", message="no space")
    assert lifecycle.fail(db, fleet.claim(db, first), failure, final=True) == "failed"
    assert fleet.try_claim(db, second) is not None
    lifecycle.adopt(db, "a1")

    lifecycle.retry(db, [first])

    assert awake(db) == [first]
    assert fleet.try_claim(db, second) is None
