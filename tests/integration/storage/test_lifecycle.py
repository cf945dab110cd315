from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from storage import errors, hosts, leadership, lifecycle, outbox, queries, records, tables
from storage.database import Database
from tests import builders
from tests.sql import heard

PLATFORM = builders.platform()
CRASH = records.Failure(reason="crash", message="killed", signal=9, resident_peak_bytes=7_000_000_000)
ERROR = records.Failure(reason="error", message="no room", detail="Traceback …")


def submit(db: Database, count: int = 1, *, name: str = "study", text: str = "text") -> list[str]:
    jobs = [builders.planned(builders.case(threads=threads)) for threads in range(1, count + 1)]
    hosts.register(db, name="host", platform=PLATFORM)
    return list(lifecycle.submit(db, study=lifecycle.StudyText(name=name, text=text), jobs=jobs).new)


def claim(db: Database, job_id: str, *, lease: float = 60.0, host: str = "host") -> records.Claim:
    got = lifecycle.claim(db, job_id, host=host, platform_key=PLATFORM.key, lease=lease)
    assert got is not None
    return got


def view(db: Database, job_id: str) -> queries.JobView:
    return next(job for job in queries.jobs(db) if job.id == job_id)


def tries(db: Database, job_id: str) -> list[str]:
    return [attempt.state for attempt in queries.attempts(db, job_id)]


def due(db: Database, *, older_than: float) -> list[str]:
    """Ids of the jobs that a reconciler would look at."""
    silent = [each for route in outbox.silent_routes(db, older_than) for each in outbox.silent(db, route, older_than)]
    return [each.job_id for each in (*outbox.unpublished(db), *silent)]


def steady(db: Database, seconds: float = 3600.0) -> None:
    """A reconciler that has done its duty for so long without a gap."""
    assert leadership.hold(db, "somebody", every=15.0) is not None
    with db.transaction() as connection:
        connection.execute(sa.update(tables.leader).values(steady_since_at=tables.now() - seconds))


def past(db: Database, job_id: str, *columns: str) -> None:
    """Let an hour go by for some times of a job."""
    with db.transaction() as connection:
        values: dict[str, Any] = {name: tables.job.c[name] - 3600 for name in columns}
        connection.execute(sa.update(tables.job).where(tables.job.c.id == job_id).values(values))


def counts(db: Database) -> list[int]:
    with db.read() as connection:
        return [
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (tables.result, tables.sample, tables.prediction)
        ]


def test_a_job_goes_from_submission_to_result(db: Database) -> None:
    (job_id,) = submit(db)
    mine = claim(db, job_id)
    assert (mine.token, mine.attempt, mine.case, mine.budget.max_seconds) == (1, 1, builders.case(), 5.0)
    legs = [builders.leg(round=n, samples_ns=(2**40, 7), disturbed=("load",)) for n in range(3)]
    assert lifecycle.finish(db, mine, builders.latency(), legs)

    (result,) = queries.results(db)
    assert (result.state, result.gain, result.gain_low, result.gain_high) == ("done", 2.5, 2.4, 2.6)
    assert (result.latency_p50_s, result.baseline_latency_p50_s, result.latency_p99_s) == (0.004, 0.010, None)
    assert (result.resident_peak_bytes, result.artifact_bytes, result.prepare_s) == (5_000_000_000, 58_700_000, 1.5)
    assert (result.host, result.cpu, result.length, result.flags) == ("host", "AMD EPYC 9B14", 16, ("disturbed",))
    assert result.measurement() == builders.latency()
    assert queries.legs(db, job_id) == legs
    assert tries(db, job_id) == ["done"]


def test_submitting_again_with_another_budget_changes_waiting_jobs_only(db: Database) -> None:
    done, waiting = submit(db, 2)
    lifecycle.finish(db, claim(db, done), builders.latency())
    more = [
        dataclasses.replace(builders.planned(builders.case(threads=n)), budget=records.Budget(max_seconds=99.0))
        for n in (1, 2)
    ]

    again = lifecycle.submit(db, study=lifecycle.StudyText(name="study", text="more"), jobs=more)

    assert (again.new, again.existing) == ((), 2)
    assert claim(db, waiting).budget.max_seconds == 99.0
    with db.read() as connection:
        kept = connection.execute(sa.select(tables.job.c.budget_document).where(tables.job.c.id == done)).scalar_one()
    assert kept["max_seconds"] == 5.0


def test_submitting_again_writes_nothing_into_jobs_that_are_there(db: Database) -> None:
    ids = submit(db, 3)
    lifecycle.finish(db, claim(db, ids[0]), builders.latency(), [])
    with heard(db) as said:
        assert submit(db, 4) != ids
    changed = [given for statement, given in said if statement.startswith("INSERT INTO job ")]
    assert len(changed) == 1, "one statement for the one that was missing"
    with db.read() as connection:
        rows = connection.execute(sa.select(tables.job.c.state, tables.job.c.attempts).order_by(tables.job.c.threads))
        assert [tuple(row) for row in rows] == [("done", 1), ("queued", 0), ("queued", 0), ("queued", 0)]


def test_an_accuracy_job_keeps_its_answers_row_by_row(db: Database) -> None:
    job = builders.planned(builders.case("accuracy"))
    (job_id,) = lifecycle.submit(db, study=lifecycle.StudyText(name="s", text=""), jobs=[job]).new
    assert lifecycle.finish(db, claim(db, job_id), builders.accuracy((5, 1, 2), (5, 1, 1)), [])
    (result,) = queries.results(db, kind="accuracy")
    assert (result.correct, result.rows, result.gain, result.length) == (2, 3, None, None)
    assert result.accuracy == pytest.approx(2 / 3)
    assert "predictions" not in result.document
    assert queries.predictions(db, job_id) == queries.Predictions(predictions=(5, 1, 2), labels=(5, 1, 1))


def test_submitting_the_same_study_again_plans_nothing_new(db: Database) -> None:
    first = submit(db, 3)
    assert len(first) == 3
    lifecycle.finish(db, claim(db, first[0]), builders.latency(), [])
    again = lifecycle.submit(
        db,
        study=lifecycle.StudyText(name="study", text="text"),
        jobs=[builders.planned(builders.case(threads=threads)) for threads in (4, 1, 2, 3, 4)],
    )
    assert (len(again.new), again.existing) == (1, 3)
    assert [study.states for study in queries.studies(db)] == [{"done": 1, "queued": 3}]


def test_two_studies_share_a_job_that_both_plan(db: Database) -> None:
    (job_id,) = submit(db, name="first")
    assert submit(db, name="second", text="other") == []
    assert view(db, job_id).studies == ("first", "second")
    assert [job.id for job in queries.jobs(db, study="second")] == [job_id]
    assert queries.jobs(db, study="third") == []


def test_of_many_concurrent_claims_one_wins(db: Database) -> None:
    job_ids = submit(db, 5)
    start = threading.Barrier(8)

    def race(worker: int) -> list[records.Claim | None]:
        start.wait()
        return [
            lifecycle.claim(db, job_id, host=f"host{worker}", platform_key=PLATFORM.key, lease=60) for job_id in job_ids
        ]

    with ThreadPoolExecutor(8) as pool:
        winners: Sequence[Any] = [got for row in pool.map(race, range(8)) for got in row if got is not None]
    assert sorted(won.job_id for won in winners) == sorted(job_ids)
    assert {won.token for won in winners} == {1}


def test_a_claim_for_another_platform_or_an_unknown_job_gets_nothing(db: Database) -> None:
    (job_id,) = submit(db)
    assert lifecycle.claim(db, job_id, host="other", platform_key="elsewhere", lease=60) is None
    assert lifecycle.claim(db, "forged", host="host", platform_key=PLATFORM.key, lease=60) is None
    assert view(db, job_id).state == "queued"


def test_a_second_delivery_of_a_finished_job_changes_nothing(db: Database) -> None:
    (job_id,) = submit(db)
    mine = claim(db, job_id)
    assert lifecycle.finish(db, mine, builders.latency(), [builders.leg()])
    before = (view(db, job_id), queries.results(db), queries.attempts(db, job_id))
    assert lifecycle.claim(db, job_id, host="host", platform_key=PLATFORM.key, lease=60) is None
    assert lifecycle.finish(db, mine, builders.latency(pairs=99), [builders.leg()])  # a replayed spool
    assert lifecycle.fail(db, mine, CRASH) == "superseded"
    with pytest.raises(errors.LeaseLost):
        lifecycle.renew(db, mine, lease=60)
    assert (view(db, job_id), queries.results(db), queries.attempts(db, job_id)) == before
    assert counts(db) == [1, 1, 0]


def test_a_result_with_a_stale_token_is_kept_as_superseded_and_never_counted(db: Database) -> None:
    (job_id,) = submit(db)
    slow = claim(db, job_id, lease=0)
    assert lifecycle.claim(db, job_id, host="host", platform_key=PLATFORM.key, lease=60) is None  # nobody was on duty
    steady(db)
    quick = claim(db, job_id)  # takes over: the lease ran out
    assert quick.token > slow.token
    assert not lifecycle.finish(db, slow, builders.latency(pairs=77), [builders.leg()])
    assert (view(db, job_id).state, counts(db)) == ("running", [0, 0, 0])
    assert lifecycle.finish(db, quick, builders.latency(pairs=5), [builders.leg()])
    assert not lifecycle.finish(db, slow, builders.latency(pairs=78), [builders.leg()])
    assert [result.pairs for result in queries.results(db)] == [5]
    assert tries(db, job_id) == ["superseded", "done"]
    assert counts(db) == [1, 1, 0]


def test_a_lost_lease_returns_the_job_once_and_a_second_one_makes_it_dead(db: Database) -> None:
    (job_id,) = submit(db)
    lost = claim(db, job_id, lease=0)
    assert lifecycle.expire(db) == [job_id]
    assert lifecycle.expire(db) == []
    with pytest.raises(errors.LeaseLost):
        lifecycle.renew(db, lost, lease=60)
    claim(db, job_id, lease=0)
    assert not lifecycle.finish(db, lost, builders.latency(), [])  # somebody claimed it since
    assert lifecycle.expire(db) == [job_id]
    assert lifecycle.claim(db, job_id, host="host", platform_key=PLATFORM.key, lease=60) is None
    job = view(db, job_id)
    assert (job.state, job.crashes) == ("dead", 2)
    assert "died 2 times" in str(job.message)
    assert tries(db, job_id) == ["superseded", "expired"]


def test_a_renewed_lease_does_not_run_out(db: Database) -> None:
    (job_id,) = submit(db)
    mine = claim(db, job_id, lease=0)
    lifecycle.renew(db, mine, lease=60, progress={"pair": 2, "of": 5})
    assert lifecycle.expire(db) == []
    assert view(db, job_id).progress == {"pair": 2, "of": 5}


def test_two_deaths_make_a_job_dead_with_what_was_seen_of_them(db: Database) -> None:
    (job_id,) = submit(db)
    assert lifecycle.fail(db, claim(db, job_id), CRASH) == "queued"
    assert lifecycle.fail(db, claim(db, job_id), CRASH) == "dead"
    last = queries.attempts(db, job_id)[-1]
    assert (last.state, last.signal, last.resident_peak_bytes) == ("crash", 9, 7_000_000_000)
    (result,) = queries.results(db, states="dead")
    assert (result.message, result.gain, dict(result.document)) == ("died 2 times, at last: killed", None, {})


def test_errors_wait_longer_each_time_and_the_third_is_final(db: Database) -> None:
    (job_id,) = submit(db)
    waits = []
    for _ in range(2):
        assert lifecycle.fail(db, claim(db, job_id), ERROR) == "queued"
        job = view(db, job_id)
        assert job.claimed_at is not None
        waits.append(job.not_before_at - job.claimed_at)
        assert lifecycle.claim(db, job_id, host="host", platform_key=PLATFORM.key, lease=60) is None
        assert due(db, older_than=0) == []
        past(db, job_id, "not_before_at")
    assert waits == [pytest.approx(5, abs=1), pytest.approx(30, abs=1)]
    assert lifecycle.fail(db, claim(db, job_id), ERROR) == "failed"
    job = view(db, job_id)
    assert (job.message, job.detail, job.errors, job.crashes) == ("no room", "Traceback …", 3, 0)


@pytest.mark.parametrize(
    ("failure", "final", "state"),
    [
        (records.Failure(reason="unsupported", message="needs avx2"), False, "unsupported"),
        (records.Failure(reason="cancelled", message="taken back"), False, "cancelled"),
        (ERROR, True, "failed"),
    ],
)
def test_some_failures_end_a_job_at_once(db: Database, failure: records.Failure, final: bool, state: str) -> None:
    (job_id,) = submit(db)
    assert lifecycle.fail(db, claim(db, job_id), failure, final=final) == state
    assert [(result.state, result.message) for result in queries.results(db)] == [(state, failure.message)]
    assert lifecycle.retry(db, [job_id]) == 1
    job = view(db, job_id)
    assert (job.state, job.errors, job.crashes, job.message, job.finished_at) == ("queued", 0, 0, None, None)
    assert claim(db, job_id).attempt == 2


def test_what_a_dying_process_wrote_is_stored_even_if_it_is_no_text(db: Database) -> None:
    (job_id,) = submit(db)
    odd = records.Failure(reason="error", message="bad \x00 byte", detail="half a pair \ud83d")
    lifecycle.fail(db, claim(db, job_id), odd, final=True)
    assert (view(db, job_id).message, view(db, job_id).detail) == ("bad \ufffd byte", "half a pair \ufffd")
    (other,) = submit(db, 2, text="two")
    strange = builders.latency(overhead={"wait": float("nan")}, notes=("a \x00", "fine 🙂"))
    assert lifecycle.finish(db, claim(db, other), strange, [])
    (result,) = queries.results(db, states="done")
    assert (result.document["overhead"], result.notes) == ({"wait": None}, ("a \ufffd", "fine 🙂"))


def test_a_released_job_is_queued_again_uncounted(db: Database) -> None:
    (job_id,) = submit(db)
    for _ in range(4):
        assert lifecycle.release(db, claim(db, job_id)) == "queued"
    job = view(db, job_id)
    assert (job.state, job.crashes, job.errors, job.attempts) == ("queued", 0, 0, 4)
    assert set(tries(db, job_id)) == {"released"}


def test_adopting_takes_back_only_this_hosts_jobs_uncounted(db: Database) -> None:
    here, there, waiting = submit(db, 3)
    orphan = claim(db, here)
    claim(db, there, host="elsewhere")
    assert lifecycle.adopt(db, "host") == [here]
    assert [view(db, job_id).state for job_id in (here, there, waiting)] == ["queued", "running", "queued"]
    assert view(db, here).crashes == 0
    assert lifecycle.finish(db, orphan, builders.latency(), [])  # what the orphan still brings counts …
    assert view(db, here).state == "done"
    assert queries.results(db)[0].job_id == here


def test_a_cancelled_job_ends_at_once_or_at_its_next_heartbeat(db: Database) -> None:
    waiting, running, done = submit(db, 3)
    mine = claim(db, running)
    lifecycle.finish(db, claim(db, done), builders.latency(), [])
    assert lifecycle.cancel(db, [waiting, running, done, "unknown"]) == 2
    assert view(db, waiting).state == "cancelled"
    assert view(db, running).cancelling
    with pytest.raises(errors.JobCancelled):
        lifecycle.renew(db, mine, lease=60)
    assert lifecycle.release(db, mine) == "cancelled"
    assert view(db, done).state == "done"
    assert due(db, older_than=0) == []


def test_a_cancelled_job_whose_worker_died_is_not_tried_again(db: Database) -> None:
    (job_id,) = submit(db)
    claim(db, job_id, lease=0)
    lifecycle.cancel(db, [job_id])
    assert lifecycle.expire(db) == [job_id]
    assert lifecycle.claim(db, job_id, host="host", platform_key=PLATFORM.key, lease=60) is None
    assert view(db, job_id).state == "cancelled"


def test_jobs_are_due_until_published_and_again_when_nobody_came(db: Database) -> None:
    job_ids = submit(db, 3)
    assert due(db, older_than=60) == job_ids
    assert {each.queue for each in outbox.unpublished(db)} == {f"platform.{PLATFORM.key}"}
    outbox.mark_published(db, job_ids)
    assert due(db, older_than=60) == []
    past(db, job_ids[1], "published_at")
    assert due(db, older_than=60) == [job_ids[1]]
    lifecycle.release(db, claim(db, job_ids[0]))
    assert set(due(db, older_than=60)) == set(job_ids[:2])


@pytest.mark.parametrize("reason", ["crash", "error", "released", "unsupported"])
def test_a_failure_that_is_told_twice_counts_once(db: Database, reason: Any) -> None:
    (job_id,) = submit(db)
    mine, failure = claim(db, job_id), records.Failure(reason=reason, message="why")
    state = lifecycle.fail(db, mine, failure)
    before = (view(db, job_id), queries.attempts(db, job_id))
    assert lifecycle.fail(db, mine, failure) == state  # the answer to the first time was lost
    assert (view(db, job_id), queries.attempts(db, job_id)) == before
    assert tries(db, job_id) == [reason]
