from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from scheduler import ratios
from scheduler.compare import Comparison
from scheduler.ratios import Estimate, Product
from storage import statistics
from tests import chains, fleets


def row(gain: float, low: float | None, high: float | None, pairs: int = 6) -> Comparison:
    view = fleets.latency(fleets.EPYC, gain, gain_low=low, gain_high=high, pairs=pairs)
    (found,) = chains.compared([view])
    return found


def test_a_gains_variance_is_read_back_from_its_interval() -> None:
    half = scipy.stats.t.ppf(0.975, 5) * 0.02
    found = ratios.gain(row(2.0, 2.0 * math.exp(-half), 2.0 * math.exp(half)))
    assert found is not None
    assert [found.log, found.variance, found.df] == pytest.approx([math.log(2.0), 0.02**2, 5])


def test_one_estimate_alone_keeps_its_interval() -> None:
    found = ratios.gain(row(2.0, 1.9, 2.1053))
    assert found is not None
    interval = Product().times("a", found).interval()
    assert [interval.low, interval.high] == pytest.approx([1.9, 2.1053], rel=1e-4)


def test_a_ratio_is_welchs_interval_of_the_difference_of_logs() -> None:
    random = np.random.default_rng(1)
    one, other = random.normal(1.0, 0.05, 6), random.normal(0.3, 0.2, 9)
    estimates = [
        Estimate(log=float(x.mean()), variance=float(x.var(ddof=1) / len(x)), df=len(x) - 1) for x in (one, other)
    ]
    ratio = Product().times("one", estimates[0]).over("other", estimates[1])
    found, test = ratio.interval(), scipy.stats.ttest_ind(one, other, equal_var=False)
    expected = test.confidence_interval(0.95)
    assert ratio.p() == pytest.approx(test.pvalue, rel=1e-6)
    assert math.log(found.low or 0) == pytest.approx(expected.low, rel=1e-6)
    assert math.log(found.high or 0) == pytest.approx(expected.high, rel=1e-6)


def test_what_is_multiplied_and_divided_by_itself_is_exactly_one() -> None:
    noisy = Estimate(log=1.0, variance=0.5, df=3)
    assert Product().times("a", noisy).over("a", noisy) == Product()
    whole = Product().interval()
    assert (whole.value, whole.low, whole.high) == (1.0, 1.0, 1.0)


def test_a_chain_of_ratios_over_one_another_is_the_last_gain_itself() -> None:
    one, other = Estimate(log=0.5, variance=0.01, df=4), Estimate(log=0.9, variance=0.02, df=7)
    chained = Product().times("one", one).times("other", other).over("one", one)
    assert chained == Product().times("other", other)


def test_an_estimate_without_a_variance_leaves_a_product_without_an_interval() -> None:
    found = Product().times("a", Estimate(log=0.7, variance=None)).times("b", Estimate(log=0.1, variance=0.1, df=5))
    assert found.interval().value == pytest.approx(math.exp(0.8))
    assert (found.interval().low, found.p()) == (None, None)


def test_a_gain_of_one_pair_has_no_variance() -> None:
    found = ratios.gain(row(2.0, None, None, pairs=1))
    assert found is not None
    assert found.variance is None


def test_jobs_that_are_combined_have_fewer_degrees_of_freedom() -> None:
    found = ratios.gain(dataclasses.replace(row(2.0, 1.9, 2.1, pairs=18), job_ids=("a", "b", "c")))
    assert found is not None
    assert found.df == 15


@pytest.mark.parametrize("spreads", [(0.05, 0.05), (0.02, 0.15)])
def test_ratios_of_simulated_gains_cover_at_their_rate(spreads: tuple[float, float]) -> None:
    random, hits, runs = np.random.default_rng(3), 0, 2000
    truth = Estimate(log=math.log(2.0), variance=0.0)
    for _ in range(runs):
        gains = []
        for middle, spread in zip((math.log(3.0), math.log(1.5)), spreads, strict=True):
            logs = random.normal(middle, spread, 6)
            rounds = [statistics.PairedRound(pair=at, round=0, log_gain=log) for at, log in enumerate(logs)]
            found = statistics.gain_interval(rounds).interval
            gains.append(ratios.estimate(found.value, found.low, found.high, df=5))
        p = Product().times("a", gains[0]).over("b", gains[1]).over("truth", truth).p()
        hits += p is not None and p >= 0.05  # the interval holds the truth
    assert 0.935 <= hits / runs <= 0.97  # three standard errors of 2,000 runs around 95 %, and a little for Welch


def test_a_product_differs_from_one_where_its_interval_says_so() -> None:
    for log, variance, df in (
        (0.1, 0.01, 5.0),
        (0.2, 0.01, 5.0),
        (0.3, 0.01, 5.0),
        (0.3, 0.01, 2.0),
        (-0.5, 0.01, 3.0),
    ):
        found = Product().times("a", Estimate(log=log, variance=variance, df=df))
        interval = found.interval()
        assert interval.low is not None
        assert interval.high is not None
        assert found.differs() == (interval.low > 1 or interval.high < 1)
    assert Product().times("a", Estimate(log=9.0, variance=None)).differs() is None


def test_many_ratios_are_tested_as_each_alone() -> None:
    random = np.random.default_rng(3)
    logs, errors = random.normal(0, 0.05, (2, 400)), random.uniform(0.005, 0.05, (2, 400))
    sides = [
        [Estimate(log=float(log), variance=float(e) ** 2, df=float(df)) for log, e, df in zip(*side, strict=True)]
        for side in zip(logs, errors, random.integers(1, 30, (2, 400)), strict=True)
    ]
    sides[0][:3] = [Estimate(log=0.3, variance=0.0), Estimate(log=0.3, variance=0.0), Estimate(log=1.0, variance=None)]
    sides[1][:2] = [Estimate(log=0.3, variance=0.0), Estimate(log=0.2, variance=0.0)]
    known = [found for a, b in zip(*sides, strict=True) if (found := _alone(a, b)) is not None]
    assert ratios.differ(ratios.many(sides[0]), ratios.many([*sides[1]])) == known
    assert 50 < sum(known) < len(known) - 50 == 349


def _alone(one: Estimate, other: Estimate) -> bool | None:
    return Product().times("one", one).over("other", other).differs()
