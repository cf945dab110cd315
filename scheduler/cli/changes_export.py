"""Changes since an earlier measurement as plain data; fields are described in docs/regressions.md."""

from __future__ import annotations

import dataclasses
from typing import Any

from scheduler.changes import Found
from scheduler.regressions import Change, Effect

_CASE = (
    "hardware_key",
    "cpu",
    "kind",
    "model",
    "model_digest",
    "strategy",
    "baseline",
    "threads",
    "input",
    "instances",
)
_BOTH = ("environment_key", "hosts", "job_ids", "latency_p50_s", "throughput_per_s", "gain", "gain_low", "gain_high")
_NUMBERS = ("time", "baseline_time", "gain")
_EFFECT = {
    "ratio": "ratio",
    "low": "ratio_low",
    "high": "ratio_high",
    **{name: name for name in ("p", "p_adjusted", "p_worse", "p_worse_adjusted")},
}
"""Field of an effect → what its name in a flat change ends in."""

FIELDS = (
    *_CASE,
    *(name for field in _BOTH for name in (field, f"earlier_{field}")),
    *("sessions", "earlier_sessions"),
    *(f"{number}_{name}" for number in _NUMBERS for name in _EFFECT.values()),
    *("verdict", "regression", "note"),
)
"""Names of a change's fields, in the order of CSV columns."""


def document(found: Found) -> dict[str, Any]:
    """Everything that `compare --against --json` prints."""
    return {
        "title": found.title,
        "rule": {**dataclasses.asdict(found.asked.rule), "accuracy_limit": found.asked.accuracy_limit},
        "software": [dataclasses.asdict(step) for step in found.split.steps],
        "drift": dict(found.drifts),
        "changes": [flat(change) for change in found.changes],
        "accuracies": [dataclasses.asdict(one) for one in found.accuracies],
        "not_compared": [
            {**{name: getattr(one.row, name) for name in _CASE}, "reason": one.reason, "text": one.text}
            for one in found.apart
        ],
        "ran_otherwise": list(found.otherwise),
        "notes": list(found.split.notes),
        "tested": found.tested,
        "regressions": len(found.worse) + len(found.lost) + len(found.broken),
        "failed": found.fails,
    }


def flat(change: Change) -> dict[str, Any]:
    """A change under `FIELDS`."""
    case = {name: getattr(change.later, name) for name in _CASE}
    both = {name: getattr(change.later, name) for name in _BOTH}
    both |= {f"earlier_{name}": getattr(change.earlier, name) for name in _BOTH}
    numbers = {key: value for number in _NUMBERS for key, value in _effect(number, getattr(change, number)).items()}
    rest = ("sessions", "earlier_sessions", "verdict", "regression", "note")
    return {**case, **both, **numbers, **{name: getattr(change, name) for name in rest}}


def _effect(number: str, effect: Effect | None) -> dict[str, Any]:
    return {f"{number}_{name}": None if effect is None else getattr(effect, field) for field, name in _EFFECT.items()}
