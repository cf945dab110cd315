"""The highest rate whose percentile stays under a bound (pure: a probe is whatever answers for one run)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from storage import distributions

WIDTH = 0.03
"""The search ends when the lowest rate that misses is at most so much above the highest that holds."""

RUNS = 3
"""Runs at one rate, at most: as many as it takes to tell on which side of the bound it lies."""

DOUBT = 0.01
"""A rate counts as told apart when chance would do it with at most this probability: LoadGen's 99 % confidence."""

SPAN = 2.0**8
"""How far below its first guess a search looks for a rate that holds, and how far above for one that misses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One run at a rate."""

    latencies_s: Sequence[float]  # of the requests that count; inf: never answered
    overloaded: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What all runs at one rate said."""

    rate_per_s: float
    holds: bool
    queries: int
    overruns: int  # beyond the bound
    value_s: float | None  # the percentile; None: overloaded, or so many were never answered
    overloaded: bool
    certain: bool  # told apart from the bound with LoadGen's confidence, queries taken as independent


@dataclass(slots=True)
class Found:
    """Where the search ended: the highest rate that holds and the lowest above it that misses, None where none was."""

    holds: Probe | None = None
    misses: Probe | None = None
    probes: list[Probe] = field(default_factory=list)  # in the order of the search
    in_time: bool = True  # False: it ended because the time was over

    @property
    def bracketed(self) -> bool:
        """Whether a rate that holds and one that misses are known."""
        return self.holds is not None and self.misses is not None

    @property
    def width(self) -> float:
        """Relative width of the bracket; inf without one."""
        if self.holds is None or self.misses is None:
            return math.inf
        return self.misses.rate_per_s / self.holds.rate_per_s - 1

    def next_rate(self, first: float) -> float | None:
        """What to ask next: twice or half until both ends are known, then the middle of their logarithms."""
        if self.holds is None and self.misses is None:
            return first
        if self.holds is not None and self.misses is not None:
            return math.sqrt(self.holds.rate_per_s * self.misses.rate_per_s)
        if self.holds is not None:
            rate = 2 * self.holds.rate_per_s
            return rate if rate <= first * SPAN else None
        assert self.misses is not None  # noqa: S101 - one of the two is known here
        rate = self.misses.rate_per_s / 2
        return rate if rate >= first / SPAN else None

    def take(self, probe: Probe) -> None:
        """Narrow the bracket."""
        self.probes.append(probe)
        if probe.holds:
            self.holds = probe
        else:
            self.misses = probe


class TimeIsOver(Exception):
    """Raised by a `Try` that has no time for another run: the search ends with what it has."""


Try = Callable[[float, int], Trial]
"""Rate per second and number of the run → one run; its arrivals differ from run to run."""


def highest(attempt: Try, *, bound_s: float, q: float, first: float, width: float = WIDTH) -> Found:
    """Bracket the highest rate whose percentile `q` is at most `bound_s`, and halve the bracket down to `width`.

    `first` is a guess in requests per second. A rate that noise puts on the wrong side of the bound stays there: the
    answer is uncertain by that too, not by the width alone.
    """
    found = Found()
    while found.width > width and (rate := found.next_rate(first)) is not None:
        try:
            found.take(probe(attempt, rate, bound_s, q))
        except TimeIsOver:
            found.in_time = False
            break
    return found


def probe(attempt: Try, rate: float, bound_s: float, q: float) -> Probe:
    """Run at one rate until it is clear on which side of the bound it lies, `RUNS` times at most.

    Raises TimeIsOver when there is no time for a single run.
    """
    latencies: list[float] = []
    overruns, certain, overloaded = 0, False, False
    for number in range(RUNS):
        try:
            trial = attempt(rate, number)
        except TimeIsOver:
            if not latencies:
                raise
            break
        latencies += trial.latencies_s
        overloaded = trial.overloaded
        overruns = sum(not latency <= bound_s for latency in latencies)
        certain = overloaded or _is_clear(len(latencies), overruns, q)
        if certain:
            break
    value = float(np.quantile(latencies, q, method="inverted_cdf"))
    return Probe(
        rate_per_s=rate,
        # LoadGen counts overruns: at most 1 - q of the queries may be late
        holds=not overloaded and overruns <= (1 - q) * len(latencies),
        queries=len(latencies),
        overruns=overruns,
        value_s=None if overloaded or not math.isfinite(value) else value,
        overloaded=overloaded,
        certain=certain,
    )


def _is_clear(queries: int, overruns: int, q: float) -> bool:
    """Whether a share of exactly 1 - q late queries would give so few, or so many, with probability `DOUBT` at most."""
    at_most = distributions.binomial_cdf(queries, 1 - q)
    few = float(at_most[overruns])
    many = 1.0 - (float(at_most[overruns - 1]) if overruns else 0.0)
    return min(few, many) <= DOUBT
