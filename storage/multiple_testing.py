"""Many tests at once: how many of the findings may be false (pure)."""

from __future__ import annotations

from collections.abc import Sequence


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Each p adjusted for the number of tests, in the order given: reject where it is at most the wanted rate.

    Benjamini & Hochberg, "Controlling the false discovery rate" (1995): with p_(1) <= … <= p_(m), the adjusted p_(i)
    is the least of m p_(j) / j over j >= i, at most 1. Among what is rejected at rate q, a share of q at most is
    false on average, where the tests are independent or positively dependent (Benjamini & Yekutieli 2001), as tests
    on one machine are. Raises ValueError for a p outside 0 … 1.
    """
    import numpy as np

    p = np.asarray(p_values, dtype=np.float64)
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("a p is a number from 0 to 1")
    order = np.argsort(p, kind="stable")
    steps = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    found = np.empty_like(p)
    found[order] = adjusted
    return [float(one) for one in found]
