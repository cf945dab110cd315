"""How long jobs will take, from what jobs like them took before (pure)."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler.plan import IMPOSSIBLE, Entry
from storage import records, strategies

CaseKey = tuple[str, str, str]
"""Kind, model and strategy: what a typical time is known for."""

Typical = Mapping[CaseKey, float]
"""Seconds that the jobs of a case took on a platform."""

FIXED_S = 6.0
"""Seconds of a job beside its measuring, when nothing is known: processes, loading, a first export."""

PREPARE_S = 20.0
"""Seconds of preparing when nothing is known: an export, a calibration."""

TRAINING_S = 600.0
"""Seconds of a training when nothing is known."""

CEILINGS_S = 30.0
"""Seconds of a calibration on two cores when nothing is known."""

ACCURACY_S = 30.0
"""Seconds of an accuracy job when nothing is known: 3,000 rows at 10 ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Seconds that the open jobs will take, one after the other."""

    seconds: float
    known: int  # jobs whose time rests on earlier jobs like them
    guessed: int  # jobs whose time rests on the budget


def estimate(entries: Sequence[Entry], budget: records.Budget, typical: Typical) -> Estimate:
    """Add up what is still to be measured: planned, queued and running entries."""
    still = [entry for entry in entries if entry.state not in records.TERMINAL and entry.state != IMPOSSIBLE]
    cases = Counter((entry.case.kind, entry.case.model.name, entry.case.strategy) for entry in still)
    return of_cases(cases.items(), budget.max_seconds, typical)


def of_cases(cases: Iterable[tuple[CaseKey, int]], max_seconds: float, typical: Typical) -> Estimate:
    """Add up jobs by their cases, so many of each; `max_seconds` is the budget of a latency job."""
    total, known, guessed = 0.0, 0, 0
    for case, count in cases:
        seconds = _typical(case, typical)
        known, guessed = (known + count, guessed) if seconds is not None else (known, guessed + count)
        total += count * (_guess(case, max_seconds) if seconds is None else seconds)
    return Estimate(seconds=total, known=known, guessed=guessed)


def together(parts: Iterable[tuple[Estimate, int]]) -> Estimate:
    """Targets that are measured side by side, each by so many hosts: the slowest decides."""
    found = list(parts)
    return Estimate(
        seconds=max((part.seconds / max(1, hosts) for part, hosts in found), default=0.0),
        known=sum(part.known for part, _ in found),
        guessed=sum(part.guessed for part, _ in found),
    )


def _typical(case: CaseKey, typical: Typical) -> float | None:
    exact = typical.get(case)
    if exact is not None:
        return exact
    kind, model, _ = case
    alike = [seconds for (one, other, _), seconds in typical.items() if (one, other) == (kind, model)]
    return statistics.fmean(alike) if alike else None


def _guess(case: CaseKey, max_seconds: float) -> float:
    if case[0] == "prepare":
        return TRAINING_S if strategies.parse(case[2]).trained else PREPARE_S
    fixed = {"accuracy": ACCURACY_S, "ceilings": CEILINGS_S}
    return fixed.get(case[0], max_seconds + FIXED_S)
