"""A gain from processes that did not run in turn: Welch's interval on log times (pure)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from storage import estimates, records
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
    value = math.exp(statistics.fmean(base) - statistics.fmean(own))
    if min(len(base), len(own)) < 2:
        return records.Interval(value=value, low=None, high=None, level=level)
    found = estimates.difference(estimates.of(own), estimates.of(base))
    if found.error == 0:  # no spread at all tells nothing
        return records.Interval(value=value, low=None, high=None, level=level)
    low, high = found.interval(level)
    return records.Interval(value=value, low=math.exp(low), high=math.exp(high), level=level)
