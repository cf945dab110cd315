"""Measures of objectives in words: `3.07 ms [3.03, 3.11]`; the same in a terminal and in a report (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scheduler.measures import Interval, Measure, Objective
from storage import metrics

NOTHING = "–"


def text(found: Measure | None, objective: Objective) -> str:
    """A measure with the interval that holds against all others; `–` for none."""
    if found is None:
        return NOTHING
    format_ = _FORMATS[objective.name]
    told = format_(found.value)
    if objective.name in _BARE or found.wide is None:
        return told
    return f"{told} {between(found.wide, found.value, format_)}"


def between(interval: Interval, value: float, format_: Callable[[float], str]) -> str:
    """An interval without its unit where that is the value's."""
    unit = format_(value).partition(" ")[2]
    ends = [format_(end) for end in interval]
    if all(end.partition(" ")[2] == unit for end in ends):
        ends = [end.partition(" ")[0] for end in ends]
    return f"[{ends[0]}, {ends[1]}]"


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


_FORMATS: Mapping[str, Callable[[float], str]] = {
    "latency": metrics.seconds,
    "throughput": metrics.three,
    "cost": metrics.three,
    "accuracy": _points,
    "size": metrics.bytes_,
    "memory": metrics.bytes_,
}
_BARE = frozenset({"size", "memory"})
