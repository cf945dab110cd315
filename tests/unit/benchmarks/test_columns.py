from __future__ import annotations

import math

import pytest

from benchmarks.peers import columns
from benchmarks.peers.sweep import Case, Outcome, cases

FP32, INT8 = cases([64], [1])


def told(case: Case, median_s: float | None, **more: object) -> Outcome:
    return Outcome(case=case, wall_s=10.0, median_s=median_s, **more)  # type: ignore[arg-type]


def test_the_error_is_against_the_bare_loops_of_the_same_case() -> None:
    sweep = [told(FP32, 1.2), told(INT8, 0.45)]

    found = columns.row("tool", [sweep], {FP32: [1.0, 1.0], INT8: [0.5]})

    assert found.error == pytest.approx(math.sqrt(1.2 * 0.9) - 1)
    assert found.worst == pytest.approx(0.2)


def test_the_spread_of_a_gain_is_not_that_of_its_medians() -> None:
    # both sides are slower the second time: the medians move, the gain does not
    repetitions = [[told(FP32, 1.0), told(INT8, 0.5)], [told(FP32, 1.1), told(INT8, 0.55)]]

    found = columns.row("tool", repetitions, {})

    assert found.spread == pytest.approx(math.log(1.1) / math.sqrt(2))
    assert found.gain_spread == pytest.approx(0.0)
    assert found.target_s == pytest.approx(20.0)  # once is enough: what one gain takes


def test_a_case_without_a_number_is_told_and_counts_for_nothing() -> None:
    found = columns.row("tool", [[told(FP32, 1.0), told(INT8, None, reason="cannot quantize")]], {FP32: [1.0]})

    assert (found.answered, found.cases) == (1, 2)
    assert found.cases_per_hour == pytest.approx(180.0)
    assert found.reasons == ("cannot quantize",)


def test_a_spread_twice_as_wide_takes_four_times_as_long() -> None:
    assert columns.repeats_for(0.2, 0.05) == pytest.approx(4 * columns.repeats_for(0.1, 0.05))
    assert columns.repeats_for(0.001, 0.05) == 1.0
