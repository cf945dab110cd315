from __future__ import annotations

import logging

import pytest
import sqlalchemy as sa

from storage import broker, errors, hosts, lifecycle, outbox, settings, tables
from storage.database import Database
from tests.integration.storage import fleet

ANY = fleet.ANY
CONFIG = settings.Settings(reconcile=15.0, lease=60.0)


@pytest.fixture
def queue() -> fleet.Queues:
    return fleet.Queues()


def on(platform: str) -> str:
    return f"platform.{fleet.key(platform)}"


def reconcile(db: Database, queue: broker.Publisher) -> int:
    return outbox.reconcile(db, queue, older_than=outbox.LOST_S)


def silence(db: Database) -> None:
    """Let the time go by after which a wake-up that nobody answered counts as lost."""
    fleet.pass_time(db, outbox.LOST_S + 1, tables.job)


def test_wake_ups_go_to_the_queue_of_whom_a_job_is_for(db: Database, queue: fleet.Queues) -> None:
    wanted = [("A", None), ("B", None), ("A", "a2"), (ANY, None), (ANY, "b1")]
    jobs = fleet.submit(db, *(fleet.planned(platform, host) for platform, host in wanted))
    assert outbox.publish(db, queue) == 5
    assert queue.contents == {
        on("A"): [jobs[0]],
        on("B"): [jobs[1]],
        "host.a2": [jobs[2]],
        "any": [jobs[3]],
        "host.b1": [jobs[4]],
    }
    assert set(broker.queues_of(fleet.key("A"), "a2")) == {on("A"), "host.a2", "any"}


def test_what_was_published_is_not_published_again(db: Database, queue: fleet.Queues) -> None:
    (first,) = fleet.submit(db)
    assert outbox.publish(db, queue) == 1
    (second,) = fleet.submit(db, fleet.planned(replica=1))
    assert outbox.publish(db, queue) == 1
    assert outbox.publish(db, queue) == 0
    assert queue.contents == {on("A"): [first, second]}


def test_jobs_are_published_in_planned_order_and_only_when_they_may_run(db: Database, queue: fleet.Queues) -> None:
    ids = fleet.submit(db, *(fleet.planned(replica=n) for n in range(6)))
    lifecycle.cancel(db, [ids[4]])
    fleet.claim(db, ids[5])
    with db.transaction() as connection:
        later = sa.update(tables.job).where(tables.job.c.id == ids[1]).values(not_before_at=tables.now() + 5)
        connection.execute(later)
    outbox.publish(db, queue)
    assert queue.contents == {on("A"): [ids[0], ids[2], ids[3]]}
    fleet.pass_time(db, 6)
    outbox.publish(db, queue)
    assert queue.held[on("A")][-1] == ids[1]


def test_a_job_that_came_back_is_published_at_once(db: Database, queue: fleet.Queues) -> None:
    (job_id,) = fleet.submit(db)
    outbox.publish(db, queue)
    queue.purge(on("A"))
    lifecycle.release(db, fleet.claim(db, job_id))
    assert outbox.publish(db, queue) == 1


def test_a_lost_wake_up_is_sent_again_when_it_is_old_and_its_queue_empty(db: Database, queue: fleet.Queues) -> None:
    (job_id,) = fleet.submit(db)
    outbox.publish(db, queue)
    queue.lose()
    assert reconcile(db, queue) == 0  # young: a worker may have it in its hands
    silence(db)
    assert reconcile(db, queue) == 1
    assert reconcile(db, queue) == 0
    assert queue.contents == {on("A"): [job_id]}


def test_old_wake_ups_that_wait_in_their_queue_are_left_alone(db: Database, queue: fleet.Queues) -> None:
    fleet.submit(db, *(fleet.planned(replica=n) for n in range(3)))
    outbox.publish(db, queue)
    for _ in range(5):
        silence(db)
        assert reconcile(db, queue) == 0
    assert queue.published == 3


def test_each_queue_is_looked_at_for_itself(db: Database, queue: fleet.Queues) -> None:
    jobs = fleet.submit(db, fleet.planned("A"), fleet.planned("B"), fleet.planned("A", "a1"), fleet.planned(ANY))
    outbox.publish(db, queue)
    queue.purge(on("B"))
    queue.purge("host.a1")
    silence(db)
    assert reconcile(db, queue) == 2
    assert queue.contents == {on("A"): [jobs[0]], on("B"): [jobs[1]], "host.a1": [jobs[2]], "any": [jobs[3]]}


def test_what_went_out_before_the_broker_fell_silent_is_remembered(db: Database, queue: fleet.Queues) -> None:
    ids = fleet.submit(db, *(fleet.planned(replica=n) for n in range(5)))
    queue.accepts = 3
    with pytest.raises(errors.Unreachable):
        outbox.publish(db, queue)
    assert [each.job_id for each in outbox.unpublished(db)] == ids[3:]
    queue.accepts = None
    assert outbox.publish(db, queue) == 2
    assert queue.contents == {on("A"): ids}


def test_many_jobs_go_out_in_several_looks(db: Database, queue: fleet.Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = fleet.submit(db, *(fleet.planned(replica=n) for n in range(7)))
    assert [each.job_id for each in outbox.unpublished(db, limit=3)] == ids[:3]
    monkeypatch.setattr("storage.statements.CHUNK", 2)  # remembered in several steps too
    assert outbox.publish(db, queue) == 7
    assert queue.contents == {on("A"): ids}


# the reconciler


def test_a_tick_is_one_holders_and_does_everything(db: Database, queue: fleet.Queues) -> None:
    (job_id,) = fleet.submit(db)
    assert outbox.tick(db, queue, "one", CONFIG)
    assert not outbox.tick(db, queue, "two", CONFIG)
    assert queue.contents == {on("A"): [job_id]}
    queue.lose()
    silence(db)
    assert not outbox.tick(db, queue, "two", CONFIG)
    assert queue.contents == {}
    assert outbox.tick(db, queue, "one", CONFIG)
    assert queue.contents == {on("A"): [job_id]}


@pytest.mark.parametrize("kind", [errors.Unreachable, errors.SettingsError])
def test_a_broker_that_fails_is_a_warning_and_the_duty_goes_on(
    db: Database, queue: fleet.Queues, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(fleet.Queues):
        def publish(self, job_id: str, queue: str) -> None:
            raise kind("broker redis://:***@here does not answer")

    (job_id,) = fleet.submit(db)
    with caplog.at_level(logging.WARNING):
        assert outbox.tick(db, Refusing(), "one", CONFIG)
    assert "wake-ups not sent yet: broker redis://:***@here" in caplog.text
    assert outbox.tick(db, queue, "one", CONFIG)
    assert queue.contents == {on("A"): [job_id]}


# jobs for any platform, declined by some


def declined(db: Database, host: str = "a1", *, replica: int = 0) -> str:
    (job_id,) = fleet.submit(db, fleet.planned(ANY, replica=replica))
    lifecycle.decline(db, fleet.claim(db, job_id, host), "no")
    return job_id


def test_a_declined_job_goes_to_a_platform_that_has_not_declined_it(db: Database, queue: fleet.Queues) -> None:
    fleet.register(db, "a1", "a2", "b1")
    job_id = declined(db)
    outbox.publish(db, queue)
    assert queue.contents == {on("B"): [job_id]}


def test_declined_jobs_are_spread_over_the_platforms_that_are_left(db: Database, queue: fleet.Queues) -> None:
    fleet.register(db)
    for n in range(24):
        declined(db, replica=n)
    outbox.publish(db, queue)
    assert set(queue.contents) == {on("B"), on("C")}


def test_a_job_that_was_given_back_but_not_declined_is_still_for_all(db: Database, queue: fleet.Queues) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db, fleet.planned(ANY))
    lifecycle.release(db, fleet.claim(db, job_id, "a1"))
    outbox.publish(db, queue)
    assert queue.contents == {"any": [job_id]}


@pytest.mark.parametrize("gone", ["stopped", "away"])
def test_a_declined_job_goes_to_a_platform_that_serves_now(db: Database, queue: fleet.Queues, gone: str) -> None:
    fleet.register(db)
    fleet.pass_time(db, 3600, tables.host)
    for host in ("a1", "c1") if gone == "away" else ("a1", "b1", "c1"):
        hosts.seen(db, host)
    if gone == "stopped":
        hosts.goodbye(db, "b1")
    for n in range(12):
        declined(db, replica=n)
    outbox.publish(db, queue)
    assert set(queue.contents) == {on("C")}


def test_a_declined_job_waits_for_a_platform_that_is_away_when_no_other_is_left(
    db: Database, queue: fleet.Queues
) -> None:
    fleet.register(db)
    hosts.goodbye(db, "b1")
    fleet.pass_time(db, 3600, tables.host)
    job_id = declined(db)
    lifecycle.decline(db, fleet.claim(db, job_id, "c1"), "no")
    outbox.publish(db, queue)
    assert queue.contents == {on("B"): [job_id]}


def test_a_declined_job_moves_on_when_the_platform_that_it_waits_for_goes_away(
    db: Database, queue: fleet.Queues
) -> None:
    fleet.register(db)
    jobs = [declined(db, replica=n) for n in range(8)]
    outbox.publish(db, queue)
    waits_for_b = list(queue.held[on("B")])
    hosts.goodbye(db, "b1")
    queue.purge(on("C"))
    silence(db)
    reconcile(db, queue)
    assert set(queue.contents[on("C")]) == set(jobs)
    assert queue.held[on("B")] == waits_for_b  # harmless: whoever comes last finds nothing to do


def test_a_declined_job_that_waits_in_its_new_queue_is_not_sent_again(db: Database, queue: fleet.Queues) -> None:
    fleet.register(db, "a1", "b1")
    declined(db)
    for _ in range(5):
        reconcile(db, queue)
        silence(db)
    assert queue.published == 1


def test_a_declined_job_does_not_wait_for_the_queue_of_all_to_become_empty(db: Database, queue: fleet.Queues) -> None:
    fleet.register(db, "a1", "b1")
    job_id = declined(db)
    fleet.submit(db, fleet.planned(ANY, replica=1))
    outbox.publish(db, queue)
    queue.purge(on("B"))
    silence(db)
    assert reconcile(db, queue) == 1
    assert queue.contents[on("B")] == [job_id]
