from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import scipy.stats

from storage import distributions, estimates
from storage.estimates import Component, Estimate

Samples = npt.NDArray[np.float64]


def difference(earlier: Samples, later: Samples, *shared: Component) -> estimates.Difference:
    return estimates.difference(estimates.of(earlier.tolist()), estimates.of(later.tolist()), *shared)


@pytest.mark.parametrize("df", [1, 3.7, 40, 1e5])
@pytest.mark.parametrize("t", [-6.0, -0.4, 0.0, 0.4, 6.0, 40.0])
def test_tails_of_students_t_equal_scipys(t: float, df: float) -> None:
    assert distributions.t_upper_tail(t, df) == pytest.approx(scipy.stats.t.sf(t, df), rel=1e-8, abs=1e-200)


@pytest.mark.parametrize(("sizes", "scales"), [((6, 6), (1, 1)), ((4, 12), (0.2, 3)), ((2, 3), (1, 5))])
def test_welchs_test_equals_scipys(sizes: tuple[int, int], scales: tuple[float, float]) -> None:
    rng = np.random.default_rng(5)
    earlier, later = (rng.normal(place, scales[place], sizes[place]) for place in (0, 1))
    found = difference(earlier, later)
    known = scipy.stats.ttest_ind(later, earlier, equal_var=False)
    assert (found.p, found.df) == pytest.approx((known.pvalue, known.df))
    assert found.interval(0.95) == pytest.approx(tuple(known.confidence_interval(0.95)))


def test_a_margin_shifts_the_one_sided_null() -> None:
    rng = np.random.default_rng(6)
    earlier, later = rng.normal(0, 1, 8), rng.normal(1, 2, 6)
    found = difference(earlier, later)
    above = scipy.stats.ttest_ind(later - 0.3, earlier, equal_var=False, alternative="greater")
    below = scipy.stats.ttest_ind(later + 0.3, earlier, equal_var=False, alternative="less")
    assert found.p_above(0.3) == pytest.approx(above.pvalue)
    assert found.p_below(-0.3) == pytest.approx(below.pvalue)


def test_samples_without_spread_are_decided_by_their_difference() -> None:
    found = difference(np.array([1.0, 1.0]), np.array([1.5, 1.5]))
    assert (found.p, found.p_above(0.4), found.p_above(0.5), found.p_above(0.6)) == (0.0, 0.0, 0.5, 1.0)
    assert difference(np.array([1.0, 1.0]), np.array([1.0, 1.0])).p == 1.0


def test_a_mean_needs_two_values() -> None:
    with pytest.raises(ValueError, match="1 values tell no variance"):
        estimates.of([0.1])
    with pytest.raises(ValueError, match="no job"):
        estimates.combined([])


def skewed(rng: np.random.Generator, pairs: int) -> Samples:
    """Log times of sessions with a long tail to the slow side."""
    return rng.gamma(2.0, 0.02, pairs)


def autocorrelated(rng: np.random.Generator, pairs: int) -> Samples:
    """Each session the mean of rounds that depend on one another, AR(1) with 0.8, around what it was born with."""
    rounds = scipy.signal.lfilter([1], [1, -0.8], rng.normal(0, 0.01, (pairs, 60)))[:, 30:]
    found: Samples = rng.normal(0.1, 0.02, pairs) + rounds.mean(axis=1)
    return found


@pytest.mark.parametrize("draw", [skewed, autocorrelated])
@pytest.mark.parametrize("pairs", [6, 12])
def test_the_interval_of_a_difference_covers_on_skewed_and_autocorrelated_samples(draw: object, pairs: int) -> None:
    assert callable(draw)
    rng = np.random.default_rng(8)
    held, trials = 0, 1500
    for _ in range(trials):
        low, high = difference(draw(rng, pairs), draw(rng, pairs) + 0.05).interval(0.95)
        held += low <= 0.05 <= high
    assert 0.94 <= held / trials <= 0.985


def test_rounds_taken_as_the_unit_would_not_cover_which_is_why_sessions_are() -> None:
    rng = np.random.default_rng(9)
    held = 0
    for _ in range(300):
        births = rng.normal(0, 0.02, (2, 6, 1))
        earlier, later = births + rng.normal(0, 0.01, (2, 6, 10))
        low, high = difference(earlier.ravel(), later.ravel()).interval(0.95)
        held += low <= 0 <= high
    assert held / 300 < 0.7


@pytest.mark.parametrize(("slowdown", "least", "most"), [(0.0, 0.0, 0.01), (0.03, 0.03, 0.07), (0.09, 0.9, 1.0)])
def test_a_margin_is_exceeded_falsely_at_the_tests_level_only_and_truly_mostly(
    slowdown: float, least: float, most: float
) -> None:
    rng = np.random.default_rng(10)
    margin, shift = math.log1p(0.03), math.log1p(slowdown)
    found = [difference(skewed(rng, 8), skewed(rng, 8) + shift).p_above(margin) <= 0.05 for _ in range(1500)]
    assert least <= np.mean(found) <= most


def drifting(rng: np.random.Generator, jobs: int, drift: float) -> list[Samples]:
    return [rng.normal(0, drift) + rng.normal(0, 0.01, 6) for _ in range(jobs)]


def test_a_machines_drift_between_jobs_makes_false_changes_unless_it_counts() -> None:
    rng = np.random.default_rng(11)
    blind, seeing, trials = 0, 0, 1000
    for _ in range(trials):
        earlier, later = drifting(rng, 2, 0.02)
        controls = np.array([job.mean() for job in drifting(rng, 9, 0.02)])
        drift = Component(variance=2 * float(controls.var(ddof=1)), df=8)  # of a difference: once for each side
        blind += difference(earlier, later).p <= 0.05
        seeing += difference(earlier, later, drift).p <= 0.05
    assert blind / trials > 0.4
    assert seeing / trials <= 0.065


def test_jobs_that_disagree_are_the_random_unit() -> None:
    near = [Estimate(mean=mean, variance=1e-4, df=5) for mean in (1.0, 1.001, 0.999)]
    far = [Estimate(mean=mean, variance=1e-4, df=5) for mean in (1.0, 1.2, 0.8)]
    assert estimates.combined(near).df == 15
    assert estimates.combined(near).variance == pytest.approx(1e-4 / 3)
    assert (estimates.combined(far).df, estimates.combined(far).variance) == pytest.approx((2, 0.04 / 3))
