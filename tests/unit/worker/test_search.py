"""The search for the highest rate against a system whose answer is known by formula."""

from __future__ import annotations

import numpy as np
import pytest

from tests import queues
from worker import arrivals, search, serving

SERVICE_S = 0.010


def attempt(queries: int, seed: int = 0) -> search.Try:
    """One run of a simulated M/D/1 queue."""

    def run(rate: float, number: int) -> search.Trial:
        times = arrivals.poisson(rate, queries, seed=1000 * seed + number)
        items = np.zeros(queries, dtype=np.int64)
        found = serving.run(times, items, serving.Rules(), 1, queues.Simulated(lambda _: SERVICE_S))
        return search.Trial(latencies_s=found.latency_s[found.settled].tolist(), overloaded=found.overloaded)

    return run


@pytest.mark.parametrize(("bound_s", "q"), [(0.030, 0.99), (0.050, 0.95)])
def test_the_rate_found_for_an_m_d_1_queue_is_the_formulas(bound_s: float, q: float) -> None:
    known = queues.highest_rate(bound_s, q, SERVICE_S)

    found = [search.highest(attempt(1000, seed), bound_s=bound_s, q=q, first=50.0) for seed in range(3)]

    rates = [one.holds.rate_per_s for one in found if one.holds is not None]
    assert np.median(rates) == pytest.approx(known, rel=0.08)  # one search of 1500 queries a run: ±4 to 7 % (1 sd)
    assert all(one.width <= search.WIDTH for one in found)


def test_a_bound_below_the_service_time_is_met_by_no_rate() -> None:
    found = search.highest(attempt(200), bound_s=0.9 * SERVICE_S, q=0.95, first=1.0)

    assert found.holds is None
    assert not found.bracketed
    assert found.misses is not None
    assert found.misses.rate_per_s <= 2 / search.SPAN


def test_a_system_that_never_misses_ends_at_the_highest_rate_that_was_asked() -> None:
    found = search.highest(
        lambda rate, number: search.Trial(latencies_s=[0.001] * 700, overloaded=False), bound_s=1.0, q=0.99, first=1.0
    )

    assert found.misses is None
    assert found.holds is not None
    assert found.holds.rate_per_s == search.SPAN


def test_overload_is_a_miss_without_a_latency_whatever_the_run_showed() -> None:
    trial = search.Trial(latencies_s=[0.001] * 700, overloaded=True)

    found = search.probe(lambda rate, number: trial, 5.0, bound_s=1.0, q=0.99)

    assert (found.holds, found.value_s, found.overloaded) == (False, None, True)


def test_one_run_is_enough_where_the_bound_is_far_and_more_are_made_where_it_is_near() -> None:
    asked: list[int] = []

    def at(late: int) -> search.Try:
        def run(rate: float, number: int) -> search.Trial:
            asked.append(number)
            return search.Trial(latencies_s=[2.0] * late + [0.5] * (700 - late), overloaded=False)

        return run

    outcomes = [search.probe(at(late), 5.0, bound_s=1.0, q=0.99) for late in (0, 6, 8, 60)]

    assert [one.holds for one in outcomes] == [True, True, False, False]
    assert [one.certain for one in outcomes] == [True, False, False, True]
    assert [one.queries // 700 for one in outcomes] == [1, search.RUNS, search.RUNS, 1]


def test_a_search_whose_time_is_over_tells_how_far_it_came() -> None:
    left = iter(range(4))

    def run(rate: float, number: int) -> search.Trial:
        if next(left, None) is None:
            raise search.TimeIsOver
        return attempt(400)(rate, number)

    found = search.highest(run, bound_s=0.030, q=0.95, first=1.0)

    assert (found.in_time, found.bracketed, found.misses) == (False, False, None)
    assert found.holds is not None
    assert found.holds.rate_per_s == 2.0 ** (len(found.probes) - 1)


def test_requests_that_were_never_answered_are_late() -> None:
    trial = search.Trial(latencies_s=[0.1] * 90 + [float("inf")] * 10, overloaded=False)

    found = search.probe(lambda rate, number: trial, 1.0, bound_s=1.0, q=0.95)

    assert (found.holds, found.overruns) == (False, 10 * found.queries // 100)
    assert found.value_s is None
