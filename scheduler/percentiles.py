"""What a case's percentile of latency is uncertain by, over all of its jobs (pure)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from storage import distributions, estimates
from storage.statistics import LEVEL
from storage.views import ResultView

Interval = tuple[float | None, float | None]
"""Seconds; None where the sample supports no such end."""

_Z = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)
_MANY = 1000.0
"""Degrees of freedom of one job's percentile: its interval is of order statistics and estimates no variance."""


def ends(views: Sequence[ResultView], percents: Iterable[int]) -> dict[str, Any]:
    """The ends of all intervals as fields of a comparison: `latency_p95_low_s`, `latency_p95_high_s`, …"""
    found: dict[str, Any] = {}
    for percent in percents:
        found[f"latency_p{percent}_low_s"], found[f"latency_p{percent}_high_s"] = interval(views, percent)
    return found


def interval(views: Sequence[ResultView], percent: int) -> Interval:
    """The 95 % interval of the strategy's percentile (50, 90, …) over the jobs of one case.

    Of one job it is the one of order statistics that was stored with it (`storage.statistics.percentile`). Several are
    combined on the log scale as gains are (`storage.estimates.combined`): jobs that agree are one experiment, jobs that
    do not are the random unit themselves. A job without both ends takes no part.
    """
    found = [one for view in views for one in _stored(view, percent)]
    if len(found) == 1:
        return found[0]["low_s"], found[0]["high_s"]
    whole = [_estimate(one) for one in found if one["low_s"] and one["high_s"]]
    if not whole:
        return None, None
    mean = estimates.combined(whole)
    half = distributions.t_quantile((1 + LEVEL) / 2, mean.df) * math.sqrt(mean.variance)
    return math.exp(mean.mean - half), math.exp(mean.mean + half)


def _stored(view: ResultView, percent: int) -> Iterable[dict[str, Any]]:
    for one in (view.document.get("strategy") or {}).get("percentiles", ()):
        if round(100 * one["q"]) == percent and one.get("value_s"):
            yield {"low_s": None, "high_s": None, **one}


def _estimate(one: dict[str, Any]) -> estimates.Estimate:
    error = math.log(one["high_s"] / one["low_s"]) / (2 * _Z)
    return estimates.Estimate(mean=math.log(one["value_s"]), variance=error**2, df=_MANY)
