"""When a loop has settled, on series that a test makes up."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import steady


def noisy(count: int, level: float, seed: int = 1) -> list[int]:
    draw = random.Random(seed)
    return [round(level * draw.uniform(0.97, 1.03)) for _ in range(count)]


def test_a_slow_beginning_is_cut() -> None:
    assert 30 <= steady.settled(noisy(30, 3e6) + noisy(170, 1e6)) <= 40


def test_a_loop_that_is_steady_from_its_start_keeps_most_of_it() -> None:
    cuts = [steady.settled(noisy(200, 1e6, seed)) for seed in range(40)]

    assert sum(cut <= 20 for cut in cuts) > 25


def test_at_most_half_is_cut_whatever_happens() -> None:
    assert steady.settled([1_000_000 - 4_000 * i for i in range(200)]) <= 100


def test_a_few_calls_cannot_tell_and_are_all_kept() -> None:
    assert steady.settled(noisy(19, 1e6)) == 0


def test_only_calls_wholly_within_the_time_count_and_their_rate_is_exact() -> None:
    begun, took = [0, 10, 20, 30, 40], [10] * 5

    part = steady.steady(begun, took, from_ns=5, until_ns=45, items=1)

    assert (part.first, part.last, part.window_ns) == (1, 4, 30)
    assert part.calls_per_s == pytest.approx(3 / 30e-9)


def test_a_part_of_a_pass_over_unlike_calls_is_left_out() -> None:
    begun, took = [0, 10, 40, 50, 80], [10, 30, 10, 30, 10]  # two items: a short and a long one

    part = steady.steady(begun, took, from_ns=0, until_ns=90, items=2)

    assert (part.first, part.last) == (0, 4)
    assert part.calls_per_s == pytest.approx(4 / 80e-9)


def test_without_a_call_in_the_time_there_is_no_rate() -> None:
    with pytest.raises(ValueError, match="no call"):
        steady.steady([0], [100], from_ns=0, until_ns=50, items=1)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60), st.integers(1, 5))
def test_what_counts_is_a_run_of_whole_passes_inside_the_time(took: list[int], items: int) -> None:
    begun = [sum(took[:i]) for i in range(len(took))]
    until = begun[-1] + took[-1]

    part = steady.steady(begun, took, begun[len(took) // 3], until, items)

    count = part.last - part.first
    assert 0 < count <= len(took)
    assert count % items == 0 or count < items
    assert part.window_ns == sum(took[part.first : part.last])
