"""Raw samples → one number for each pair of fresh processes, the unit that repeats of a measurement come in (pure)."""

from __future__ import annotations

import math
import statistics as means
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage import records, statistics
from storage.records import Leg

Legs = dict[records.Side, list[list[Leg]]]
"""By side: what ran at the same time, one leg for each process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What one pair of fresh processes gave, baseline and strategy in turn."""

    pair: int
    log_time: float  # ln seconds: of a call (latency, tensor, server), of all calls' pace (throughput)
    log_baseline: float  # the baseline's, from the same rounds

    @property
    def log_gain(self) -> float:
        """ln(baseline time ÷ strategy time)."""
        return self.log_baseline - self.log_time


def sessions(kind: str, legs: Iterable[Leg]) -> list[Session]:
    """One session for each pair that has both sides, in order; none for a search, whose runs have other loads each.

    Rounds with a disturbed leg are left out of a pair that has others.
    """
    pairs: dict[int, list[Leg]] = {}
    for leg in legs:
        if leg.samples_ns:
            pairs.setdefault(leg.pair, []).append(leg)
    if kind == "server" and any(_searched(found) for found in pairs.values()):
        return []
    sides = {pair: _sides(_counted(found)) for pair, found in sorted(pairs.items())}
    return [
        Session(pair=pair, log_time=_log_time(kind, by["strategy"]), log_baseline=_log_time(kind, by["baseline"]))
        for pair, by in sides.items()
        if by["strategy"] and by["baseline"]
    ]


def _searched(legs: Iterable[Leg]) -> bool:
    return max(Counter(leg.side for leg in legs).values()) > 1


def _counted(legs: Sequence[Leg]) -> Sequence[Leg]:
    bad = {leg.round for leg in legs if leg.disturbed}
    return [leg for leg in legs if leg.round not in bad] or legs


def _sides(legs: Iterable[Leg]) -> Legs:
    at_once: dict[tuple[records.Side, int, int], list[Leg]] = {}
    for leg in legs:
        at_once.setdefault((leg.side, leg.round, leg.position), []).append(leg)
    found: Legs = {"baseline": [], "strategy": []}
    for (side, _, _), crew in at_once.items():
        found[side].append(crew)
    return found


def _log_time(kind: str, crews: Sequence[Sequence[Leg]]) -> float:
    """Mean of the log times, as `worker.rounds` takes a gain from its legs."""
    return means.fmean(math.log(_seconds(kind, crew)) for crew in crews)


def _seconds(kind: str, crew: Sequence[Leg]) -> float:
    if kind == "throughput":
        return 1 / sum(1e9 * len(leg.samples_ns) / sum(leg.samples_ns) for leg in crew)
    (leg,) = crew
    if kind == "server":
        return means.fmean(leg.samples_ns) / 1e9
    return statistics.leg_time_ns(leg.samples_ns, leg.items) / leg.repeats / 1e9
