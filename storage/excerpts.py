"""What comparisons and floors read of a measurement's document, alike in shape and a seventh of its size (pure).

A document holds all that was told of a measurement, kernels and operators included: four kilobytes, of which a
comparison needs a few numbers. They are stored beside it, so that many results can be compared without reading it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]

SIDES = ("strategy", "baseline")

PERCENTILE = ("q", "value_s", "low_s", "high_s", "withheld")


def excerpt(document: Document) -> dict[str, Any]:
    """The part of a measurement's document that `scheduler.compare` and `scheduler.limits` read, empty parts left out.

    A change here needs a revision of the migrations that makes the stored ones anew.
    """
    sides = {side: _side(side, document.get(side) or {}) for side in SIDES}
    loads = {f"{side}_load": _load(document.get(f"{side}_load") or {}) for side in SIDES}
    return _without_empty({"same_operation": document.get("same_operation"), **sides, **loads})


def _side(name: str, side: Document) -> dict[str, Any]:
    """Of the baseline's percentiles only what is withheld is read."""
    told = [one for one in side.get("percentiles", ()) if name == "strategy" or one.get("withheld")]
    made = ((side.get("artifact") or {}).get("facts") or {}).get("transforms") or ()
    last = [{"model_digest": one.get("model_digest")} for one in made[-1:]]
    return _without_empty(
        {
            "percentiles": [_without_empty({field: one.get(field) for field in PERCENTILE}) for one in told],
            "artifact": {"facts": {"transforms": last}} if last else None,
            "facts": _without_empty({"work": (side.get("facts") or {}).get("work")}),
            "threads_set": side.get("threads_set"),
        }
    )


def _load(load: Document) -> dict[str, Any]:
    return _without_empty({name: load.get(name) for name in ("efficiency", "each_per_s")})


def _without_empty(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None and value not in ({}, [])}
