"""What a configuration has to keep, and whether it is shown to (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from scheduler import measures
from scheduler.compare import Comparison
from scheduler.points import Point
from storage import metrics

State = Literal["met", "not shown", "missed", "unknown"]
"""`not shown`: the estimate keeps the limit, its interval does not; `unknown`: nothing was measured."""

LATENCIES = ("latency_p50", "latency_p90", "latency_p95")

LABELS = {
    "latency_p50": "p50",
    "latency_p90": "p90",
    "latency_p95": "p95",
    "accuracy_loss": "accuracy loss",
    "memory": "peak memory",
    "size": "size",
}
"""Everything that may be limited → what it is called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """At most so much of something."""

    name: str  # of LABELS
    most: float  # seconds, share, bytes
    given: str = ""  # as a person wrote it

    @property
    def text(self) -> str:
        """`p95 ≤ 20ms`."""
        return f"{LABELS[self.name]} ≤ {self.given or amount(self.name, self.most)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A configuration against one limit."""

    limit: Limit
    state: State
    value: float | None  # the estimate; None: unknown
    high: float | None  # what must be under the limit: the interval's upper end where there is one
    why: str = ""  # why it is unknown

    @property
    def excess(self) -> float:
        """How far beyond the limit, as a share of it; 0.0 where it is met, infinite where it is unknown."""
        if self.high is None:
            return math.inf
        return max(0.0, self.high / self.limit.most - 1)

    @property
    def text(self) -> str:
        """What it misses: `p95 24.1 ms > 20.0 ms (+21 %)`, `accuracy loss 0.30 pt, up to 0.90 pt: …`."""
        label, most = LABELS[self.limit.name], amount(self.limit.name, self.limit.most)
        if self.value is None:
            return f"{label} unknown: {self.why}"
        shown = amount(self.limit.name, self.value)
        if self.state == "not shown":
            return f"{label} {shown}, up to {amount(self.limit.name, self.high or 0.0)}: not shown to be within {most}"
        return f"{label} {shown} > {most} (+{100 * (self.value / self.limit.most - 1):.0f} %)"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """A point with what every limit says."""

    point: Point
    checks: tuple[Check, ...]

    @property
    def state(self) -> State:
        """The worst of its checks; `met` without limits."""
        states = {check.state for check in self.checks}
        order: tuple[State, ...] = ("missed", "unknown", "not shown")
        return next((state for state in order if state in states), "met")

    @property
    def distance(self) -> tuple[int, float, int]:
        """How near it comes: fewest unknowns, then the least worst excess, then the fewest misses."""
        known = [check.excess for check in self.checks if check.state != "unknown"]
        misses = sum(check.state != "met" for check in self.checks)
        return len(self.checks) - len(known), max(known, default=0.0), misses

    @property
    def missed(self) -> tuple[str, ...]:
        """Sentences for each limit that it is not shown to keep."""
        return tuple(check.text for check in self.checks if check.state != "met")


def judge(points: Iterable[Point], limits: Sequence[Limit]) -> list[Judged]:
    """Each point against all limits, in their order."""
    return [Judged(point=point, checks=tuple(check(point.row, limit) for limit in limits)) for point in points]


def check(row: Comparison, limit: Limit) -> Check:
    """One row against one limit. A loss of accuracy is met where its interval's upper end is within the limit."""
    if limit.name == "accuracy_loss":
        return _loss(row, limit)
    value = _value(row, limit.name)
    if value is None:
        return Check(limit=limit, state="unknown", value=None, high=None, why=_why(row, limit.name))
    return Check(limit=limit, state="met" if value <= limit.most else "missed", value=value, high=value)


def amount(name: str, value: float) -> str:
    """A limited number with its unit."""
    if name == "accuracy_loss":
        return f"{100 * value:.2f} pt"
    return metrics.seconds(value) if name in LATENCIES else metrics.bytes_(value)


def _loss(row: Comparison, limit: Limit) -> Check:
    difference = measures.OBJECTIVES["accuracy"].of(row, measures.Context(yardsticks={}, prices={}))
    if difference is None or difference.near is None:
        return Check(limit=limit, state="unknown", value=None, high=None, why=_why_no_loss(row))
    value, high = -difference.value, -difference.near[0]
    state: State = "met" if high <= limit.most else "not shown" if value <= limit.most else "missed"
    return Check(limit=limit, state=state, value=value, high=high)


def _value(row: Comparison, name: str) -> float | None:
    if name == "memory":
        return measures.memory(row)
    if name == "size":
        return row.artifact_bytes
    found: float | None = getattr(row, f"{name}_s")
    return found


def _why(row: Comparison, name: str) -> str:
    if name not in LATENCIES:
        return "not measured"
    percentile = LABELS[name]
    withheld = (reason for reason in row.withheld if reason.startswith(f"{percentile}:"))
    overloaded = "overloaded" if "overloaded" in row.marks else "not measured"
    return next(withheld, f"{percentile}: {overloaded}").partition(": ")[2]


def _why_no_loss(row: Comparison) -> str:
    if row.accuracy is None:
        return "its accuracy is not measured on this hardware and software"
    return row.accuracy.note or "its accuracy has no comparison with the baseline's"
