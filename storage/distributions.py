"""Distributions that tests and intervals need (pure; the scheduler runs without SciPy)."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt


@functools.cache
def t_quantile(p: float, df: float) -> float:
    """Quantile `p` of Student's t with `df` degrees of freedom (any number > 0), to about 1e-8 relative."""
    if not 0 < p < 1 or df <= 0:
        raise ValueError(f"no quantile {p} of Student's t with {df} degrees of freedom")
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while _t_upper_tail(high, df) > 1 - p:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_upper_tail(middle, df) > 1 - p else (low, middle)
    return (low + high) / 2


def f_upper_tail(value: float, df1: float, df2: float) -> float:
    """P(F > value) of Fisher's F; the p of a ratio of variances with `df1` and `df2` degrees of freedom."""
    scaled = df1 * value
    return _incomplete_beta(df2 / 2, df1 / 2, df2 / (df2 + scaled), scaled / (df2 + scaled))


def binomial_cdf(n: int, p: float) -> npt.NDArray[np.float64]:
    """P(Bin(n, p) <= k) for k = 0 … n, summed from logarithms so that a large n does not underflow."""
    k = np.arange(n)
    steps = np.log(n - k) - np.log(k + 1) + math.log(p) - math.log1p(-p)
    logs = n * math.log1p(-p) + np.concatenate(([0.0], np.cumsum(steps)))
    cumulative: npt.NDArray[np.float64] = np.cumsum(np.exp(logs))
    return cumulative


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
    """The continued fraction 1 + d1/(1 + d2/(1 + …)), evaluated from its far end."""
    value = 1.0
    for n in range(200, 0, -1):
        m = n // 2
        term = m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m)) if n % 2 == 0 else None
        if term is None:
            term = -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1))
        value = 1.0 + term * x / value
    return value
