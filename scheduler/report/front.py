"""Which configurations no other one beats in latency, accuracy and size at once: the Pareto front (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.report.contents import Line


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A configuration with all three numbers."""

    line: Line
    latency_s: float  # p50
    accuracy: float  # share of right rows
    size_bytes: int  # on disk
    first: bool  # on the front of its slice
    rank: int | None  # number on the front of its slice, from 1, the quickest first; None: beaten


def fronts(lines: Iterable[Line]) -> tuple[Point, ...]:
    """The configurations of each slice that have all three numbers, those of its front first, the quickest first.

    Only what was measured alike is compared: one model, input and thread count on one platform.
    """
    groups: dict[tuple[int, str], list[Line]] = {}
    for line in lines:
        if line.found.kind == "latency" and _values(line) is not None:
            groups.setdefault((line.slice, line.found.model_digest or ""), []).append(line)
    return tuple(point for group in groups.values() for point in _points(group))


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one is at least as good in every number (less is better) and better in one."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def _points(lines: Sequence[Line]) -> list[Point]:
    values = {line.number: found for line in lines if (found := _values(line))}
    ordered = sorted(lines, key=lambda line: values[line.number])
    beaten = {number for number, own in values.items() if any(dominates(other, own) for other in values.values())}
    ranked = [line for line in ordered if line.number not in beaten]
    ranks = {line.number: rank for rank, line in enumerate(ranked, 1)}
    rest = [line for line in ordered if line.number in beaten]
    return [_point(line, values[line.number], ranks.get(line.number)) for line in (*ranked, *rest)]


def _point(line: Line, values: tuple[float, float, float], rank: int | None) -> Point:
    latency, wrong, size = values
    return Point(line=line, latency_s=latency, accuracy=-wrong, size_bytes=int(size), first=rank is not None, rank=rank)


def _values(line: Line) -> tuple[float, float, float] | None:
    """Latency, accuracy with its sign turned, and size: of each, less is better."""
    row = line.found
    accuracy = row.accuracy.accuracy if row.accuracy else None
    if row.latency_p50_s is None or accuracy is None or row.artifact_bytes is None:
        return None
    return row.latency_p50_s, -accuracy, float(row.artifact_bytes)
