"""The queue is lost, unreachable, or silent: wake-ups are sent again, and what is measured goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pytest

from tests.faults import closing
from tests.faults.conftest import MakeFleet
from tests.faults.fleet import DEFAULTS, MOMENTS, Fleet, Moment, done
from tests.faults.proxy import Proxy

OUTAGES: Mapping[str, Callable[[Proxy], None]] = {"refused": Proxy.refuse, "half-open": Proxy.fall_silent}


@pytest.mark.faults
@pytest.mark.parametrize("moment", MOMENTS)
def test_redis_killed_and_restarted_empty_loses_no_job(fleet: Fleet, moment: Moment) -> None:
    fleet.add()
    with fleet.at(moment, jobs=3):
        fleet.redis.kill()
        fleet.redis.forget()
        fleet.redis.start()
        assert not closing.leftover(fleet)

    jobs = closing.check(fleet)

    assert done(jobs)
    assert [(job.attempts, job.crashes) for job in jobs] == 3 * [(1, 0)]


@pytest.mark.slow
def test_redis_unreachable_for_a_while_delays_and_nothing_else(fleet: Fleet) -> None:
    host = fleet.add()
    fleet.to_redis.refuse()
    fleet.submit(1, publish=False)
    time.sleep(5)
    assert [job.attempts for job in fleet.jobs()] == [0]
    fleet.to_redis.restore()

    (job,) = closing.check(fleet)

    assert (job.state, job.attempts, job.crashes) == ("done", 1, 0)
    assert host.ends == []


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["measuring", "idle"])
@pytest.mark.parametrize("outage", OUTAGES)
def test_redis_away_for_two_minutes_delays_and_nothing_else(make_fleet: MakeFleet, outage: str, moment: Moment) -> None:
    fleet = make_fleet(DEFAULTS)
    host = fleet.add()
    with fleet.at(moment):
        OUTAGES[outage](fleet.to_redis)
        fleet.submit(2, first=2, publish=False)
        time.sleep(120)
        fleet.to_redis.restore()

    jobs = closing.check(fleet)

    assert done(jobs)
    assert [(job.attempts, job.crashes) for job in jobs] == 4 * [(1, 0)]
    assert host.ends == []


@pytest.mark.faults
def test_connections_that_died_without_a_word_are_replaced(fleet: Fleet) -> None:
    host = fleet.add()
    fleet.to_redis.fall_silent()  # a firewall forgot what was open
    fleet.to_redis.restore()  # … and lets in what is new
    fleet.submit(2)

    jobs = closing.check(fleet)

    assert done(jobs)
    assert [(job.attempts, job.crashes) for job in jobs] == 2 * [(1, 0)]
    assert host.ends == []
