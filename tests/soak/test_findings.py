"""The soak's books: each way in which they can be wrong is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from storage import lifecycle, queries, records
from storage.database import Database
from tests import builders, databases, services
from tests.integration.storage import fleet
from tests.soak import findings
from tests.soak.trouble import Strike, Victim


def strike(victim: Victim = "worker") -> Strike:
    return Strike(at_s=1.0, host="dying", victim=victim, signal="SIGKILL", pid=1)


def told(db: Database, planned: int, strikes: int = 0) -> list[str]:
    states = Counter(job.state for job in queries.jobs(db))
    return findings.books(db, planned=planned, states=states, strikes=[strike()] * strikes)


def test_books_are_right_when_each_planned_job_has_its_result_and_crashes_have_causes(tmp_path: Path) -> None:
    with Database.open(databases.sqlite(tmp_path / "q.db")) as db:
        fleet.register(db)
        first, second = fleet.submit(db, fleet.planned(), fleet.planned(replica=1))
        lifecycle.finish(db, fleet.claim(db, first), builders.latency())
        assert "2 jobs planned" in told(db, 2)[0], "one is lost"
        lifecycle.fail(db, fleet.claim(db, second), records.Failure(reason="crash", message="died"))
        lifecycle.finish(db, fleet.claim(db, second), builders.latency())
        assert told(db, 2, strikes=1) == []
        assert told(db, 2) == ["1 crashes were counted after 0 strikes"]
        assert "3 jobs planned" in told(db, 3, strikes=1)[0]


def test_an_ordinary_error_is_told_with_its_message(tmp_path: Path) -> None:
    with Database.open(databases.sqlite(tmp_path / "q.db")) as db:
        fleet.register(db)
        (only,) = fleet.submit(db)
        lifecycle.fail(db, fleet.claim(db, only), records.Failure(reason="error", message="a slip"))
        fleet.pass_time(db, 100)
        lifecycle.finish(db, fleet.claim(db, only), builders.latency())
        assert told(db, 1) == ["1 attempts ended in ordinary errors: ['a slip']"]


@pytest.mark.parametrize("victim", ["worker", "child"])
def test_what_lies_in_redis_at_the_end_is_told(victim: Victim) -> None:
    with services.folder() as folder, services.running(services.Redis(folder=folder / "redis")) as redis:
        assert isinstance(redis, services.Redis)
        assert findings.left_in_redis(redis, [strike(victim)]) == []
        redis.client().hset("unacked", "1", "taken along by a worker that was killed")
        costs = victim == "worker"
        assert findings.left_in_redis(redis, [strike(victim)]) == ([] if costs else [findings.UNACKNOWLEDGED % (1, 0)])
        redis.client().lpush("platform.x", "left")
        assert "1 messages still lie in queues" in findings.left_in_redis(redis, [strike(victim)])
