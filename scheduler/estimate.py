"""How long a study will take, from what jobs like its own took before (pure)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scheduler.plan import IMPOSSIBLE, Entry
from storage import records

CaseKey = tuple[str, str, str]
"""Kind, model and strategy: what a typical time is known for."""

FIXED_S = 6.0
"""Seconds of a job beside its measuring, when nothing is known: processes, loading, a first export."""

ACCURACY_S = 30.0
"""Seconds of an accuracy job when nothing is known: 3,000 rows at 10 ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Seconds that the open entries will take."""

    seconds: float
    known: int  # entries whose time rests on earlier jobs like them
    guessed: int  # entries whose time rests on the budget


def estimate(entries: Sequence[Entry], budget: records.Budget, typical: Mapping[CaseKey, float]) -> Estimate:
    """Add up what is still to be measured: planned, queued and running entries."""
    total, known, guessed = 0.0, 0, 0
    for entry in entries:
        if entry.state in records.TERMINAL or entry.state == IMPOSSIBLE:
            continue
        seconds = _typical(entry, typical)
        known, guessed = (known + 1, guessed) if seconds is not None else (known, guessed + 1)
        total += _guess(entry, budget) if seconds is None else seconds
    return Estimate(seconds=total, known=known, guessed=guessed)


def _typical(entry: Entry, typical: Mapping[CaseKey, float]) -> float | None:
    case = entry.case
    exact = typical.get((case.kind, case.model.name, case.strategy))
    if exact is not None:
        return exact
    alike = [s for (kind, model, _), s in typical.items() if kind == case.kind and model == case.model.name]
    return statistics.fmean(alike) if alike else None


def _guess(entry: Entry, budget: records.Budget) -> float:
    return ACCURACY_S if entry.case.kind == "accuracy" else budget.max_seconds + FIXED_S
