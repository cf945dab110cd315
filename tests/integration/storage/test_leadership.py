from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from storage import leadership, tables
from storage.database import Database
from tests.integration.storage import fleet
from tests.sql import heard

EVERY = 15.0


def hold(db: Database, holder: str, duty: str = leadership.RECONCILE) -> float | None:
    return leadership.hold(db, holder, every=EVERY, duty=duty)


def steady(db: Database, seconds: float) -> bool:
    with db.read() as connection:
        return bool(connection.execute(sa.select(leadership.steady(seconds))).scalar_one())


def wait(db: Database, seconds: float) -> None:
    fleet.pass_time(db, seconds, tables.leader)


def test_a_duty_has_one_holder_who_keeps_it(db: Database) -> None:
    assert hold(db, "one") == pytest.approx(0, abs=2)
    for _ in range(3):
        assert hold(db, "two") is None
        assert hold(db, "one") is not None
    assert hold(db, "two", duty="another") is not None


def test_of_many_at_once_one_gets_the_duty(db: Database) -> None:
    start = threading.Barrier(6)

    def race(number: int) -> list[bool]:
        start.wait()
        return [hold(db, f"holder {number}") is not None for _ in range(5)]

    with ThreadPoolExecutor(6) as pool:
        took = list(pool.map(race, range(6)))
    assert sorted(map(sum, took)) == [0, 0, 0, 0, 0, 5]


def test_another_takes_over_from_a_holder_that_fell_silent_and_not_before(db: Database) -> None:
    hold(db, "one")
    wait(db, 2 * EVERY - 2)
    assert hold(db, "two") is None
    wait(db, 3)
    assert hold(db, "two") is not None
    assert hold(db, "one") is None  # it comes back late


def test_the_duty_stays_steady_when_it_passes_to_another_in_time(db: Database) -> None:
    hold(db, "one")
    for _ in range(4):
        wait(db, EVERY)
        hold(db, "one")
    wait(db, 2 * EVERY + 1)  # the holder died; the next tick of another is not later than three times `every`
    assert hold(db, "two") == pytest.approx(6 * EVERY + 1, abs=2)


def test_a_gap_makes_the_count_begin_anew_whoever_comes_after_it(db: Database) -> None:
    for holder in ("one", "two"):
        hold(db, "one")
        wait(db, EVERY)
        assert hold(db, "one") == pytest.approx(EVERY, abs=2)
        wait(db, 3 * EVERY + 1)
        assert hold(db, holder) == pytest.approx(0, abs=2)
        leadership.resign(db, holder)
        wait(db, 4 * EVERY)


def test_a_holder_that_resigns_lets_another_go_on_at_once(db: Database) -> None:
    hold(db, "one")
    wait(db, EVERY)
    leadership.resign(db, "two")  # not its to give away
    assert hold(db, "two") is None
    leadership.resign(db, "one")
    assert hold(db, "two") == pytest.approx(EVERY, abs=2)
    assert hold(db, "one") is None


def test_nothing_is_steady_before_somebody_did_the_duty_for_so_long(db: Database) -> None:
    assert not steady(db, 0)
    hold(db, "one")
    assert steady(db, -1)
    assert not steady(db, 20)
    wait(db, EVERY)
    hold(db, "one")
    wait(db, EVERY)
    assert hold(db, "one") == pytest.approx(2 * EVERY, abs=2)
    assert steady(db, 20)
    assert not steady(db, 40)


def test_nothing_is_steady_while_nobody_has_the_duty(db: Database) -> None:
    hold(db, "one")
    wait(db, EVERY)
    hold(db, "one")
    assert steady(db, 10)
    wait(db, 2 * EVERY + 1)
    assert not steady(db, 10)
    leadership.resign(db, "one")
    assert not steady(db, 10)


def test_who_does_not_get_the_duty_writes_nothing(db: Database) -> None:
    hold(db, "one")
    with heard(db) as said:
        assert hold(db, "two") is None
    assert {statement.split()[0] for statement, _ in said} <= {"BEGIN", "SELECT"}
