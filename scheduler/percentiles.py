"""What a case's percentile of latency is uncertain by, over all of its jobs (pure)."""

from __future__ import annotations

import functools
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
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
    """The ends of the intervals of the strategy's percentiles (50, 90, …) as fields of a comparison:
    `latency_p95_low_s`, `latency_p95_high_s`, …"""
    stored, found = _stored(views), {}
    for percent in percents:
        low, high = _fields(percent)
        found[low], found[high] = _combined(stored.get(percent, ()))
    return found


@functools.cache
def _fields(percent: int) -> tuple[str, str]:
    return sys.intern(f"latency_p{percent}_low_s"), sys.intern(f"latency_p{percent}_high_s")


def _stored(views: Iterable[ResultView]) -> dict[int, list[Mapping[str, Any]]]:
    """The strategy's percentiles that have a value, as they were stored, of all jobs."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for view in views:
        for one in (view.document.get("strategy") or {}).get("percentiles", ()):
            if one.get("value_s"):
                found.setdefault(round(100 * one["q"]), []).append(one)
    return found


def _combined(found: Sequence[Mapping[str, Any]]) -> Interval:
    """The 95 % interval of a percentile over the jobs of one case.

    Of one job it is the one of order statistics that was stored with it (`storage.statistics.percentile`). Several are
    combined on the log scale as gains are (`storage.estimates.combined`): jobs that agree are one experiment, jobs that
    do not are the random unit themselves. A job without both ends takes no part.
    """
    if len(found) == 1:
        return found[0].get("low_s"), found[0].get("high_s")
    whole = [_estimate(one) for one in found if one.get("low_s") and one.get("high_s")]
    if not whole:
        return None, None
    mean = estimates.combined(whole)
    half = distributions.t_quantile((1 + LEVEL) / 2, mean.df) * math.sqrt(mean.variance)
    return math.exp(mean.mean - half), math.exp(mean.mean + half)


def _estimate(one: Mapping[str, Any]) -> estimates.Estimate:
    error = math.log(one["high_s"] / one["low_s"]) / (2 * _Z)
    return estimates.Estimate(mean=math.log(one["value_s"]), variance=error**2, df=_MANY)
