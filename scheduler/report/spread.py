"""Raw samples reduced to quantiles: how the times of one side are spread (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from storage import records, statistics

GRID = (0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.8, 0.9, 0.95, 0.99)
"""The quantiles that are kept."""

SHOWN = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Those that tables show: paper is narrow."""

SIDES: tuple[records.Side, ...] = ("strategy", "baseline")


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """The times of one side of a job, and how quiet it was meanwhile."""

    side: records.Side
    samples: int
    quantiles_s: tuple[float | None, ...]  # in the order of GRID; None: the sample does not support it
    legs: int  # stored, both good and disturbed ones
    disturbed_legs: int
    foreign_share: float  # median over the legs of the CPU time that others took
    steal_share: float  # median over the legs of the time that the hypervisor took
    line: int = -1  # number of the line that it belongs to
    slice: int = -1

    def at(self, q: float) -> float | None:
        """A quantile of GRID in seconds."""
        return self.quantiles_s[GRID.index(q)]

    def of(self, line: int, slice_: int) -> Spread:
        """The same, as a line's."""
        return replace(self, line=line, slice=slice_)


def spreads(legs: Iterable[records.Leg]) -> tuple[Spread, ...]:
    """Both sides of a job, those that have samples.

    The samples are those of rounds that nothing disturbed, as percentiles are taken of; of all rounds where each was
    disturbed.
    """
    known = list(legs)
    bad = {(leg.pair, leg.round) for leg in known if leg.disturbed}
    good = [leg for leg in known if (leg.pair, leg.round) not in bad] or known
    parts = (_spread(side, good, known) for side in SIDES)
    return tuple(part for part in parts if part is not None)


def _spread(side: records.Side, counted: Iterable[records.Leg], known: Iterable[records.Leg]) -> Spread | None:
    own = [leg for leg in known if leg.side == side]
    times = [ns / leg.repeats for leg in counted if leg.side == side for ns in leg.samples_ns]
    if not times:
        return None
    return Spread(
        side=side,
        samples=len(times),
        quantiles_s=_quantiles(times),
        legs=len(own),
        disturbed_legs=sum(bool(leg.disturbed) for leg in own),
        foreign_share=median(leg.foreign_share for leg in own),
        steal_share=median(leg.steal_share for leg in own),
    )


def _quantiles(times_ns: Sequence[float]) -> tuple[float | None, ...]:
    """Quantiles in seconds where LoadGen's rule supports them (`statistics.samples_needed`)."""
    values = np.quantile(np.asarray(times_ns), GRID) / 1e9
    return tuple(
        float(value) if len(times_ns) >= statistics.samples_needed(q) else None
        for q, value in zip(GRID, values, strict=True)
    )
