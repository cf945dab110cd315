"""Products and ratios of gains that were measured apart, with their intervals (pure).

Logs of independent estimates add, and so do their variances; the interval is Student's t with the degrees of freedom
of Satterthwaite, "An approximate distribution of estimates of variance components" (Biometrics 2, 1946), as Welch used
them (Biometrika 34, 1947). Independent means: each gain has jobs of its own, which met their baselines in sessions of
their own. What one estimate says cancels where it is multiplied and divided by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scheduler.compare import Comparison
from storage import distributions, estimates, records
from storage.statistics import LEVEL

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A ratio that was measured, on log scale."""

    log: float
    variance: float | None  # squared standard error of the log; None where nothing tells it
    df: float = 1.0  # degrees of freedom of the variance


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """Powers of independent estimates, by what each is of; the empty product is exactly 1."""

    powers: Mapping[str, tuple[Estimate, int]] = field(default_factory=dict)

    def times(self, name: str, estimate: Estimate) -> Product:
        """Multiplied by an estimate; `name` tells whether it is the same as another one."""
        return self._with(name, estimate, 1)

    def over(self, name: str, estimate: Estimate) -> Product:
        """Divided by an estimate."""
        return self._with(name, estimate, -1)

    def interval(self, level: float = LEVEL) -> records.Interval:
        """The product with its interval; without one where an estimate has no variance."""
        value, found = math.exp(self._log), self._variance()
        if found is None:
            return records.Interval(value=value, low=None, high=None, level=level)
        variance, df = found
        half = distributions.t_quantile((1 + level) / 2, df) * math.sqrt(variance) if variance > 0 else 0.0
        low, high = math.exp(self._log - half), math.exp(self._log + half)
        return records.Interval(value=value, low=low, high=high, level=level)

    def p(self) -> float | None:
        """Two-sided p of the product being 1 (Welch's t test); None where an estimate has no variance."""
        found = self._variance()
        if found is None:
            return None
        return _p(self._log, *found)

    def differs(self, level: float = LEVEL) -> bool | None:
        """Whether the interval excludes 1; None without one."""
        found = self._variance()
        if found is not None and self._log**2 < found[0]:
            return False  # not even one standard error from 1: most cases of a fleet need no distribution
        p = self.p()
        return None if p is None else p < 1 - level

    @property
    def _log(self) -> float:
        return sum(power * one.log for one, power in self.powers.values())

    def _with(self, name: str, estimate: Estimate, power: int) -> Product:
        sums = {**self.powers, name: (estimate, self.powers.get(name, (estimate, 0))[1] + power)}
        return Product(powers={key: found for key, found in sums.items() if found[1]})

    def _variance(self) -> tuple[float, float] | None:
        """The added variances and Satterthwaite's degrees of freedom; None where one is unknown."""
        parts = [(one.variance, power**2, one.df) for one, power in self.powers.values()]
        known = [(variance * square, df) for variance, square, df in parts if variance is not None]
        if len(known) < len(parts):
            return None
        total, freedom = estimates.added(known)
        return total, 1.0 if freedom is None else freedom


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Many:
    """Estimates as arrays; those without a variance, or that are missing, are NaN."""

    logs: Floats
    variances: Floats
    dfs: Floats

    def at(self, places: npt.NDArray[np.intp]) -> Many:
        """Those at some places."""
        return Many(logs=self.logs[places], variances=self.variances[places], dfs=self.dfs[places])


def many(found: Sequence[Estimate | None]) -> Many:
    """Estimates as arrays of the same length."""
    whole = [one if one is not None and one.variance is not None else None for one in found]
    return Many(
        logs=np.array([math.nan if one is None else one.log for one in whole]),
        variances=np.array([math.nan if one is None else one.variance for one in whole], dtype=np.float64),
        dfs=np.array([math.nan if one is None else one.df for one in whole]),
    )


def differ(one: Many, other: Many, level: float = LEVEL) -> list[bool]:
    """`Product.differs` of each ratio of two independent estimates that both have a variance, in their order.

    Degrees of freedom are seldom whole here, but quantiles of Student's t fall as they grow: most ratios lie beyond
    the quantile of the next lower whole number or short of the next higher one's, and only the rest are computed.
    """
    known = ~np.isnan(one.variances) & ~np.isnan(other.variances)
    logs = (one.logs - other.logs)[known]
    parts = [(side.variances[known], side.dfs[known]) for side in (one, other)]
    total = parts[0][0] + parts[1][0]
    with np.errstate(divide="ignore", invalid="ignore"):
        df = total**2 / (parts[0][0] ** 2 / parts[0][1] + parts[1][0] ** 2 / parts[1][1])
        t = np.abs(logs) / np.sqrt(total)
    vary = total > 0
    low, high = np.maximum(1.0, np.floor(np.where(vary, df, 1.0))), np.ceil(np.where(vary, df, 1.0))
    quantiles = {k: distributions.t_quantile((1 + level) / 2, k) for k in {*low.tolist(), *high.tolist()}}
    beyond = t > np.array([quantiles[k] for k in low.tolist()]) * (1 + NEAR)
    short = t < np.array([quantiles[k] for k in high.tolist()]) * (1 - NEAR)
    return [
        bool(more) if clear else bool(_p(log, total_, df_) < 1 - level)
        for more, clear, log, total_, df_ in zip(beyond, vary & (beyond | short), logs, total, df, strict=True)
    ]


NEAR = 1e-6
"""Relative distance from a quantile within which a ratio is computed for itself."""


def _p(log: float, variance: float, df: float) -> float:
    """Two-sided p of a log being 0, by its variance and the degrees of freedom of that."""
    if variance <= 0:
        return 1.0 if log == 0 else 0.0
    return distributions.f_upper_tail(log**2 / variance, 1, df)  # t² with df is F with 1 and df


def gain(row: Comparison) -> Estimate | None:
    """A comparison's gain; None where it has none.

    Its variance is read back from the t interval. The degrees of freedom are pairs − jobs: exact for one job and for
    jobs that agree; for jobs that do not (whose interval has fewer) it makes what is combined a little wider.
    """
    if row.gain is None or row.gain <= 0:
        return None
    return estimate(row.gain, row.gain_low, row.gain_high, df=(row.pairs or 0) - len(row.job_ids))


def estimate(value: float, low: float | None, high: float | None, *, df: int) -> Estimate:
    """A ratio with a 95 % t interval on log scale, of at least one degree of freedom."""
    if low is None or high is None or low <= 0:
        return Estimate(log=math.log(value), variance=None)
    half = math.log(high / low) / 2
    counted = max(1, df)
    error = half / distributions.t_quantile((1 + LEVEL) / 2, counted)
    return Estimate(log=math.log(value), variance=error**2, df=float(counted))
