"""Distributions that tests and intervals need (pure; the scheduler runs without SciPy)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_TINY = 1e-300
"""In place of a zero that would be divided by."""


@functools.cache
def t_quantile(p: float, df: float) -> float:
    """Quantile `p` of Student's t with `df` degrees of freedom (any number > 0), to about 1e-8 relative."""
    if not 0 < p < 1 or df <= 0:
        raise ValueError(f"no quantile {p} of Student's t with {df} degrees of freedom")
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1 - p, df)
    return _exceeded_with(1 - p, lambda t: _t_upper_tail(t, df), lambda t: _t_density(t, df))


@functools.cache
def f_critical(p: float, df1: float, df2: float) -> float:
    """The value that Fisher's F with `df1` and `df2` degrees of freedom exceeds with probability `p`."""
    if not 0 < p < 1 or df1 <= 0 or df2 <= 0:
        raise ValueError(f"no value of Fisher's F with {df1} and {df2} degrees of freedom is exceeded with {p}")
    return _exceeded_with(p, lambda f: f_upper_tail(f, df1, df2), lambda f: _f_density(f, df1, df2))


def f_upper_tail(value: float, df1: float, df2: float) -> float:
    """P(F > value) of Fisher's F; the p of a ratio of variances with `df1` and `df2` degrees of freedom."""
    scaled = df1 * value
    return _incomplete_beta(df2 / 2, df1 / 2, df2 / (df2 + scaled), scaled / (df2 + scaled))


def t_upper_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t with `df` degrees of freedom: the one-sided p of a t statistic."""
    return _t_upper_tail(t, df) if t >= 0 else 1.0 - _t_upper_tail(-t, df)


def binomial_cdf(n: int, p: float) -> npt.NDArray[np.float64]:
    """P(Bin(n, p) <= k) for k = 0 … n, summed from logarithms so that a large n does not underflow."""
    import numpy as np

    k = np.arange(n)
    steps = np.log(n - k) - np.log(k + 1) + math.log(p) - math.log1p(-p)
    logs = n * math.log1p(-p) + np.concatenate(([0.0], np.cumsum(steps)))
    cumulative: npt.NDArray[np.float64] = np.cumsum(np.exp(logs))
    return cumulative


def _exceeded_with(p: float, tail: Callable[[float], float], density: Callable[[float], float]) -> float:
    """The positive value at which an upper tail is `p`: Newton's steps; where one leaves the bracket, its middle."""
    low, high = 0.0, 1.0
    while tail(high) > p:
        high *= 2
    x = (low + high) / 2
    for _ in range(80):
        beyond = tail(x) - p
        low, high = (x, high) if beyond > 0 else (low, x)
        step = beyond / density(x)
        if abs(step) <= 1e-13 * x:
            return x + step
        x = x + step if low < x + step < high else (low + high) / 2
    return x


def _t_density(t: float, df: float) -> float:
    log_front = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
    return math.exp(log_front - (df + 1) / 2 * math.log1p(t * t / df))


def _f_density(f: float, df1: float, df2: float) -> float:
    a, b = df1 / 2, df2 / 2
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(df1 / df2)
    return math.exp(log_front + (a - 1) * math.log(f) - (a + b) * math.log1p(f * df1 / df2))


def _t_upper_tail(t: float, df: float) -> float:
    """P(T > t) for t >= 0: half the incomplete beta function at df / (df + t²)."""
    return 0.5 * _incomplete_beta(df / 2, 0.5, df / (df + t * t), t * t / (df + t * t))


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """Regularized I_x(a, b) by its continued fraction (DLMF 8.17.22); `rest` is 1 - x without cancellation."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(b, a, rest, x)
    log_front = a * math.log(x) + b * math.log(rest) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) / a / _beta_fraction(a, b, x)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction 1 + d1/(1 + d2/(1 + …)) by Lentz's method, until it stands still."""
    value = upper = 1.0
    lower = 0.0
    for n in range(1, 2000):
        m = n // 2
        if n % 2 == 0:
            term = m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m)) * x
        else:
            term = -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1)) * x
        lower = 1 / ((1 + term * lower) or _TINY)
        upper = (1 + term / upper) or _TINY
        value *= upper * lower
        if abs(upper * lower - 1) < 1e-15:
            break
    return value
