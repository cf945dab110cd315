"""When a closed loop has settled: the steady part of a series of call times (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BATCH = 5
"""Calls in one mean of the truncation rule: MSER-5."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Steady:
    """The steady part of one process's loop."""

    first: int  # index of its first call
    last: int  # index behind its last call
    settled_ns: int  # when it began, from the start of the loop
    window_ns: int  # how long it lasted
    calls_per_s: float


def settled(took_ns: Sequence[int]) -> int:
    """How many calls at the beginning do not belong to the steady state: MSER-5.

    The truncation that leaves the smallest marginal standard error of the mean of what is left, over means of five
    calls, and at most half of the series (White, "An effective truncation heuristic for bias reduction in simulation
    output", Simulation 69, 1997; with batches of five: White, Cobb & Spratt, WSC 2000).
    """
    means = _batch_means(took_ns)
    if len(means) < 4:
        return 0
    half = len(means) // 2
    errors = [float(means[cut:].var()) / (len(means) - cut) for cut in range(half + 1)]
    return BATCH * int(np.argmin(errors))


def steady(begun_ns: Sequence[int], took_ns: Sequence[int], from_ns: int, until_ns: int, items: int) -> Steady:
    """The calls that lie wholly within a time in which every process is at work, in whole passes over the items.

    A part of a pass would weigh its calls more than the others; where not even one pass fits, what fits counts.
    Raises ValueError when no call lies within that time.
    """
    first = next((i for i, begun in enumerate(begun_ns) if begun >= from_ns), len(begun_ns))
    last = first
    while last < len(begun_ns) and begun_ns[last] + took_ns[last] <= until_ns:
        last += 1
    if last - first >= items:
        last -= (last - first) % items
    if last == first:
        raise ValueError("no call lies within the steady time")
    window = begun_ns[last - 1] + took_ns[last - 1] - begun_ns[first]
    return Steady(
        first=first,
        last=last,
        settled_ns=begun_ns[first],
        window_ns=window,
        calls_per_s=(last - first) / window * 1e9,
    )


def _batch_means(took_ns: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    whole = len(took_ns) // BATCH * BATCH
    means: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        np.asarray(took_ns[:whole], dtype=np.float64).reshape(-1, BATCH).mean(axis=1)
    )
    return means
