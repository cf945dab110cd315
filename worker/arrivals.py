"""When requests come and what each asks for: Poisson arrivals and a skewed mix, from a seed (pure)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]
Items = npt.NDArray[np.int64]


def poisson(rate_per_s: float, count: int, seed: int) -> Seconds:
    """Times in seconds, rising, of `count` arrivals of a Poisson process that starts at 0.

    The gaps are exponential with mean 1 ÷ rate, as in MLPerf's server scenario (LoadGen's `ScheduleDistribution`).
    One seed gives the same pattern at every rate, only closer: two rates differ by their rate and by nothing else.
    """
    if not rate_per_s > 0:
        raise ValueError(f"arrivals need a rate above 0, not {rate_per_s:g}/s")
    return np.cumsum(np.random.default_rng([seed, 0]).exponential(size=count)) / rate_per_s


def mix(items: int, exponent: float | None, count: int, seed: int) -> Items:
    """Which of `items` distinct calls each of `count` requests asks for: item k (from 1) with weight k^-exponent.

    Zipf's law over a finite set; None: every item alike. Drawn independently, so that a cache sees no pattern.
    """
    weights = np.arange(1, items + 1, dtype=np.float64) ** -(exponent or 0.0)
    return np.random.default_rng([seed, 1]).choice(items, size=count, p=weights / weights.sum())
