"""Is a number flat? The slope within processes' lives and between their generations, with its interval."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Point = tuple[float, float]
"""Seconds and a value."""

Verdict = Literal["flat", "grows", "open"]

Z = 1.96
"""Of a two-sided 95 % interval."""

WARM_UP_S = 45.0
"""Imports and the first job of a process: what it takes then is no leak."""

WARM_UP_SHARE = 0.25
"""Of a long life: allocators fill their arenas in the first minutes."""

BLOCK_S, BLOCKS = 15.0, 30
"""Samples become the least of blocks so long at least, and so many blocks of a life at most: neighbours are alike, and
what a job takes while it runs comes and goes, but a leak lifts the floor."""

LEAST_BLOCKS = 4

GENERATION_AGE_S = (10.0, 40.0)
"""At what age the processes of one role are compared with their predecessors."""

LEAST_GENERATIONS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """Growth an hour, with its 95 % interval."""

    slope: float
    low: float
    high: float
    span_s: float  # from the first to the last point of the longest series
    points: int

    @property
    def half_width(self) -> float:
        """How far the lower end of the interval is below the slope."""
        return self.slope - self.low


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """What growth is too much: so much an hour, and at least so much in what was seen of it."""

    hourly: float
    least: float

    def bar(self, span_s: float) -> float:
        """The hourly growth that counts after so many seconds."""
        return max(self.hourly, self.least / (span_s / 3600))

    def verdict(self, trend: Trend) -> Verdict:
        """`grows` when the whole interval lies above the bar, `flat` when it lies below the hourly bound; else `open`:
        the time was too short to tell."""
        if trend.low > self.bar(trend.span_s):
            return "grows"
        return "flat" if trend.high <= self.hourly else "open"

    def detectable(self, trend: Trend) -> float:
        """The least hourly growth that would have been called so with a noise like this trend's."""
        return self.bar(trend.span_s) + trend.half_width


def slope(series: Sequence[Sequence[Point]]) -> Trend | None:
    """The common slope of several series, an hour; None without two points in one of them.

    The seasonal Kendall slope (Hirsch, Slack and Smith, Water Resources Research 18, 1982), with series in the place
    of seasons: the median of the slopes between points of one series, which no single outlier moves. The interval is
    Gilbert's (Statistical Methods for Environmental Pollution Monitoring, 1987, 17.3.2), with Kendall's variance
    corrected for ties. It takes the points of a series as independent.
    """
    found = sorted(itertools.chain.from_iterable(_slopes(points) for points in series))
    if not found:
        return None
    apart = Z * math.sqrt(sum(_variance([value for _, value in points]) for points in series))
    last = len(found) - 1
    low, high = math.floor((last - apart) / 2), math.ceil((last + apart) / 2)
    long = max((points for points in series if points), key=lambda points: points[-1][0] - points[0][0])
    return Trend(
        slope=3600 * statistics.median(found),
        low=3600 * found[max(0, low)] if low >= 0 else -math.inf,
        high=3600 * found[high] if high <= last else math.inf,
        span_s=long[-1][0] - long[0][0],
        points=sum(len(points) for points in series),
    )


def within(lives: Sequence[Sequence[Point]]) -> Trend | None:
    """The growth of processes while they live, after their warm-up; None when none lived long enough."""
    blocked = [blocks(life) for life in lives]
    return slope([points for points in blocked if len(points) >= LEAST_BLOCKS])


def between(lives: Sequence[Sequence[Point]]) -> Trend | None:
    """The growth from one process of a role to the next, all at the same age; None for too few of them."""
    first, last = GENERATION_AGE_S
    levels: list[Point] = []
    for life in lives:
        born = life[0][0]
        young = [value for at, value in life if first <= at - born <= last]
        if len(young) >= 2 and life[-1][0] - born >= last:
            levels.append((born, statistics.median(young)))
    return slope([sorted(levels)]) if len(levels) >= LEAST_GENERATIONS else None


def blocks(life: Sequence[Point]) -> list[Point]:
    """The least of each of a life's blocks, without its warm-up."""
    if not life:
        return []
    born, end = life[0][0], life[-1][0]
    start = born + max(WARM_UP_S, WARM_UP_SHARE * (end - born))
    width = max(BLOCK_S, (end - start) / BLOCKS)
    parts: dict[int, list[Point]] = {}
    for at, value in life:
        if at >= start:
            parts.setdefault(int((at - start) / width), []).append((at, value))
    return [(statistics.fmean(at for at, _ in part), min(value for _, value in part)) for part in parts.values()]


def _slopes(points: Sequence[Point]) -> list[float]:
    pairs = itertools.combinations(points, 2)
    return [(later - earlier) / (end - start) for (start, earlier), (end, later) in pairs if end > start]


def _variance(values: Sequence[float]) -> float:
    """Of Kendall's S for one series of values, some of which may be equal."""
    equal = (len(list(group)) for _, group in itertools.groupby(sorted(values)))
    return (_cube(len(values)) - sum(_cube(times) for times in equal)) / 18


def _cube(n: int) -> int:
    return n * (n - 1) * (2 * n + 5)
