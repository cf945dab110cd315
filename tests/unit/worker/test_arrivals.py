"""Poisson arrivals and the skewed mix against their distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from worker import arrivals


def test_gaps_are_exponential_with_the_rates_mean() -> None:
    gaps = np.diff(arrivals.poisson(250.0, 20_000, seed=1), prepend=0.0)

    assert stats.kstest(gaps, "expon", args=(0, 1 / 250)).pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03, "one gap tells nothing about the next"


def test_counts_in_equal_times_are_poisson() -> None:
    times = arrivals.poisson(50.0, 50_000, seed=2)
    counts = np.bincount(times[times < 900].astype(int), minlength=900)
    most = 80
    expected = 900 * stats.poisson.pmf(np.arange(20, most), 50)
    seen = np.array([(counts == number).sum() for number in range(20, most)])
    kept = expected > 5
    rest = 900 - expected[kept].sum(), 900 - seen[kept].sum()

    found = stats.chisquare([*seen[kept], rest[1]], [*expected[kept], rest[0]])

    assert found.pvalue > 0.01
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.15)


def test_one_seed_gives_one_pattern_at_every_rate_and_another_seed_another() -> None:
    slow, fast = arrivals.poisson(10.0, 100, seed=3), arrivals.poisson(40.0, 100, seed=3)

    np.testing.assert_allclose(slow, 4 * fast)
    assert not np.allclose(slow, arrivals.poisson(10.0, 100, seed=4))


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_no_requests_come_at_no_rate(rate: float) -> None:
    with pytest.raises(ValueError, match="rate above 0"):
        arrivals.poisson(rate, 10, seed=0)


@pytest.mark.parametrize("exponent", [None, 1.0, 1.5])
def test_the_mix_follows_zipfs_law(exponent: float | None) -> None:
    seen = np.bincount(arrivals.mix(50, exponent, 40_000, seed=5), minlength=50)

    weights = np.arange(1, 51) ** -(exponent or 0.0)
    assert stats.chisquare(seen, 40_000 * weights / weights.sum()).pvalue > 0.01
