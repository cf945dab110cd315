"""Any order of what can happen to the jobs of a fleet: none has two results, none is lost, none goes astray.

Hypothesis plays workers of several hosts and platforms, a person, a broker that loses its messages or stops answering,
a reconciler with gaps, messages that come late, repeatedly or forged. Time passes by shifting what the database knows.
After each example the faults stop, and a fair run of the fleet has to bring every job to its end.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import hypothesis.stateful
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage import broker, errors, hosts, lifecycle, outbox, records, settings, tables
from storage.database import Database
from tests import builders
from tests.integration.storage import fleet

STEPS = 50
EVENTS = (
    *("deliver", "deliver", "deliver", "deliver", "deliver", "wake", "wake", "wake"),
    *("answer", "answer", "answer", "answer", "answer", "answer late", "answer late", "answer late"),
    *(
        "time passes",
        "time passes",
        "time passes",
        "time passes",
        "publish",
        "cancel",
        "retry",
        "retry",
        "retry",
        "submit",
        "submit",
    ),
    *("restart", "restart", "goodbye", "lose", "broker stops", "broker stops soon", *["broker returns"] * 3),
)
"""What can happen, as often as it is worth."""

AWAY_S = (0.0, 0.0, 38.0, 70.0, 3600.0)
CONFIG = settings.Settings(reconcile=15.0, lease=60.0)
SLACK_S = 3.0
"""The test's clock and the database's are read one after the other."""

KINDS = (("A", None), ("A", "a2"), (fleet.ANY, None), (fleet.ANY, "b1"), ("B", None), (fleet.ANY, None))
ANSWERS = ("released", "released", "decline", "decline", "decline", "crash", "error", "renew", "unsupported", "finish")
LATE_ANSWERS = ("finish", "finish", "finish", "decline", "renew", "crash", "cancelled")
ROUNDS = 120
"""Ticks of the fair run within which everything has to come to its end."""

ALL_HOSTS = sorted(fleet.HOSTS)
COLUMNS = ("id", "state", "token", "attempts", "crashes", "errors", "cancelling", "host", "published_at")


@dataclass
class Known:
    """What the test knows of one job, told by nobody but the test itself."""

    planned: records.PlannedJob
    id: str
    claims: list[records.Claim] = field(default_factory=list)
    counted: int | None = None  # token of the attempt whose result counts
    lease_until: float = 0.0  # by the test's clock
    declined: set[str] = field(default_factory=set)  # platform keys
    crashes: int = 0  # deaths and lost leases since somebody last wanted it tried again
    retries: int = 0
    woken: set[tuple[int, int]] = field(default_factory=set)  # (newest token, retries) that have had a wake-up

    @property
    def newest(self) -> int:
        return self.claims[-1].token if self.claims else 0

    def meant_for(self, host: str) -> bool:
        platform = fleet.key(fleet.HOSTS[host])
        right = self.planned.platform_key in (platform, fleet.ANY)
        return right and self.planned.wanted_host in (None, host) and platform not in self.declined


class Fleet(RuleBasedStateMachine):
    db: Database  # one for all examples: each cleans up after itself

    def __init__(self) -> None:
        super().__init__()
        self.queue = fleet.Queues()
        self.jobs: dict[str, Known] = {}
        self.replicas = itertools.count()  # the same in each example: what is drawn may depend on job keys
        self.shifted, self.began = 0.0, time.monotonic()
        self.ticks: list[float] = []
        fleet.register(self.db)

    # a person

    @initialize(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=2), data=st.data())
    def first(self, kinds: list[tuple[str, str | None]], data: st.DataObject) -> None:
        for kind in kinds:
            self.submit(kind)
        for job in self.jobs.values():  # what was tried before
            for answer in data.draw(st.lists(st.sampled_from(["released", "decline", "crash"]), max_size=2)):
                hosts_left = [host for host in ALL_HOSTS if job.meant_for(host)]
                if hosts_left and self.claim(job.id, data.draw(st.sampled_from(hosts_left))):
                    self.say(answer, job, job.claims[-1])

    def submit(self, kind: tuple[str, str | None], after: Known | None = None) -> None:
        planned = fleet.planned(*kind, replica=next(self.replicas))
        if after is not None:
            planned = dataclasses.replace(planned, after=(after.planned.key,))
        old = [job.planned for job in self.jobs.values()]
        (new,) = fleet.submit(self.db, *old, planned)
        self.jobs[new] = Known(planned=planned, id=new)

    # One rule for everything: Hypothesis draws rules alike, and leaves some of them out of an example altogether.

    @rule(data=st.data(), event=st.sampled_from(EVENTS))
    def event(self, data: st.DataObject, event: str) -> None:
        rows = self.rows()
        running = [row.id for row in rows.values() if row.state == "running"]
        claimed = [job.id for job in self.jobs.values() if job.claims]
        if event == "answer" and running:
            job = self.jobs[data.draw(st.sampled_from(running))]
            self.say(data.draw(st.sampled_from(ANSWERS)), job, job.claims[-1])
        elif event == "answer late" and claimed:  # too late perhaps: somebody claimed the job since, or it has ended
            job = self.jobs[data.draw(st.sampled_from(claimed))]
            self.say(data.draw(st.sampled_from(LATE_ANSWERS)), job, data.draw(st.sampled_from(job.claims)))
        elif event == "wake":  # a message that is late, or forged: to whichever host
            job_id, host = data.draw(st.sampled_from([*self.jobs, "forged"])), data.draw(st.sampled_from(ALL_HOSTS))
            self.claim(job_id, host)
        elif event == "deliver":
            self.deliver(data)
        elif event in ("cancel", "retry"):
            self.a_person_acts(event, self.jobs[data.draw(st.sampled_from(list(self.jobs)))])
        elif event == "time passes":
            self.time_passes(data)
        elif event == "submit" and len(self.jobs) < 6:
            self.submit(data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from([None, *self.jobs.values()])))
        elif event in ("restart", "goodbye"):
            self.a_host_acts(event, data.draw(st.sampled_from(ALL_HOSTS)))
        elif event == "publish":
            self.publish()
        elif event == "lose":
            self.queue.lose()
        elif event.startswith("broker"):
            self.queue.accepts = {"broker stops": 0, "broker stops soon": 1}.get(event)

    def a_person_acts(self, event: str, job: Known) -> None:
        if event == "cancel":
            lifecycle.cancel(self.db, [job.id])
        elif lifecycle.retry(self.db, [job.id]):
            job.declined.clear()
            job.crashes, job.retries = 0, job.retries + 1
            assert self.rows()[job.id].published_at is None

    def a_host_acts(self, event: str, host: str) -> None:
        if event == "goodbye":
            hosts.goodbye(self.db, host)
            return
        before = self.rows()
        taken = lifecycle.adopt(self.db, host)
        assert set(taken) == {row.id for row in before.values() if row.state == "running" and row.host == host}

    def time_passes(self, data: st.DataObject) -> None:
        """The database is away for a while, perhaps; then a host does the reconciler's duty, perhaps for long."""
        host = data.draw(st.sampled_from(ALL_HOSTS))
        self.wait(data.draw(st.sampled_from(AWAY_S)))
        for number in range(data.draw(st.sampled_from([0, 1, 6, 7]))):
            self.wait(14.0 if number else 0.0)
            self.tick(host)

    @property
    def clock(self) -> float:
        """Seconds since the example began."""
        return self.shifted + time.monotonic() - self.began

    def wait(self, seconds: float) -> None:
        if seconds:
            fleet.pass_time(self.db, seconds)
        self.shifted += seconds

    def deliver(self, data: st.DataObject) -> None:
        """A worker takes the first message of one of its queues, or an old one that got stuck somewhere; some brokers
        hand it out more than once."""
        self.publish()
        ready = [(host, name) for host in fleet.HOSTS for name in self.queues_of(host) if self.queue.held[name]]
        if ready:
            host, name = data.draw(st.sampled_from(ready))
            job_id = self.queue.held[name].pop(0)
        else:
            meant = [(host, job.id) for host in fleet.HOSTS for job in self.jobs.values() if job.meant_for(host)]
            host, job_id = data.draw(st.sampled_from(meant or [("a1", "forged")]))
        for _ in range(data.draw(st.sampled_from([1, 1, 3]))):
            self.claim(job_id, host)

    def say(self, answer: str, job: Known, claim: records.Claim) -> None:
        row = self.rows()[job.id]
        owned = row.state == "running" and claim.token == job.newest
        if answer in ("finish", "decline", "renew"):
            {"finish": self.finish, "decline": self.decline, "renew": self.renew}[answer](job, claim, row, owned)
        else:
            self.fail(claim, records.Failure(reason=answer, message="why"), row, owned)  # type: ignore[arg-type]

    def finish(self, job: Known, claim: records.Claim, row: Any, owned: bool) -> None:
        counts = lifecycle.finish(self.db, claim, builders.latency(pairs=claim.token), [builders.leg()])
        late = row.state == "queued" and claim.token == job.newest
        assert counts == (owned or late or claim.token == job.counted)
        job.counted = claim.token if counts else job.counted

    def fail(self, claim: records.Claim, failure: records.Failure, row: Any, owned: bool) -> None:
        told = self.ended_as(claim) == failure.reason
        after, now = lifecycle.fail(self.db, claim, failure), self.rows()[row.id]
        assert after == (now.state if owned or told else "superseded")
        assert owned or _at_rest(now) == _at_rest(row)
        assert not owned or after != "queued" or (now.published_at is None and not row.cancelling)
        self.jobs[row.id].crashes += owned and failure.reason == "crash"

    def decline(self, job: Known, claim: records.Claim, row: Any, owned: bool) -> None:
        told = self.ended_as(claim) in ("declined", "unsupported")
        after = lifecycle.decline(self.db, claim, "cannot")
        anywhere = job.planned.platform_key == fleet.ANY and job.planned.wanted_host is None
        left = {fleet.key(platform) for platform in fleet.PLATFORMS} - job.declined - {claim.platform_key}
        state = "unsupported" if not (anywhere and left) else "cancelled" if row.cancelling else "queued"
        assert after == (state if owned else row.state if told else "superseded")
        if owned and state != "unsupported":
            job.declined.add(claim.platform_key)

    def ended_as(self, claim: records.Claim) -> str:
        mine = (tables.attempt.c.job_id == claim.job_id, tables.attempt.c.token == claim.token)
        with self.db.read() as connection:
            return str(connection.execute(sa.select(tables.attempt.c.state).where(*mine)).scalar_one())

    def renew(self, job: Known, claim: records.Claim, row: Any, owned: bool) -> None:
        try:
            lifecycle.renew(self.db, claim, lease=CONFIG.lease)
        except errors.LeaseLost:
            assert not owned
            return
        except errors.JobCancelled:
            assert row.cancelling
        assert owned
        job.lease_until = self.clock + CONFIG.lease

    # what always holds

    @invariant()
    def what_always_holds(self) -> None:
        attempt, result = tables.attempt, tables.result
        with self.db.read() as connection:
            tries = connection.execute(
                sa.select(attempt.c.job_id, attempt.c.token, attempt.c.state).order_by(attempt.c.token)
            ).all()
            results = connection.execute(sa.select(result.c.job_id, result.c.token, result.c.pairs)).all()
        due = {each.job_id for each in outbox.unpublished(self.db)}
        for row in self.rows().values():
            job = self.jobs[row.id]
            has_one_result_exactly_when_it_is_done(job, row, [tuple(each) for each in results if each.job_id == row.id])
            only_its_newest_attempt_can_be_running(job, row, [each for each in tries if each.job_id == row.id])
            its_crashes_are_counted_and_bounded(job, row)
            was_published_or_is_to_be_while_it_is_queued(row, row.id in due, self.waits(job))

    # helpers

    def claim(self, job_id: str, host: str) -> bool:
        """Ask for a job as a worker does; whether the host got it."""
        before = self.rows().get(job_id)
        got = fleet.try_claim(self.db, job_id, host)
        if before is None:
            assert got is None
            return False
        job = self.jobs[job_id]
        self.check_taken({job_id: before}, self.rows())
        blocked = self.waits(job)
        free = before.state == "queued" and not before.cancelling and before.wait_s <= 0 and not blocked
        assert got is not None or not (free and job.meant_for(host))
        if got is None:
            return False
        assert job.meant_for(host)
        assert not blocked
        assert before.state in ("queued", "running")
        assert got.token > job.newest
        job.claims.append(got)
        job.lease_until = self.clock + CONFIG.lease
        return True

    def waits(self, job: Known) -> bool:
        """Whether a job that it comes after has not come to its end."""
        rows = self.rows()
        first = [rows[other.id].state for other in self.jobs.values() if other.planned.key in job.planned.after]
        return any(state not in records.TERMINAL for state in first)

    def publish(self) -> None:
        with Watched(self):
            try:
                outbox.publish(self.db, self.queue)
            except errors.Unreachable:
                assert self.queue.accepts == 0

    def tick(self, host: str) -> None:
        before = self.rows()
        with Watched(self):
            if outbox.tick(self.db, self.queue, host, CONFIG):
                self.ticks.append(self.clock)
        self.check_taken(before, self.rows())

    def check_taken(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """A job is taken from its worker only after its lease, and when every worker had the time to renew."""
        for row in before.values():
            if row.state == "running" and (after[row.id].state, after[row.id].token) != ("running", row.token):
                assert self.clock >= self.jobs[row.id].lease_until - SLACK_S
                assert self.on_duty_for() >= CONFIG.lease - SLACK_S
                self.jobs[row.id].crashes += 1

    def on_duty_for(self) -> float:
        """For how long somebody did the reconciler's duty without a gap."""
        since = self.clock
        for tick in reversed(self.ticks):
            if since - tick > 3 * CONFIG.reconcile + SLACK_S:
                break
            since = tick
        return self.clock - since

    def queues_of(self, host: str) -> tuple[str, ...]:
        return broker.queues_of(fleet.key(fleet.HOSTS[host]), host)

    def rows(self) -> dict[str, Any]:
        wait = (tables.job.c.not_before_at - tables.now()).label("wait_s")
        age = (tables.now() - tables.job.c.published_at).label("published_s")
        with self.db.read() as connection:
            found = connection.execute(sa.select(*(tables.job.c[name] for name in COLUMNS), wait, age)).all()
        rows = {row.id: row for row in found}
        return {job_id: rows[job_id] for job_id in self.jobs if job_id in rows}  # no database promises an order

    # the fair run

    def teardown(self) -> None:
        try:
            self.everything_comes_to_its_end()
        finally:
            with self.db.transaction() as connection:
                for table in (
                    tables.job_after,
                    tables.sample,
                    tables.result,
                    tables.attempt,
                    tables.study_job,
                    tables.job,
                    tables.leader,
                ):
                    connection.execute(sa.delete(table))

    def everything_comes_to_its_end(self) -> None:
        self.queue.accepts = None
        for number in range(ROUNDS):
            if all(row.state in records.TERMINAL for row in self.rows().values()):
                return
            for host in fleet.HOSTS:
                hosts.seen(self.db, host)
                self.serve_one(host)
            self.tick(ALL_HOSTS[number % 2])
            self.wait(14.0)
        left = {row.id: (self.jobs[row.id].planned.wanted_host, row.state) for row in self.rows().values()}
        raise AssertionError(f"jobs are lost: {left}; queues: {self.queue.contents}")

    def serve_one(self, host: str) -> None:
        """A worker takes a message; what it gets it measures, or declines where only the last platform can."""
        full = [name for name in self.queues_of(host) if self.queue.held[name]]
        if not full:
            return
        job_id = self.queue.held[full[0]].pop(0)
        if not self.claim(job_id, host):
            return
        job, row = self.jobs[job_id], self.rows()[job_id]
        anywhere = job.planned.platform_key == fleet.ANY and job.planned.wanted_host is None
        act = self.decline if anywhere and fleet.HOSTS[host] != "C" else self.finish
        act(job, job.claims[-1], row, True)


def has_one_result_exactly_when_it_is_done(job: Known, row: Any, results: list[Any]) -> None:
    assert results == ([] if job.counted is None else [(job.id, job.counted, job.counted)])
    assert (row.state == "done") == (job.counted is not None)


def only_its_newest_attempt_can_be_running(job: Known, row: Any, tries: list[Any]) -> None:
    assert [each.token for each in tries] == [claim.token for claim in job.claims]
    assert (row.token, row.attempts) == (job.newest, len(tries))
    running = [each.token for each in tries if each.state == "running"]
    assert running == ([job.newest] if row.state == "running" else [])


def its_crashes_are_counted_and_bounded(job: Known, row: Any) -> None:
    assert row.crashes == job.crashes <= lifecycle.CRASH_CAP
    assert row.state != "dead" or job.crashes == lifecycle.CRASH_CAP
    assert job.crashes < lifecycle.CRASH_CAP or row.state in records.TERMINAL


def was_published_or_is_to_be_while_it_is_queued(row: Any, due: bool, waits: bool) -> None:
    assert row.state == "queued" or not due
    assert not (waits and due)
    if row.state == "queued" and row.published_at is None and not due and not waits:
        assert row.wait_s > 0
        assert row.errors > 0


class Watched:
    """While it is open, what goes out is checked: nothing is published again while its queue holds messages."""

    def __init__(self, machine: Fleet) -> None:
        self.machine = machine

    def __enter__(self) -> None:
        self.rows = self.machine.rows()
        self.before = self.machine.queue.contents

    def __exit__(self, *exc: object) -> None:
        for name, held in self.machine.queue.contents.items():
            for job_id in held[len(self.before.get(name, ())) :]:
                row, job = self.rows[job_id], self.machine.jobs[job_id]
                wake = (job.newest, job.retries)
                if wake in job.woken:
                    assert name not in self.before, f"{job_id} went into {name} again, which held messages"
                    assert row.published_s >= outbox.LOST_S
                job.woken.add(wake)
                assert self.machine.rows()[job_id].published_at is not None


@pytest.mark.timeout(3600)  # a failure is made small before it is told
@pytest.mark.parametrize(
    "examples", [pytest.param(8, id="some"), pytest.param(400, id="many", marks=pytest.mark.faults)]
)
def test_no_order_of_events_doubles_loses_or_misleads_a_job(db: Database, examples: int) -> None:
    fleet.hurry(db)
    machine = type("OnOneDatabase", (Fleet,), {"db": db})
    options = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=True,
    )
    hypothesis.stateful.run_state_machine_as_test(machine, settings=options)


def _at_rest(row: Any) -> dict[str, Any]:
    """A job's row without what the clock alone changes."""
    return {name: value for name, value in row._mapping.items() if name not in ("wait_s", "published_s")}
