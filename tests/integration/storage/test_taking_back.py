"""When a job is taken from its worker, and what the worker's late answer is then worth."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from storage import errors, hosts, lifecycle, outbox, queries, records, settings, tables
from storage.database import Database
from tests import builders
from tests.integration.storage import fleet

CONFIG = settings.Settings(reconcile=15.0, lease=60.0)
CRASH = records.Failure(reason="crash", message="killed", signal=9)


def results(db: Database) -> list[int | None]:
    return [result.pairs for result in queries.results(db, states="done")]


def tick(db: Database, holder: str = "a1") -> bool:
    return outbox.tick(db, fleet.Queues(), holder, CONFIG)


def serve(db: Database, seconds: float) -> None:
    """Let time pass with a reconciler on duty."""
    for _ in range(round(seconds / CONFIG.reconcile)):
        fleet.pass_time(db, CONFIG.reconcile)
        tick(db)


# what a late answer is worth


def test_a_late_result_counts_while_nobody_has_claimed_the_job_since(db: Database) -> None:
    (job_id,) = fleet.submit(db)
    mine = fleet.claim(db, job_id, lease=0)
    assert lifecycle.expire(db) == [job_id]
    assert lifecycle.finish(db, mine, builders.latency(pairs=7), [builders.leg()])
    job = fleet.view(db, job_id)
    assert (job.state, job.message, results(db), fleet.tries(db, job_id)) == ("done", None, [7], ["done"])
    assert fleet.try_claim(db, job_id) is None  # the wake-up of the second try finds nothing to do
    assert lifecycle.finish(db, mine, builders.latency(pairs=8))  # a spool replayed twice
    assert results(db) == [7]


def test_a_late_result_does_not_count_once_somebody_has_claimed_the_job_whatever_became_of_that(db: Database) -> None:
    (job_id,) = fleet.submit(db)
    slow = fleet.claim(db, job_id, lease=0)
    lifecycle.expire(db)
    second = fleet.claim(db, job_id, "a2")
    assert not lifecycle.finish(db, slow, builders.latency())
    lifecycle.release(db, second)
    assert not lifecycle.finish(db, slow, builders.latency())
    assert (results(db), fleet.view(db, job_id).state) == ([], "queued")
    assert lifecycle.finish(db, second, builders.latency(pairs=9))  # it holds the newest token
    assert results(db) == [9]


@pytest.mark.parametrize("ended", ["cancelled", "dead", "failed", "unsupported"])
def test_a_late_result_does_not_wake_what_has_ended(db: Database, ended: str) -> None:
    (job_id,) = fleet.submit(db)
    if ended == "dead":
        lifecycle.fail(db, fleet.claim(db, job_id), CRASH)
    mine = fleet.claim(db, job_id, lease=0)
    if ended in ("cancelled", "dead"):
        lifecycle.expire(db)
        lifecycle.cancel(db, [job_id])
    else:
        reason = "error" if ended == "failed" else "unsupported"
        lifecycle.fail(db, mine, records.Failure(reason=reason, message="why"), final=True)  # type: ignore[arg-type]
    assert not lifecycle.finish(db, mine, builders.latency(pairs=7))
    assert (fleet.view(db, job_id).state, results(db)) == (ended, [])
    assert fleet.tries(db, job_id)[-1] == "superseded"


def test_the_document_of_a_superseded_result_is_kept_with_its_attempt(db: Database) -> None:
    (job_id,) = fleet.submit(db)
    slow = fleet.claim(db, job_id, lease=0)
    lifecycle.expire(db)
    fleet.claim(db, job_id, "a2")
    lifecycle.finish(db, slow, builders.latency(pairs=77), [builders.leg()])
    with db.read() as connection:
        kept = connection.execute(sa.select(tables.attempt.c.document).order_by(tables.attempt.c.token)).scalars().all()
        legs = connection.execute(sa.select(sa.func.count()).select_from(tables.sample)).scalar_one()
    assert kept[0]["pairs"] == 77
    assert (kept[1], legs) == (None, 0)


# the reaper's rest


def test_after_a_gap_nobody_takes_jobs_back_until_every_worker_had_the_time_to_renew(db: Database) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db)
    mine = fleet.claim(db, job_id)
    fleet.pass_time(db, 120)  # the database was away: every lease has run out, every worker is well
    assert tick(db)
    assert fleet.try_claim(db, job_id, "a2") is None
    serve(db, 45)
    assert fleet.try_claim(db, job_id, "a2") is None
    assert fleet.view(db, job_id).state == "running"
    lifecycle.renew(db, mine, lease=60)  # the worker could reach the database again at last
    serve(db, 45)
    assert (fleet.view(db, job_id).state, fleet.view(db, job_id).crashes) == ("running", 0)
    assert lifecycle.finish(db, mine, builders.latency())


def test_a_job_whose_worker_is_gone_is_taken_back_once_the_duty_was_steady_for_a_lease(db: Database) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db)
    mine = fleet.claim(db, job_id)
    fleet.pass_time(db, 120)
    tick(db)
    serve(db, 75)
    assert (fleet.view(db, job_id).state, fleet.view(db, job_id).crashes) == ("queued", 1)
    with pytest.raises(errors.LeaseLost):
        lifecycle.renew(db, mine, lease=60)


def test_a_job_is_taken_back_soon_after_its_lease_when_somebody_was_on_duty(db: Database) -> None:
    fleet.register(db)
    tick(db)
    serve(db, 90)
    (job_id,) = fleet.submit(db)
    fleet.claim(db, job_id)
    serve(db, 45)
    assert fleet.view(db, job_id).state == "running"
    serve(db, 30)
    assert fleet.view(db, job_id).state == "queued"


def test_the_death_of_the_host_on_duty_does_not_keep_its_job_for_long(db: Database) -> None:
    fleet.register(db)
    tick(db, "a1")
    serve(db, 90)
    (job_id,) = fleet.submit(db)
    fleet.claim(db, job_id, "a1")
    waited = 0.0
    while fleet.view(db, job_id).state == "running":  # a1 is dead; only a2 ticks from now on
        fleet.pass_time(db, CONFIG.reconcile)
        waited += CONFIG.reconcile
        tick(db, "a2")
    assert waited <= CONFIG.lease + 2 * CONFIG.reconcile


def test_a_claim_takes_over_from_a_dead_worker_when_somebody_was_on_duty(db: Database) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db)
    tick(db)
    serve(db, 90)
    dead = fleet.claim(db, job_id, lease=0)
    taken = fleet.claim(db, job_id, "a2")
    assert taken.token == dead.token + 1
    assert fleet.view(db, job_id).crashes == 1
    assert fleet.tries(db, job_id) == ["expired", "running"]


def test_a_claim_from_a_host_that_the_job_is_not_for_takes_it_back_and_gets_nothing(db: Database) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db, fleet.planned("A", "a1"))
    tick(db)
    serve(db, 90)
    fleet.claim(db, job_id, lease=0)
    assert fleet.try_claim(db, job_id, "a2") is None
    assert fleet.view(db, job_id).state == "queued"


def test_a_host_unseen_for_long_finds_its_jobs_waiting_when_it_returns(db: Database) -> None:
    fleet.register(db)
    jobs = fleet.submit(db, fleet.planned("C"), fleet.planned("C", "c1"))
    queue = fleet.Queues()
    for _ in range(40):
        fleet.pass_time(db, 3600)
        for host in ("a1", "b1"):
            hosts.seen(db, host)
        outbox.tick(db, queue, "a1", CONFIG)
    assert queue.contents == {f"platform.{fleet.key('C')}": [jobs[0]], "host.c1": [jobs[1]]}
    hosts.seen(db, "c1")
    for job_id in jobs:
        assert lifecycle.finish(db, fleet.claim(db, job_id, "c1"), builders.latency())
