from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from storage import distributions, records, statistics
from storage.statistics import PairedRound


def simulated_rounds(
    rng: np.random.Generator, *, pairs: int, rounds: int, between: float, within: float, gain: float = 1.0
) -> list[PairedRound]:
    effects = rng.normal(0, between, pairs)
    noise = rng.normal(0, within, (pairs, rounds))
    return [
        PairedRound(pair=p, round=r, log_gain=math.log(gain) + effects[p] + noise[p, r])
        for p in range(pairs)
        for r in range(rounds)
    ]


@pytest.mark.parametrize("df", [1, 2, 4, 7.5, 39, 1e5])
@pytest.mark.parametrize("p", [0.005, 0.3, 0.5, 0.9, 0.975, 0.9995])
def test_student_quantiles_equal_scipys(p: float, df: float) -> None:
    assert statistics.t_quantile(p, df) == pytest.approx(scipy.stats.t.ppf(p, df), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(("value", "df1", "df2"), [(0.2, 1, 8), (1.0, 2, 12), (7.5, 4, 3)])
def test_fishers_tail_equals_scipys(value: float, df1: float, df2: float) -> None:
    assert distributions.f_upper_tail(value, df1, df2) == pytest.approx(scipy.stats.f.sf(value, df1, df2), rel=1e-8)


@pytest.mark.parametrize("p", [0.01, 0.25, 0.9])
@pytest.mark.parametrize(("df1", "df2"), [(1, 2), (1, 10), (1, 2000), (2, 3000), (4, 7.5), (30, 3)])
def test_fishers_critical_values_equal_scipys(p: float, df1: float, df2: float) -> None:
    assert distributions.f_critical(p, df1, df2) == pytest.approx(scipy.stats.f.isf(p, df1, df2), rel=1e-8)


@pytest.mark.parametrize(("pairs", "between"), [(3, 0.05), (5, 0.05), (5, 0.0), (12, 0.2)])
def test_the_gain_interval_covers_at_its_rate_when_pairs_differ_by_what_they_were_born_with(
    pairs: int, between: float
) -> None:
    rng = np.random.default_rng(7)
    trials, held = 1500, 0
    for _ in range(trials):
        rounds = simulated_rounds(rng, pairs=pairs, rounds=4, between=between, within=0.03, gain=2.4)
        interval = statistics.gain_interval(rounds).interval
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= 2.4 <= interval.high
    assert held / trials == pytest.approx(0.95, abs=0.02)


def test_a_single_pair_gives_a_gain_without_an_interval() -> None:
    estimate = statistics.gain_interval([PairedRound(pair=0, round=r, log_gain=math.log(2)) for r in range(5)])
    assert estimate.interval.value == pytest.approx(2)
    assert (estimate.interval.low, estimate.interval.high, estimate.precision) == (None, None, None)


def test_the_precision_is_the_half_width_of_the_interval_on_the_log_scale() -> None:
    rounds = [PairedRound(pair=p, round=0, log_gain=x) for p, x in enumerate((0.1, 0.2, 0.3))]
    half = scipy.stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert statistics.gain_interval(rounds).precision == pytest.approx(math.expm1(half))


def test_variance_components_are_found_back_from_pairs_of_unequal_size() -> None:
    rng = np.random.default_rng(3)
    rounds = simulated_rounds(rng, pairs=3000, rounds=6, between=0.05, within=0.1)
    estimate = statistics.gain_interval([one for one in rounds if one.round < 2 + one.pair % 5])
    assert math.sqrt(estimate.variance_between) == pytest.approx(0.05, rel=0.1)
    assert math.sqrt(estimate.variance_within) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("between_jobs", "least"), [(0.0, 0.94), (0.011, 0.94), (0.022, 0.91)])
def test_the_combined_gain_of_three_replicas_covers(between_jobs: float, least: float) -> None:
    rng = np.random.default_rng(2)  # a job's own standard error is 0.05 / sqrt(5) = 0.022
    trials, held = 1000, 0
    for _ in range(trials):
        jobs = [
            simulated_rounds(rng, pairs=5, rounds=1, between=0.05, within=0.0, gain=2 * math.exp(shift))
            for shift in rng.normal(0, between_jobs, 3)
        ]
        found = statistics.combined_gain([statistics.gain_interval(job) for job in jobs])
        held += (found.low or 9) <= 2 <= (found.high or 0)
    assert least <= held / trials <= 0.99


def test_replicas_that_disagree_give_a_wider_gain_than_any_of_them() -> None:
    rng = np.random.default_rng(4)
    jobs = [simulated_rounds(rng, pairs=5, rounds=2, between=0.005, within=0.0, gain=gain) for gain in (2.0, 2.4)]
    estimates = [statistics.gain_interval(job) for job in jobs]
    found = statistics.combined_gain(estimates)
    assert (found.low or 9) < min(one.interval.low or 0 for one in estimates)
    assert (found.high or 0) > max(one.interval.high or 9 for one in estimates)
    spread = np.log([one.interval.value for one in estimates]).std(ddof=1) / math.sqrt(2)
    half = scipy.stats.t.ppf(0.975, df=1) * spread  # two jobs are the random unit now
    assert math.log((found.high or 0) / found.value) == pytest.approx(half)


def estimate_with(between: float, within: float, pairs: int = 5) -> statistics.GainEstimate:
    interval = records.Interval(value=1, low=0.9, high=1.1)
    return statistics.GainEstimate(
        interval=interval, pairs=pairs, rounds=20, variance_between=between, variance_within=within
    )


def test_the_next_step_follows_kalibera_and_jones_optimum() -> None:
    noisy_rounds = estimate_with(between=0.01, within=0.04)  # best: sqrt(4 × 4) = 4 rounds
    assert statistics.next_step(noisy_rounds, 4, 1, rounds_in_last_pair=3) == "round"
    assert statistics.next_step(noisy_rounds, 4, 1, rounds_in_last_pair=4) == "pair"


def test_no_variance_between_pairs_does_not_keep_one_pair_running_for_ever() -> None:
    flat = estimate_with(between=0.0, within=0.04)
    assert statistics.next_step(flat, 4, 1, rounds_in_last_pair=10) == "round"
    assert statistics.next_step(flat, 4, 1, rounds_in_last_pair=statistics.MAX_ROUNDS) == "pair"


def test_the_first_pair_is_followed_by_a_second_whatever_the_costs() -> None:
    assert statistics.next_step(estimate_with(0.0, 0.04, pairs=1), 1000, 1, rounds_in_last_pair=2) == "pair"


def test_a_leg_is_the_mean_over_distinct_calls_of_each_calls_median() -> None:
    short, long = (10, 12, 900), (100, 101, 99)  # one interruption in the short call
    samples = [x for pair in zip(short, long, strict=True) for x in pair]
    assert statistics.leg_time_ns(samples, items=2) == (12 + 100) / 2


def test_a_leg_that_misses_a_distinct_call_has_no_time() -> None:
    with pytest.raises(ValueError, match="3 samples do not cover 4"):
        statistics.leg_time_ns([1, 2, 3], items=4)


@pytest.mark.parametrize(("q", "needed"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662)])
def test_withheld_minima_are_loadgens(q: float, needed: int) -> None:
    assert statistics.percentile(np.ones(needed), q).withheld is None
    withheld = statistics.percentile(np.ones(needed - 1), q)
    assert withheld.value_s is None
    assert withheld.withheld == f"{needed - 1} samples, {needed} needed"


@pytest.mark.parametrize(("q", "n"), [(0.5, 40), (0.9, 100), (0.95, 400)])
def test_percentile_intervals_cover_on_skewed_samples(q: float, n: int) -> None:
    rng = np.random.default_rng(11)
    truth = float(scipy.stats.lognorm.ppf(q, 0.8))
    trials, held = 2000, 0
    for sample in rng.lognormal(0, 0.8, (trials, n)):
        found = statistics.percentile(sample, q)
        assert found.low_s is not None
        assert found.high_s is not None
        held += found.low_s <= truth <= found.high_s
    assert 0.94 <= held / trials <= 0.985  # discrete ranks: at least the stated rate, and not far above it


def calls(rng: np.random.Generator, pairs: int, each: int) -> tuple[np.ndarray, list[int]]:
    """Skewed times of calls that depend on the one before (AR(1) with 0.6), around what their pair was born with."""
    logs = scipy.signal.lfilter([0.8], [1, -0.6], rng.normal(0, 0.2, (pairs, each + 30)))[:, 30:]
    times = np.exp(rng.normal(0, 0.05, (pairs, 1)) + logs)
    return times.ravel(), [pair for pair in range(pairs) for _ in range(each)]


@pytest.mark.parametrize(("pairs", "q"), [(5, 0.5), (5, 0.95), (12, 0.5), (12, 0.95)])
def test_percentile_intervals_cover_on_skewed_and_autocorrelated_calls_of_several_processes(
    pairs: int, q: float
) -> None:
    rng = np.random.default_rng(12)
    spread = math.hypot(0.05, 0.2)  # 0.8² ÷ (1 − 0.6²) leaves the noise's own variance
    truth, trials, held, blind = math.exp(scipy.stats.norm.ppf(q) * spread), 600, 0, 0
    for _ in range(trials):
        samples, groups = calls(rng, pairs, 120)
        found, independent = statistics.percentile(samples, q, groups=groups), statistics.percentile(samples, q)
        held += (found.low_s or 0) <= truth <= (found.high_s or 9)
        blind += (independent.low_s or 0) <= truth <= (independent.high_s or 9)
    assert held / trials >= 0.93
    assert blind < held


def test_one_pair_of_processes_gives_a_percentile_without_an_interval() -> None:
    found = statistics.percentile(np.arange(1.0, 201.0), 0.9, groups=[0] * 200)
    assert found.value_s == pytest.approx(180.1)
    assert (found.low_s, found.high_s) == (None, None)


def test_the_interval_of_a_percentile_is_the_narrowest_pair_of_ranks_with_at_most_2_5_percent_outside_each() -> None:
    found = statistics.percentile(np.arange(1.0, 65.0), 0.9)  # values are their own ranks
    low, high = int(found.low_s or 0), int(found.high_s or 0)
    below = scipy.stats.binom(64, 0.9).cdf
    assert below(low - 1) <= 0.025 < below(low)
    assert below(high - 1) >= 0.975 > below(high - 2)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 11), (20, 20), (7, 31), (400, 520), (1500, 1480)])
def test_mcnemar_equals_the_exact_binomial_test(b: int, c: int) -> None:
    expected = scipy.stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert statistics.mcnemar(b, c) == pytest.approx(expected, rel=1e-9)


def predictions(rows: int, wrong: range) -> list[int]:
    return [1 if row in wrong else 0 for row in range(rows)]


@pytest.mark.parametrize(
    ("baseline_wrong", "strategy_wrong", "verdict"),
    [
        (range(10), range(11), "no loss shown"),
        (range(0), range(8), "loses 0.8 points, p < 0.01"),
        (range(12), range(0), "gains 1.2 points, p < 0.001"),
    ],
)
def test_the_verdict_follows_the_paired_test(baseline_wrong: range, strategy_wrong: range, verdict: str) -> None:
    found = statistics.paired_accuracy(predictions(1000, baseline_wrong), predictions(1000, strategy_wrong), [0] * 1000)
    assert found.verdict == verdict
    assert found.difference == pytest.approx((len(baseline_wrong) - len(strategy_wrong)) / 1000)
    assert found.low < found.difference < found.high


def test_agreement_counts_rows_where_both_are_wrong_in_the_same_way() -> None:
    found = statistics.paired_accuracy([1, 1, 2, 0], [1, 2, 2, 0], [0, 0, 2, 0])
    assert (found.agreement, found.only_baseline_right, found.only_strategy_right) == (0.75, 0, 0)


def test_rows_of_unequal_number_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same rows"):
        statistics.paired_accuracy([0, 1], [0], [0, 1])


def test_the_interval_of_a_paired_difference_covers() -> None:
    rng = np.random.default_rng(5)
    trials, rows, held = 2000, 500, 0
    for lost, won, _ in rng.multinomial(rows, [0.03, 0.01, 0.96], trials):
        low, high = statistics._bonett_price(int(lost), int(won), rows)
        held += low <= -0.02 <= high
    assert 0.935 <= held / trials <= 0.975


@pytest.mark.parametrize(("correct", "rows"), [(0, 20), (953, 1000), (20, 20)])
def test_wilsons_interval_equals_scipys(correct: int, rows: int) -> None:
    expected = scipy.stats.binomtest(correct, rows).proportion_ci(0.95, method="wilson")
    found = statistics.wilson(correct, rows)
    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high)
