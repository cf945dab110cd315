"""A gain from processes that did not run in turn: Welch's interval on log times (pure)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from storage import distributions, records
from storage.statistics import LEVEL


def gain(baseline_s: Sequence[float], strategy_s: Sequence[float], level: float = LEVEL) -> records.Interval:
    """Baseline time ÷ strategy time from one time (seconds) for each process of either side.

    The difference of the mean logs with Welch's (1947) interval, degrees of freedom after Satterthwaite. The process
    is the unit: calls of one process share what it was born with. Without two processes on both sides there is no
    interval. Raises ValueError for a side without a time.
    """
    if not baseline_s or not strategy_s:
        raise ValueError("a gain needs a time on both sides")
    base, own = [math.log(value) for value in baseline_s], [math.log(value) for value in strategy_s]
    middle = statistics.fmean(base) - statistics.fmean(own)
    half = _half_width(base, own, level)
    if half is None:
        return records.Interval(value=math.exp(middle), low=None, high=None, level=level)
    return records.Interval(
        value=math.exp(middle), low=math.exp(middle - half), high=math.exp(middle + half), level=level
    )


def _half_width(base: Sequence[float], own: Sequence[float], level: float) -> float | None:
    """Half the interval of a difference of means; None with fewer than two values on a side, or no spread at all."""
    if min(len(base), len(own)) < 2:
        return None
    parts = [(statistics.variance(side) / len(side), len(side) - 1) for side in (base, own)]
    total = math.fsum(part for part, _ in parts)
    if total <= 0:
        return None
    freedom = total**2 / math.fsum(part**2 / degrees for part, degrees in parts)
    return distributions.t_quantile((1 + level) / 2, freedom) * math.sqrt(total)
