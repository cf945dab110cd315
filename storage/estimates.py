"""A mean with the variance of its error: made of samples, combined, and compared with another one (pure).

Sources, named again at each formula: Hartung & Knapp (2001); Welch, "The generalization of 'Student's' problem when
several different population variances are involved" (1947); Satterthwaite (1946); Searle, Casella & McCulloch,
"Variance components" (1992).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage import distributions

AGREE = 0.25
"""Jobs whose spread is explained by their own errors with at least this p are taken as one experiment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean and how well it is known."""

    mean: float
    variance: float  # of the mean's error: its standard error squared
    df: float  # degrees of freedom of that variance


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A variance that two means share besides their own, such as a machine's drift from job to job."""

    variance: float
    df: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Later mean − earlier mean."""

    value: float
    error: float  # standard error
    df: float

    def interval(self, level: float) -> tuple[float, float]:
        """The t interval at a confidence level."""
        half = distributions.t_quantile((1 + level) / 2, self.df) * self.error
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """Two-sided p of "there is no difference"."""
        return min(1.0, 2 * min(self.p_above(0.0), self.p_below(0.0)))

    def p_above(self, margin: float) -> float:
        """One-sided p of "the true difference is `margin` or less"; small where it is shown to be more."""
        return self._upper_tail(self.value - margin)

    def p_below(self, margin: float) -> float:
        """One-sided p of "the true difference is `margin` or more"; small where it is shown to be less."""
        return self._upper_tail(margin - self.value)

    def _upper_tail(self, beyond: float) -> float:
        if self.error == 0:  # samples without any spread
            return 0.5 if beyond == 0 else float(beyond < 0)
        return distributions.t_upper_tail(beyond / self.error, self.df)


def of(values: Sequence[float]) -> Estimate:
    """The mean of independent values; ValueError for fewer than two."""
    import numpy as np

    if len(values) < 2:
        raise ValueError(f"{len(values)} values tell no variance")
    found = np.asarray(values, dtype=np.float64)
    return Estimate(mean=float(found.mean()), variance=float(found.var(ddof=1)) / len(found), df=len(found) - 1)


def combined(jobs: Sequence[Estimate]) -> Estimate:
    """One mean from several jobs of the same case, each job with the same weight.

    The variance is the larger of what the jobs' own errors say and what their spread says. Jobs that agree (F test of
    the two, p >= 0.25) are taken as more values of one experiment, with their added degrees of freedom; jobs that
    disagree are the random unit themselves (Hartung & Knapp 2001), with `jobs - 1`. Raises ValueError without a job.
    """
    if not jobs:
        raise ValueError("no job, no mean")
    if len(jobs) == 1:
        return jobs[0]
    count = len(jobs)
    mean = math.fsum([one.mean for one in jobs]) / count
    spread = math.fsum([(one.mean - mean) ** 2 for one in jobs]) / (count - 1) / count
    own, own_df = sum([one.variance for one in jobs]) / count**2, sum([one.df for one in jobs])
    agree = own > 0 and spread / own <= distributions.f_critical(AGREE, count - 1, own_df)
    return Estimate(mean=mean, variance=max(spread, own), df=own_df if agree else count - 1)


def difference(earlier: Estimate, later: Estimate, *shared: Component) -> Difference:
    """Later − earlier with Welch's standard error and Satterthwaite's degrees of freedom.

    The variances of the two need not be alike. `shared`: further variances of the difference.
    """
    every: Sequence[Estimate | Component] = (earlier, later, *shared)
    variance, df = added((one.variance, one.df) for one in every)
    least = min(earlier.df, later.df)
    return Difference(value=later.mean - earlier.mean, error=math.sqrt(variance), df=least if df is None else df)


def added(variances: Iterable[tuple[float, float]]) -> tuple[float, float | None]:
    """The sum of independent variances, given with their degrees of freedom, and Satterthwaite's (1946) of the sum.

    None instead of degrees of freedom where nothing varies.
    """
    parts = [(variance, df) for variance, df in variances if variance > 0]
    total = sum(variance for variance, _ in parts)
    return total, total**2 / sum(variance**2 / df for variance, df in parts) if parts else None
