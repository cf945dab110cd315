"""What is kept of raw samples that are pruned: everything that any command concludes from them (pure).

Percentiles, gains and intervals stand in the result itself. Besides, regressions are judged by sessions
(`scheduler.sessions`), and a report shows how times are spread (`scheduler.report.spread`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from scheduler import sessions as pairs
from scheduler.report import spread
from scheduler.report.spread import Spread
from scheduler.sessions import Session
from storage.records import Leg

Document = Mapping[str, Any]

_OF_LINES = ("line", "slice")
"""Fields of a spread that tell of a report rather than of a job."""


def of(kind: str, legs: Sequence[Leg]) -> Document:
    """The document that stays of a job's legs."""
    return {
        "sessions": [[one.pair, one.log_time, one.log_baseline] for one in pairs.sessions(kind, legs)],
        "spreads": [_without(dataclasses.asdict(one)) for one in spread.spreads(legs)],
    }


def sessions(document: Document) -> list[Session]:
    """The sessions, as `scheduler.sessions` gave them."""
    return [Session(pair=pair, log_time=own, log_baseline=other) for pair, own, other in document["sessions"]]


def spreads(document: Document) -> tuple[Spread, ...]:
    """Both sides' spreads, as `scheduler.report.spread` gave them."""
    return tuple(Spread(**{name: _tuples(value) for name, value in one.items()}) for one in document["spreads"])


def _without(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in _OF_LINES}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
