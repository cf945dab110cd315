from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from scheduler.interop import unpaired


def test_the_interval_is_that_of_welchs_test_on_the_logs() -> None:
    baseline, strategy = [0.021, 0.019, 0.024, 0.020], [0.0101, 0.0098, 0.0109]
    found = unpaired.gain(baseline, strategy)
    tested = scipy.stats.ttest_ind(np.log(baseline), np.log(strategy), equal_var=False)
    low, high = tested.confidence_interval(0.95)
    assert found.value == pytest.approx(math.exp(np.log(baseline).mean() - np.log(strategy).mean()))
    assert [found.low, found.high] == pytest.approx([math.exp(low), math.exp(high)])


def test_the_interval_covers_the_true_ratio_of_sides_that_scatter_unlike() -> None:
    draw = np.random.default_rng(6)
    rounds, hits = 400, 0
    for _ in range(rounds):
        baseline = 0.020 * np.exp(draw.normal(0, 0.08, 6))
        strategy = 0.010 * np.exp(draw.normal(0, 0.02, 4))
        found = unpaired.gain(list(baseline), list(strategy))
        assert found.low is not None and found.high is not None
        hits += found.low <= 2.0 <= found.high
    assert 0.917 <= hits / rounds <= 0.983  # 95 %, and three standard errors of 400 rounds


def test_one_process_on_a_side_gives_a_gain_without_an_interval() -> None:
    found = unpaired.gain([0.020, 0.022], [0.010])
    assert found.value == pytest.approx(math.sqrt(0.020 * 0.022) / 0.010)
    assert (found.low, found.high) == (None, None)


def test_processes_that_agree_to_the_last_digit_claim_no_exact_gain() -> None:
    found = unpaired.gain([0.020, 0.020], [0.010, 0.010])
    assert found.value == pytest.approx(2.0)
    assert (found.low, found.high) == (None, None)


def test_a_side_without_a_time_is_refused() -> None:
    with pytest.raises(ValueError, match="both sides"):
        unpaired.gain([0.020], [])
