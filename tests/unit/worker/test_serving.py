"""The rules of a server against what queueing theory knows, on a simulated clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests import queues
from worker import arrivals, serving
from worker.serving import Rules


def served(
    times: Sequence[float] | arrivals.Seconds,
    items: Sequence[int] | None = None,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    instances: int = 1,
    service: Callable[[Sequence[int]], float] = lambda _: 1.0,
    give_up_s: float = math.inf,
) -> tuple[serving.Served, queues.Simulated]:
    workers = queues.Simulated(service)
    wanted = np.array(items if items is not None else range(len(times)))
    return serving.run(np.array(times), wanted, rules, instances, workers, give_up_s), workers


def under_load(load: float, count: int = 12_000, seed: int = 1, **more: object) -> serving.Served:
    """An M/D/1 queue with a service time of 1 s."""
    return served(arrivals.poisson(load, count, seed), **more)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_instance_of_fixed_service_time_is_an_m_d_1_queue(load: float) -> None:
    waits = under_load(load).latency_s - 1.0

    assert waits.mean() == pytest.approx(queues.mean_wait(load, 1.0), rel=0.1)
    for t in (0.0, 0.5, 1.5, 3.0):
        assert np.mean(waits <= t + 1e-9) == pytest.approx(queues.waits_at_most(t, load, 1.0), abs=0.02)


def test_the_formula_itself_agrees_with_pollaczek_and_khinchine() -> None:
    t = np.linspace(0, 20, 4001)
    late = [1 - queues.waits_at_most(float(x), 0.6, 1.0) for x in t]

    assert np.trapezoid(late, t) == pytest.approx(queues.mean_wait(0.6, 1.0), rel=1e-3)


def test_a_stall_is_in_the_latency_of_all_that_came_meanwhile() -> None:
    found, _ = served([0, 1, 2, 3, 4], service=lambda items: 10.0 if 0 in items else 0.1)

    np.testing.assert_allclose(found.latency_s, [10, 9.1, 8.2, 7.3, 6.4])


def test_requests_are_answered_in_their_order_by_whichever_instance_is_free() -> None:
    found, workers = served([0, 0.1, 0.2, 0.3], instances=2)

    assert [items for _, items in workers.asked] == [(0,), (1,), (2,), (3,)]
    assert found.instance.tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(found.answered_s, [1, 1.1, 2, 2.1])


def test_a_batch_takes_what_waits_up_to_its_most() -> None:
    _, workers = served([0, 0.1, 0.2, 0.3, 0.4], rules=Rules(max_batch=3))

    assert [items for _, items in workers.asked] == [(0,), (1, 2, 3), (4,)]


def test_a_free_instance_waits_for_a_batch_to_fill_but_not_for_long() -> None:
    rules = Rules(max_batch=3, max_wait_s=0.5)

    full, early = served([0, 0.1, 0.2], rules=rules)
    alone, late = served([0, 0.1, 0.7], rules=rules)

    assert (early.asked, full.answered_s.tolist()) == ([(0, (0, 1, 2))], [1.2, 1.2, 1.2])
    assert late.asked == [(0, (0, 1)), (0, (2,))]
    np.testing.assert_allclose(alone.latency_s, [1.5, 1.4, 1.8])


def test_the_cache_answers_at_once_what_was_answered_before_and_forgets_the_least_recent() -> None:
    times = [0, 2, 4, 6, 8, 10, 12]
    found, workers = served(times, [7, 8, 7, 9, 8, 7, 9], Rules(cache=2))

    assert [items for _, items in workers.asked] == [(7,), (8,), (9,), (8,), (7,), (9,)]
    assert found.latency_s.tolist() == [1, 1, 0, 1, 1, 1, 1]
    assert found.instance.tolist().count(-1) == 1
    assert found.hit_share == 1 / 7


def test_a_result_that_is_not_there_yet_is_no_hit() -> None:
    assert served([0, 0.5], [7, 7], Rules(cache=2))[0].hit_share == 0.0


def test_a_skewed_mix_hits_as_often_as_its_weights_say_once_all_of_them_fit() -> None:
    items = arrivals.mix(1000, 1.0, 20_000, seed=3)
    found, _ = served(
        arrivals.poisson(1.0, 20_000, 3).tolist(), items.tolist(), Rules(cache=1000), service=lambda _: 1e-6
    )

    assert found.hit_share == pytest.approx(1 - len(set(items.tolist())) / 20_000, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_rate_beyond_the_capacity_is_overload_with_the_backlogs_growth(seed: int) -> None:
    found = under_load(1.25, 700, seed)

    assert found.overloaded
    assert found.backlog_per_s == pytest.approx(0.25, abs=0.15)
    assert found.answered_per_s == pytest.approx(1.0, abs=0.05)


def test_a_rate_below_the_capacity_is_none_however_close() -> None:
    assert not any(under_load(0.9, 400, seed).overloaded for seed in range(25))


def test_at_the_capacity_the_rule_errs_about_as_seldom_as_it_says() -> None:
    assert sum(under_load(1.0, 400, seed).overloaded for seed in range(40)) <= 6


def test_hits_are_no_load() -> None:
    found, _ = served(arrivals.poisson(50.0, 2000, 1).tolist(), [0] * 2000, Rules(cache=1))

    assert found.hit_share > 0.9
    assert not found.overloaded


def test_what_is_not_begun_in_time_stays_unanswered() -> None:
    found, workers = served([0, 0, 0, 0, 9], give_up_s=2.5)

    assert len(workers.asked) == 3
    assert np.isnan(found.answered_s).tolist() == [False, False, False, True, True]
    assert found.latency_s[2] == 3.0, "what was begun is waited for"
