from __future__ import annotations

import math

import pytest

from scheduler.sessions import sessions
from storage import records
from tests import builders

MS = 1_000_000


def leg(side: records.Side, pair: int, milliseconds: float, **changes: object) -> records.Leg:
    ns = round(milliseconds * MS)
    given = {"position": 0 if side == "baseline" else 1, "items": 1, **changes}
    return builders.leg(pair=pair, samples_ns=(ns, ns, ns), side=side, **given)  # type: ignore[arg-type]


def test_a_pair_of_processes_is_one_session_with_its_own_gain() -> None:
    legs = [leg("baseline", pair, 10, round=0) for pair in (0, 1)] + [
        leg("strategy", pair, 4, round=0) for pair in (0, 1)
    ]
    found = sessions("latency", legs)
    assert [one.pair for one in found] == [0, 1]
    assert [math.exp(one.log_time) for one in found] == pytest.approx([0.004, 0.004])
    assert math.exp(found[0].log_gain) == pytest.approx(2.5)


def test_rounds_are_averaged_on_the_log_scale() -> None:
    legs = [leg(side, 0, time, round=number) for number, time in enumerate((2, 8)) for side in ("baseline", "strategy")]
    assert math.exp(sessions("latency", legs)[0].log_time) == pytest.approx(0.004)


def test_a_disturbed_round_does_not_count_where_there_are_others() -> None:
    bad = {"round": 1, "disturbed": ("load",)}
    legs = [
        leg("baseline", 0, 10),
        leg("strategy", 0, 4),
        leg("baseline", 0, 10, round=1),
        leg("strategy", 0, 90, **bad),
    ]
    assert math.exp(sessions("latency", legs)[0].log_time) == pytest.approx(0.004)
    assert math.exp(sessions("latency", legs[2:])[0].log_time) == pytest.approx(0.090)


def test_operations_that_are_timed_several_at_once_take_their_own_share() -> None:
    legs = [leg("baseline", 0, 8, repeats=4), leg("strategy", 0, 4, repeats=4)]
    assert math.exp(sessions("tensor", legs)[0].log_time) == pytest.approx(0.001)


def test_instances_side_by_side_add_up_to_one_pace() -> None:
    legs = [leg("baseline", 0, 4, instance=n) for n in (0, 1)] + [
        leg("strategy", 0, 2 * (n + 1), instance=n) for n in (0, 1)
    ]
    (found,) = sessions("throughput", legs)
    assert math.exp(-found.log_time) == pytest.approx(500 + 250)
    assert math.exp(found.log_gain) == pytest.approx(750 / 500)


def test_a_server_at_a_given_rate_has_mean_latencies_and_a_search_has_no_sessions() -> None:
    fixed = [leg("baseline", 0, 10), leg("strategy", 0, 5)]
    assert math.exp(sessions("server", fixed)[0].log_time) == pytest.approx(0.005)
    assert sessions("server", [*fixed, leg("strategy", 0, 7, round=1)]) == []


def test_a_pair_that_lacks_a_side_is_no_session() -> None:
    assert sessions("latency", [leg("baseline", 0, 10), leg("baseline", 1, 10), leg("strategy", 1, 4)])[0].pair == 1
    assert sessions("latency", []) == []
