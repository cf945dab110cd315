"""The database restarts in mid-transaction, goes away, falls silent: workers wait, and no job is burnt by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pytest

from storage import queries
from tests import services
from tests.faults import closing
from tests.faults.conftest import MakeFleet
from tests.faults.fleet import DEFAULTS, MOMENTS, QUICK, Fleet, Moment, done
from tests.faults.proxy import Hold, Proxy

TRANSACTIONS: Mapping[str, Callable[[Fleet], Hold]] = {
    "claiming": Fleet.hold_claim,
    "storing": Fleet.hold_storing,
    "stored": Fleet.hold_stored,
}

ENDINGS: Mapping[str, Callable[[services.Postgres], None]] = {
    "stopped": services.Postgres.stop,
    "killed": services.Postgres.kill,
}


@pytest.mark.faults
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("transaction", TRANSACTIONS)
def test_postgres_restarted_in_mid_transaction_leaves_nothing_half(fleet: Fleet, transaction: str, ending: str) -> None:
    host = fleet.add()
    hold = TRANSACTIONS[transaction](fleet)
    fleet.submit(2)
    hold.wait()
    ENDINGS[ending](fleet.postgres)
    fleet.postgres.start()
    fleet.db.close()  # the test's own connection died as well, so quickly that nobody asks it
    hold.release()

    jobs = closing.check(fleet)

    assert done(jobs)
    assert [job.crashes for job in jobs] == [0, 0]
    assert host.ends == []


@pytest.mark.slow
def test_postgres_away_for_longer_than_a_lease_burns_no_job(fleet: Fleet) -> None:
    host = fleet.add()
    with fleet.at("measuring", jobs=1):
        fleet.to_postgres.refuse()
        time.sleep(3 * fleet.times["lease"])
        fleet.to_postgres.restore()

    (job,) = closing.check(fleet)

    assert (job.state, job.attempts, job.crashes) == ("done", 1, 0), queries.attempts(fleet.db, job.id)
    assert host.ends == []


@pytest.mark.faults
def test_a_host_that_finds_postgres_again_later_than_others_keeps_its_job(make_fleet: MakeFleet) -> None:
    fleet = make_fleet({**QUICK, "lease": 8.0})
    host = fleet.add()
    with Proxy(fleet.postgres) as nearer:
        fleet.add("two", QUANTFLEET_DATABASE=nearer.address(fleet.database_address))
        fleet.submit(1, host=host.name, seconds=40)
        fleet.wait_measuring(host)
        for way in (fleet.to_postgres, nearer):
            way.refuse()
        time.sleep(1.5 * fleet.times["lease"])
        nearer.restore()  # host two reconciles at once, and sees a lease that ran out
        time.sleep(2)
        fleet.to_postgres.restore()

        (job,) = closing.check(fleet)

    assert (job.state, job.attempts, job.crashes) == ("done", 1, 0), queries.attempts(fleet.db, job.id)


@pytest.mark.faults
@pytest.mark.parametrize("moment", MOMENTS)
def test_postgres_away_for_two_minutes_burns_no_job(make_fleet: MakeFleet, moment: Moment) -> None:
    fleet = make_fleet(DEFAULTS)
    host = fleet.add()
    with fleet.at(moment) as hold:
        fleet.to_postgres.refuse()
        hold.release()
        time.sleep(120)
        fleet.to_postgres.restore()

    jobs = closing.check(fleet)

    assert done(jobs)
    assert [(job.attempts, job.crashes) for job in jobs] == 2 * [(1, 0)]
    assert host.ends == []


@pytest.mark.faults
@pytest.mark.parametrize("moment", MOMENTS)
def test_postgres_connections_that_died_without_a_word_are_replaced(fleet: Fleet, moment: Moment) -> None:
    host = fleet.add()
    with fleet.at(moment):
        fleet.to_postgres.fall_silent()
        time.sleep(10)
        fleet.to_postgres.restore()

    jobs = closing.check(fleet)

    assert done(jobs)
    assert sum(job.crashes for job in jobs) <= 1
    assert host.ends == []


@pytest.mark.faults
def test_a_host_that_starts_without_its_servers_waits_for_them(fleet: Fleet) -> None:
    first = fleet.add()
    assert first.stop() == 0
    first.process = None
    fleet.to_postgres.refuse()
    fleet.to_redis.refuse()
    second = fleet.add("two", start=False)
    second.start()
    time.sleep(8)
    fleet.to_postgres.restore()
    time.sleep(8)
    assert "serving as" not in second.log.read_text()
    fleet.to_redis.restore()
    second.wait_serving()
    fleet.submit(1)

    assert done(closing.check(fleet))
    assert second.ends == []
