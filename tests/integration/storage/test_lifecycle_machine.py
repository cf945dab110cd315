"""Any order of what can happen to a job, late and repeated deliveries included: it never has two results."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.stateful
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from storage import errors, lifecycle, outbox, queries, records, tables
from storage.database import Database
from tests import builders

PLATFORM = builders.platform()
REASONS = ("crash", "error", "released", "unsupported", "cancelled")
replicas = itertools.count()


class JobLife(RuleBasedStateMachine):
    db: Database  # one file for all examples: each brings a job of its own

    def __init__(self) -> None:
        super().__init__()
        self.planned = builders.planned(replica=next(replicas))
        (self.job_id,) = self.submitted().new
        self.claims: list[records.Claim] = []
        self.counted: int | None = None  # token of the attempt whose result counts

    def submitted(self) -> lifecycle.Submitted:
        return lifecycle.submit(self.db, study=lifecycle.StudyText(name="s", text=""), jobs=[self.planned])

    @rule()
    def submit(self) -> None:
        assert self.submitted().new == ()

    @rule(lease=st.sampled_from([0.0, 60.0]), repeated=st.integers(1, 2))
    def deliver(self, lease: float, repeated: int) -> None:
        got = [
            lifecycle.claim(self.db, self.job_id, host="host", platform_key=PLATFORM.key, lease=lease)
            for _ in range(repeated)
        ]
        won = [claim for claim in got if claim is not None]
        assert self.counted is None or not won
        assert lease == 0.0 or len(won) <= 1
        self.claims += won

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        before = self.job.state
        counts = lifecycle.finish(self.db, claim, builders.latency(pairs=claim.token), [builders.leg()])
        owned = before in ("running", "queued") and claim == self.claims[-1]
        assert counts == (owned or claim.token == self.counted)
        self.counted = claim.token if counts else self.counted

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), reason=st.sampled_from(REASONS), final=st.booleans())
    def fail(self, data: st.DataObject, reason: Any, final: bool) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        before = self.job.state
        after = lifecycle.fail(self.db, claim, records.Failure(reason=reason, message="why"), final=final)
        assert (after == "superseded") == (before != "running" or claim != self.claims[-1])
        assert after in ("superseded", self.job.state)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), lease=st.sampled_from([0.0, 60.0]))
    def renew(self, data: st.DataObject, lease: float) -> None:
        claim, job = data.draw(st.sampled_from(self.claims)), self.job
        try:
            lifecycle.renew(self.db, claim, lease=lease)
        except errors.LeaseLost:
            assert job.state != "running" or claim != self.claims[-1]
        except errors.JobCancelled:
            assert job.cancelling

    @rule()
    def expire(self) -> None:
        lifecycle.expire(self.db)

    @rule()
    def restart(self) -> None:
        lifecycle.adopt(self.db, "host")
        assert self.job.state != "running"

    @rule()
    def cancel(self) -> None:
        lifecycle.cancel(self.db, [self.job_id])

    @rule()
    def retry(self) -> None:
        lifecycle.retry(self.db, [self.job_id])

    @rule()
    def an_hour_passes(self) -> None:
        earlier = {"not_before_at": tables.job.c.not_before_at - 3600}
        with self.db.transaction() as connection:
            connection.execute(sa.update(tables.job).where(tables.job.c.id == self.job_id).values(earlier))

    @invariant()
    def a_job_has_one_result_exactly_when_it_is_done(self) -> None:
        with self.db.read() as connection:
            query = sa.select(tables.result.c.token, tables.result.c.pairs)
            found = connection.execute(query.where(tables.result.c.job_id == self.job_id)).all()
        assert [tuple(row) for row in found] == ([] if self.counted is None else [(self.counted, self.counted)])
        assert (self.job.state == "done") == (self.counted is not None)

    @invariant()
    def only_the_newest_attempt_can_be_running(self) -> None:
        attempts, job = queries.attempts(self.db, self.job_id), self.job
        running = [attempt.token for attempt in attempts if attempt.state == "running"]
        assert running == ([self.claims[-1].token] if job.state == "running" else [])
        assert len(attempts) == job.attempts == len(self.claims)
        assert job.crashes < lifecycle.CRASH_CAP or job.state == "dead"

    @invariant()
    def what_is_queued_is_due_or_waits_for_its_time(self) -> None:
        job = self.job
        due = self.job_id in {each.job_id for each in outbox.unpublished(self.db)}
        assert not due or job.state == "queued"
        assert due or job.state != "queued" or job.errors > 0

    @property
    def job(self) -> queries.JobView:
        return next(job for job in queries.jobs(self.db) if job.id == self.job_id)

    def teardown(self) -> None:
        with self.db.transaction() as connection:  # a long list of earlier examples' jobs only costs time
            for table in (tables.sample, tables.result, tables.attempt, tables.study_job):
                connection.execute(sa.delete(table))
            connection.execute(sa.delete(tables.job))


def test_no_order_of_events_gives_a_job_two_results() -> None:
    with tempfile.TemporaryDirectory() as folder:
        JobLife.db = Database.create_or_open(f"sqlite:///{Path(folder) / 'machine.db'}")
        settings = hypothesis.settings(max_examples=25, stateful_step_count=20, deadline=None)
        try:
            hypothesis.stateful.run_state_machine_as_test(JobLife, settings=settings)
        finally:
            JobLife.db.close()
