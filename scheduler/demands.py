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

FAR = 100.0
"""Beyond so many times the samples nobody will measure on; the sentence says no more than that."""

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
    high: float | None  # what must be under the limit: the interval's upper end, the value itself where it is exact
    why: str = ""  # why it is unknown

    @property
    def excess(self) -> float:
        """How far beyond the limit, as a share of it; 0.0 where it is met, infinite where it is unknown."""
        known = [end for end in (self.value, self.high) if end is not None]
        if not known:
            return math.inf
        if self.state == "met":
            return 0.0
        return max(0.0, max(known) / self.limit.most - 1) if self.limit.most else math.inf

    @property
    def samples(self) -> str:
        """What there would have to be more of: `calls` or `rows`; empty for what is exact."""
        return "rows" if self.limit.name == "accuracy_loss" else "calls" if self.limit.name in LATENCIES else ""

    @property
    def times(self) -> float | None:
        """How many times as many samples would show a limit kept that is not shown to be, if the estimate stays.

        An interval narrows with the square root of its samples. None for another state, and where no number would.
        """
        if self.state != "not shown" or self.value is None or self.high is None or self.value >= self.limit.most:
            return None
        return ((self.high - self.value) / (self.limit.most - self.value)) ** 2

    @property
    def text(self) -> str:
        """What it misses: `p95 24.1 ms > 20.0 ms (+21 %)`, `accuracy loss 0.30 pt, up to 0.90 pt: …`."""
        label, most = LABELS[self.limit.name], amount(self.limit.name, self.limit.most)
        if self.value is None:
            return f"{label} unknown: {self.why}"
        shown = amount(self.limit.name, self.value)
        if self.state == "not shown":
            up_to = "no upper end known" if self.high is None else f"up to {amount(self.limit.name, self.high)}"
            return f"{label} {shown}, {up_to}: not shown to be within {most}{self._decided_by}"
        beyond = f" (+{100 * (self.value / self.limit.most - 1):.0f} %)" if self.limit.most else ""
        return f"{label} {shown} > {most}{beyond}"

    @property
    def _decided_by(self) -> str:
        if self.times is None:
            return ""
        shown = f"more than {FAR:.0f}" if self.times > FAR else f"about {metrics.two(self.times)}"
        return f" ({shown} × as many {self.samples} would tell)"


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
    """One row against one limit, which is met where the upper end of the interval is within it.

    What a search for the highest rate held to is met by the search itself: its rate is where the percentile comes to
    the bound, so that what is uncertain is the rate. Memory and size have no interval, and count as measured.
    """
    if limit.name == "accuracy_loss":
        return _loss(row, limit)
    value = _value(row, limit.name)
    if value is None:
        return Check(limit=limit, state="unknown", value=None, high=None, why=_why(row, limit.name))
    high = getattr(row, f"{limit.name}_high_s") if limit.name in LATENCIES else value
    held = value if _held(row, limit) else high
    return Check(limit=limit, state=_state(value, held, limit.most), value=value, high=high)


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
    return Check(limit=limit, state=_state(value, high, limit.most), value=value, high=high)


def _state(value: float, high: float | None, most: float) -> State:
    if value > most:
        return "missed"
    return "met" if high is not None and high <= most else "not shown"


def _held(row: Comparison, limit: Limit) -> bool:
    """Whether a search held to this limit, or to a stricter one: a higher percentile, or a lower bound."""
    bound = measures.bound(row) if limit.name in LATENCIES else None
    if bound is None:
        return False
    percentile, seconds = bound
    return float(percentile[1:]) >= float(LABELS[limit.name][1:]) and seconds <= limit.most * (1 + 1e-9)


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
