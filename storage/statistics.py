"""Estimates and their intervals (pure): gains, percentiles, paired accuracy.

Sources, named again at each formula: Kalibera & Jones, "Rigorous benchmarking in reasonable time" (2013);
Searle, Casella & McCulloch, "Variance components" (1992); Hahn & Meeker, "Statistical intervals" (1991); Korn &
Graubard (1998);
MLPerf LoadGen's early stopping; McNemar (1947); Bonett & Price (2012); Wilson (1927); Hartung & Knapp (2001).
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from storage import distributions, estimates, records

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LEVEL = 0.95
"""Confidence level of every interval that is shown."""

MAX_ROUNDS = 20
"""Rounds in one pair, at most: a variance between pairs that is estimated at 0 from a few pairs is rarely 0."""

t_quantile = distributions.t_quantile
"""Quantile of Student's t: `t_quantile(p, df)`."""

Step = Literal["round", "pair"]
Numbers: TypeAlias = "npt.NDArray[np.floating] | Sequence[float]"


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedRound:
    """What one round of baseline and strategy in turn says about the gain."""

    pair: int  # which pair of fresh processes
    round: int  # which round of that pair
    log_gain: float  # ln(baseline time ÷ strategy time)


@dataclass(frozen=True, kw_only=True, slots=True)
class GainEstimate:
    """A gain with its interval, and where its variance lies."""

    interval: records.Interval  # baseline time ÷ strategy time; low and high None with one pair
    pairs: int
    rounds: int  # over all pairs
    variance_between: float  # of log gains, between pairs; 0.0 also where one pair cannot tell
    variance_within: float  # of log gains, between rounds; 0.0 also where no pair has a second round

    @property
    def precision(self) -> float | None:
        """Half width of the interval, relative (of the log gain); None without an interval."""
        if self.interval.low is None or self.interval.high is None:
            return None
        return math.expm1(math.log(self.interval.high / self.interval.low) / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedAccuracy:
    """Two strategies on the same rows."""

    rows: int
    agreement: float  # share of rows with the same prediction
    only_baseline_right: int
    only_strategy_right: int
    difference: float  # strategy's accuracy − baseline's, as a share
    p: float  # exact McNemar test, two-sided
    low: float  # 95 % interval of the difference
    high: float
    verdict: str  # "no loss shown", "loses 1.2 points, p < 0.01", "gains …"


def gain_interval(rounds: Sequence[PairedRound], level: float = LEVEL) -> GainEstimate:
    """The gain with a t interval on the pairs' mean log gains, `pairs - 1` degrees of freedom.

    The pair is the random unit: rounds of one pair share what their two processes were born with, so that only
    fresh pairs tell how far the gain moves. Raises ValueError without a round.
    """
    if not rounds:
        raise ValueError("a gain needs at least one round")
    import numpy as np

    groups = _groups(rounds)
    means = np.array([group.mean() for group in groups])
    between, within = _components(groups)
    return GainEstimate(
        interval=_exp_t_interval(means, level),
        pairs=len(groups),
        rounds=len(rounds),
        variance_between=between,
        variance_within=within,
    )


def combined_gain(replicas: Sequence[GainEstimate], level: float = LEVEL) -> records.Interval:
    """One gain from several jobs of the same case: the mean of their log gains, each job with the same weight.

    The variance of the mean is the larger of what the jobs' own intervals say and what their spread says. Jobs that
    agree (F test of the two, p >= 0.25) are taken as more pairs of one experiment: t with their added degrees of
    freedom. Jobs that disagree are the random unit themselves (Hartung & Knapp 2001): t with `jobs - 1`. By
    simulation it covers 95 to 97 % while jobs differ by up to half their own standard error, 93 to 95 % up to all of
    it, and 88 to 94 % at twice that. Jobs of a single pair have no interval and are left out, unless none has one.
    """
    usable = [one for one in replicas if one.pairs >= 2] or list(replicas)
    if len(usable) == 1:
        return usable[0].interval
    found = estimates.combined(
        [
            estimates.Estimate(mean=math.log(one.interval.value), variance=_own_variance(one), df=one.pairs - 1)
            for one in usable
        ]
    )
    half = distributions.t_quantile((1 + level) / 2, found.df) * math.sqrt(found.variance)
    low, high = math.exp(found.mean - half), math.exp(found.mean + half)
    return records.Interval(value=math.exp(found.mean), low=low, high=high, level=level)


def next_step(estimate: GainEstimate, cost_pair_s: float, cost_round_s: float, rounds_in_last_pair: int) -> Step:
    """What narrows the interval more for its time: another round of this pair, or a fresh pair.

    Kalibera & Jones (2013), section 6: the best number of rounds in a pair is
    sqrt(cost of a pair ÷ cost of a round × variance within ÷ variance between). `cost_pair_s` is what a pair costs
    before its first round. The optimum is kept from 2 (one round a pair says nothing about the variance within)
    to `MAX_ROUNDS`. A single pair has no interval at all: a second one comes first.
    """
    if estimate.pairs < 2:
        return "round" if rounds_in_last_pair < 2 else "pair"
    if estimate.variance_between > 0:
        costs = cost_pair_s / max(cost_round_s, 1e-9)
        best = math.sqrt(costs * estimate.variance_within / estimate.variance_between)
    else:
        best = math.inf if estimate.variance_within > 0 else 0.0
    return "round" if rounds_in_last_pair < min(max(best, 2.0), MAX_ROUNDS) else "pair"


def leg_time_ns(samples: Sequence[int], items: int) -> float:
    """Mean over the `items` distinct calls of the median of each call's repeats, in ns.

    Samples cycle through the items. The median drops single interruptions, the mean keeps the calls' own mix.
    Raises ValueError when a call has no sample.
    """
    if items < 1 or len(samples) < items:
        raise ValueError(f"{len(samples)} samples do not cover {items} distinct calls")
    return statistics.fmean(statistics.median(samples[item::items]) for item in range(items))


@functools.cache
def samples_needed(q: float) -> int:
    """The smallest sample that supports a percentile: LoadGen's early stopping with one overrun.

    Smallest n with P(Bin(n, 1 - q) <= 1) <= 0.01: 11 for p50, 64 for p90, 130 for p95, 662 for p99.
    """
    tail = min(q, 1 - q)
    n = 2
    while (1 - tail) ** n + n * tail * (1 - tail) ** (n - 1) > 0.01:
        n += 1
    return n


def percentile(
    samples_s: Numbers, q: float, level: float = LEVEL, *, groups: Sequence[int] | None = None
) -> records.Percentile:
    """Percentile `q` (0 to 1) of latencies in seconds, with its order-statistic interval.

    The interval (Hahn & Meeker 1991, 5.2) makes no assumption about the distribution. `groups`: which pair of processes
    each sample is from. Samples of one pair share what its processes were born with, and depend on one another, so that
    they tell less than as many independent ones: the interval is that of the number that would tell as much
    (`_effective`). Without groups the samples are taken as independent. Ends are None where the sample has none, both
    for a single group. Withheld, with the reason, for a sample smaller than `samples_needed(q)`. The value is numpy's
    default (linear) quantile.
    """
    import numpy as np

    samples = np.asarray(samples_s, dtype=np.float64)
    needed = samples_needed(q)
    if len(samples) < needed:
        return records.Percentile(q=q, value_s=None, withheld=f"{len(samples)} samples, {needed} needed")
    value = float(np.quantile(samples, q))
    size = len(samples) if groups is None else _effective(samples <= value, q, np.asarray(groups), level)
    low, high = _order_interval(np.sort(samples), q, level, size)
    return records.Percentile(q=q, value_s=value, low_s=low, high_s=high)


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p of McNemar's test for `b` and `c` discordant pairs; 1.0 when there is none."""
    if b + c == 0:
        return 1.0
    return min(1.0, 2.0 * float(distributions.binomial_cdf(b + c, 0.5)[min(b, c)]))


def paired_accuracy(
    baseline_predictions: Sequence[int], strategy_predictions: Sequence[int], labels: Sequence[int]
) -> PairedAccuracy:
    """Compare two strategies row by row; three sequences of class indices of one length.

    The verdict comes from the exact McNemar test at 5 %; the interval of the difference is Bonett & Price's
    adjusted Wald interval (2012, Psychological Methods 17, equation 10). Raises ValueError for unequal lengths
    and for no rows.
    """
    rows = len(labels)
    if rows == 0 or len(baseline_predictions) != rows or len(strategy_predictions) != rows:
        lengths = f"{len(baseline_predictions)}, {len(strategy_predictions)} and {rows}"
        raise ValueError(f"paired accuracy needs the same rows on both sides, got {lengths}")
    import numpy as np

    baseline, strategy, right = (np.asarray(x) for x in (baseline_predictions, strategy_predictions, labels))
    lost = int(((baseline == right) & (strategy != right)).sum())
    won = int(((baseline != right) & (strategy == right)).sum())
    p = mcnemar(lost, won)
    low, high = _bonett_price(lost, won, rows)
    return PairedAccuracy(
        rows=rows,
        agreement=float((baseline == strategy).mean()),
        only_baseline_right=lost,
        only_strategy_right=won,
        difference=(won - lost) / rows,
        p=p,
        low=low,
        high=high,
        verdict=_verdict((won - lost) / rows, p),
    )


def wilson(correct: int, rows: int, level: float = LEVEL) -> records.Interval:
    """Accuracy as a share with Wilson's score interval (1927); ValueError without rows."""
    if not 0 <= correct <= rows or rows == 0:
        raise ValueError(f"{correct} right of {rows} rows is no accuracy")
    z, share = _z(level), correct / rows
    middle = share + z * z / (2 * rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    scale = 1 + z * z / rows
    low, high = max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
    return records.Interval(value=share, low=low, high=high, level=level)


def _groups(rounds: Sequence[PairedRound]) -> list[npt.NDArray[np.float64]]:
    import numpy as np

    pairs: dict[int, list[float]] = {}
    for one in rounds:
        pairs.setdefault(one.pair, []).append(one.log_gain)
    return [np.array(gains) for gains in pairs.values()]


def _exp_t_interval(logs: npt.NDArray[np.float64], level: float) -> records.Interval:
    mean = float(logs.mean())
    if len(logs) < 2:
        return records.Interval(value=math.exp(mean), low=None, high=None, level=level)
    error = float(logs.std(ddof=1)) / math.sqrt(len(logs))
    half = distributions.t_quantile((1 + level) / 2, len(logs) - 1) * error
    return records.Interval(value=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half), level=level)


def _own_variance(estimate: GainEstimate) -> float:
    """Squared standard error of a job's mean log gain, read back from its t interval."""
    interval = estimate.interval
    if interval.low is None or interval.high is None:
        return 0.0
    half = math.log(interval.high / interval.low) / 2
    error = half / distributions.t_quantile((1 + interval.level) / 2, estimate.pairs - 1)
    return error**2


def _components(groups: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """Variance between and within groups of unequal size by the ANOVA method (Searle et al. 1992, 3.6)."""
    import numpy as np

    sizes = np.array([len(group) for group in groups])
    total, count = int(sizes.sum()), len(groups)
    within = 0.0
    if total > count:
        within = float(sum(((group - group.mean()) ** 2).sum() for group in groups)) / (total - count)
    if count < 2:
        return 0.0, within
    means = np.array([group.mean() for group in groups])
    grand = float((sizes * means).sum()) / total
    between_squares = float((sizes * (means - grand) ** 2).sum()) / (count - 1)
    typical_size = (total - float((sizes**2).sum()) / total) / (count - 1)
    return max(0.0, (between_squares - within) / typical_size), within


def _effective(below: npt.NDArray[np.bool_], q: float, groups: npt.NDArray[np.int_], level: float) -> int:
    """How many independent samples tell as much of the share `q` that is `below` as these of several groups.

    Korn & Graubard (1998, Survey Methodology 24): n ÷ the design effect of the groups, less what their number leaves
    uncertain of that: (z ÷ t)² with groups - 1 degrees of freedom. Never more than there are; 0 for a single group.
    """
    import numpy as np

    _, index = np.unique(groups, return_inverse=True)
    sizes, counts = np.bincount(index), np.bincount(index, weights=below)
    total, number = len(below), len(sizes)
    if number < 2:
        return 0
    share = counts.sum() / total
    variance = number / (number - 1) * float(((counts - share * sizes) ** 2).sum()) / total**2
    known = (_z(level) / distributions.t_quantile((1 + level) / 2, number - 1)) ** 2
    independent = q * (1 - q) / total
    return total if variance <= known * independent else int(total * known * independent / variance)


def _order_interval(
    values: npt.NDArray[np.float64], q: float, level: float, size: int
) -> tuple[float | None, float | None]:
    """The order statistics around quantile `q` of sorted values that tell as much as `size` independent ones."""
    if size < 1:
        return None, None
    low, high = _ranks(size, q, level)
    scale = (len(values) + 1) / (size + 1)
    return (
        None if low < 1 else float(values[max(math.floor(low * scale), 1) - 1]),
        None if high > size else float(values[min(math.ceil(high * scale), len(values)) - 1]),
    )


def _ranks(n: int, q: float, level: float) -> tuple[int, int]:
    """1-based ranks of the order statistics that enclose quantile `q`; 0 or n + 1 where the sample has none."""
    import numpy as np

    below = distributions.binomial_cdf(n, q)  # below[k] = P(at most k of n lie under the quantile)
    tail = (1 - level) / 2
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return low, high


def _bonett_price(lost: int, won: int, rows: int) -> tuple[float, float]:
    share_lost, share_won = (lost + 1) / (rows + 2), (won + 1) / (rows + 2)
    middle = share_won - share_lost
    half = _z(LEVEL) * math.sqrt((share_won + share_lost - middle**2) / (rows + 2))
    return max(-1.0, middle - half), min(1.0, middle + half)


def _verdict(difference: float, p: float) -> str:
    if p >= 0.05:
        return "no loss shown"
    bound = next(limit for limit in (0.001, 0.01, 0.05) if p < limit)
    return f"{'loses' if difference < 0 else 'gains'} {100 * abs(difference):.1f} points, p < {bound:g}"


def _z(level: float) -> float:
    return statistics.NormalDist().inv_cdf((1 + level) / 2)
