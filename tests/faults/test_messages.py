"""Wake-ups that come three times, late, or from a forger: they can only wake a real job, once."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage import broker, lifecycle, queries
from tests.faults import closing
from tests.faults.fleet import Fleet, done, planned_job

Forge = Callable[..., str]


@pytest.fixture
def publisher(fleet: Fleet) -> broker.Publisher:
    return broker.Publisher(fleet.config)


@pytest.fixture
def forge(fleet: Fleet, publisher: broker.Publisher) -> Forge:
    """Makes a raw message as it lies in Redis, from a genuine one."""
    publisher.publish("0" * 32, "elsewhere")
    (raw,) = fleet.redis.client().lrange("elsewhere", 0, -1)
    fleet.redis.client().delete("elsewhere")

    def make(args: Any = None, **headers: str) -> str:
        message = json.loads(raw)
        if args is not None:
            _, kwargs, rest = json.loads(base64.b64decode(message["body"]))
            message["body"] = base64.b64encode(json.dumps([args, kwargs, rest]).encode()).decode()
        message["headers"] |= headers
        return json.dumps(message)

    return make


@pytest.mark.slow
def test_a_message_delivered_three_times_and_late_measures_once(fleet: Fleet, publisher: broker.Publisher) -> None:
    host = fleet.add()
    queue = broker.queue_of(_platform(fleet))
    ids = fleet.submit(2, publish=False)
    for job_id in 3 * ids:  # the launcher may send a fourth
        publisher.publish(job_id, queue)
    first = fleet.settle()

    for job_id in 3 * ids:  # late: both are finished
        publisher.publish(job_id, queue)
    last = fleet.submit(1, first=2, publish=False)  # the launcher does it: behind them in the queue
    jobs = closing.check(fleet)

    assert done(jobs)
    assert [job.attempts for job in jobs] == [1, 1, 1]
    assert {job.id: job.finished_at for job in jobs if job.id not in last} == {job.id: job.finished_at for job in first}
    assert not closing.leftover(fleet)
    assert host.ends == []


@pytest.mark.faults  # in `make test` integration/security/test_fleet_over_tls.py sends more of them to a worker
def test_forged_messages_run_nothing_and_stop_nobody(
    fleet: Fleet, publisher: broker.Publisher, forge: Forge, tmp_path: Path
) -> None:
    host = fleet.add()
    queue = broker.queue_of(_platform(fleet))
    proof = tmp_path / "executed"
    foreign = _foreign_job(fleet)
    client = fleet.redis.client()
    for message in (
        "no JSON at all",
        "{}",
        forge(),  # a job that there is not
        forge([]),
        forge(["job"]),
        forge([{"job": foreign, "schema": 99}]),
        forge([{"job": {"$ne": 0}, "schema": 1}]),
        forge([{"job": "'; DROP TABLE job; --", "schema": 1}]),
        forge([{"job": foreign, "schema": 1}]),  # of another platform
        forge(task="os.system"),
        _pickled(forge(), proof),
    ):
        client.lpush(queue, message)
    fleet.submit(1, publish=False)  # behind them
    host.wait_for_log(": done", 120)
    lifecycle.cancel(fleet.db, [foreign])

    jobs = {job.id: job for job in closing.check(fleet)}

    assert not proof.exists()
    assert jobs.pop(foreign).attempts == 0
    (real,) = jobs.values()
    assert (real.state, real.attempts, real.crashes) == ("done", 1, 0)
    assert host.ends == []
    assert {body["job"] for body in closing.leftover(fleet)} <= {foreign}  # nobody serves its platform


def _platform(fleet: Fleet) -> str:
    return queries.hosts(fleet.db)[0].platform.key


def _foreign_job(fleet: Fleet) -> str:
    planned = planned_job("another platform", 0, 1.0)
    study = lifecycle.StudyText(name="foreign", text="…")
    (job_id,) = lifecycle.submit(fleet.db, study=study, jobs=[planned]).new
    return job_id


class _Bomb:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.proof,)


def _pickled(message: str, proof: Path) -> str:
    forged = json.loads(message)
    forged["content-type"] = "application/x-python-serialize"
    forged["content-encoding"] = "binary"
    forged["body"] = base64.b64encode(pickle.dumps(([_Bomb(proof)], {}, {}))).decode()
    return json.dumps(forged)
