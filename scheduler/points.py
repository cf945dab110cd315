"""Comparisons as points of a choice: what is asked of a machine, and how one may answer it (pure).

What is asked (the workload) is fixed: model, length, rows in a call, arrivals of a server. How it is answered (the
configuration) is free: strategy, threads, instances, padding, a server's batching and cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler import measures, shapes
from scheduler.across import Where
from scheduler.compare import Comparison
from scheduler.measures import Measure
from storage import metrics

KINDS = ("latency", "throughput", "server")
"""Kinds of rows that are answers to a workload; a tensor operation is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What is asked of a machine."""

    model: str
    model_digest: str | None
    kind: str
    batch: int | None  # rows in a call; None for a throughput, where it is free
    length: int | str | None  # tokens, or "dataset"
    arrivals: str = ""  # server: its rate, or the bound that its highest rate keeps, and the request mix

    @property
    def name(self) -> str:
        """In words: `minilm, b1×l16`, `minilm, b1×l16, 50/s`, `minilm, l16, throughput`."""
        return f"{self.model}, {self.call}"

    @property
    def call(self) -> str:
        """All but the model: `b1×l16, 50/s`."""
        length = self.length if isinstance(self.length, str) else f"l{self.length}"
        call = length if self.batch is None else f"b{self.batch}×{length}"
        kind = self.kind if self.kind == "throughput" else ""
        return ", ".join(part for part in (call, kind, self.arrivals) if part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """How one may answer."""

    strategy: str
    threads: int | None
    instances: int | None = None
    details: tuple[str, ...] = ()  # padding, rows in a call of a throughput, batching, cache

    @property
    def layout(self) -> str:
        """All but the strategy: `2 threads`, `2 instances × 1 thread, sorted`."""
        threads = metrics.counted(self.threads or 0, "thread")
        sides = threads if self.instances is None else f"{metrics.counted(self.instances, 'instance')} × {threads}"
        return ", ".join((sides, *self.details))

    @property
    def name(self) -> str:
        """`torch/int8-dynamic, 2 threads`."""
        return f"{self.strategy}, {self.layout}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Point:
    """A configuration on a platform, with everything that it can be ranked by."""

    workload: Workload
    where: Where
    configuration: Configuration
    row: Comparison
    measures: Mapping[str, Measure]  # by names of measures.OBJECTIVES; what was not measured is missing


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """All points, and what could not become one."""

    points: tuple[Point, ...]
    without: tuple[Comparison, ...]  # rows of no number: unsupported, failed, left out …
    ambiguous: int  # rows whose name stands for several contents on one platform


def plot(rows: Iterable[Comparison], prices: Mapping[Where, float] | None = None) -> Plot:
    """Points in the order of the rows; of one configuration that is measured twice, the more precise one.

    `prices`: of an hour, by platform. Rows marked `digest` are left out: it is not known which content is meant.
    """
    asked = [row for row in rows if row.kind in KINDS and row.input is not None]
    done = [row for row in asked if row.state == "done"]
    clear = [row for row in done if "digest" not in row.marks]
    known = measures.context(clear, prices or {})
    found: dict[tuple[Where, Workload, Configuration], Point] = {}
    for row in clear:
        point = _point(row, known)
        key = (point.where, point.workload, point.configuration)
        if key not in found or _width(point) < _width(found[key]):
            found[key] = point
    without = tuple(row for row in asked if row.state != "done")
    return Plot(points=tuple(found.values()), without=without, ambiguous=len(done) - len(clear))


def workloads(points: Iterable[Point]) -> dict[Workload, dict[Where, list[Point]]]:
    """Points by workload and platform, in their order."""
    found: dict[Workload, dict[Where, list[Point]]] = {}
    for point in points:
        found.setdefault(point.workload, {}).setdefault(point.where, []).append(point)
    return found


def _point(row: Comparison, known: measures.Context) -> Point:
    workload, configuration = read(row)
    found = {name: objective.of(row, known) for name, objective in measures.OBJECTIVES.items()}
    return Point(
        workload=workload,
        where=(row.hardware_key, row.environment_key),
        configuration=configuration,
        row=row,
        measures={name: measure for name, measure in found.items() if measure is not None},
    )


def read(row: Comparison) -> tuple[Workload, Configuration]:
    """What a row's case asks, and how it answers, from its label (`storage.records.Case.label`)."""
    own, _ = shapes.read(row.input, row.threads) or (None, None)
    padding = "" if own is None or own.padding == "longest" else own.padding
    served = own.serving.split(", ") if own is not None and own.serving else []
    means = [part for part in served if part.startswith(("batch ", "cache "))]
    free = row.kind == "throughput"
    rows = [f"batch {row.batch}"] if free else []
    workload = Workload(
        model=row.model,
        model_digest=row.model_digest,
        kind=row.kind,
        batch=None if free else row.batch,
        length=row.length,
        arrivals=", ".join(part for part in served if part not in means),
    )
    details = (*rows, *([padding] if padding else []), *means)
    return workload, Configuration(strategy=row.strategy, threads=row.threads, instances=row.instances, details=details)


def _width(point: Point) -> float:
    """Relative width of the gain's interval: how precisely it was measured."""
    row = point.row
    return row.gain_high / row.gain_low if row.gain_low and row.gain_high else float("inf")


def ranked(points: Iterable[Point], objective: measures.Objective) -> list[Point]:
    """Those that have a measure, the best estimate first."""
    sign = 1 if objective.better == "less" else -1
    having = [point for point in points if objective.name in point.measures]
    return sorted(having, key=lambda point: sign * point.measures[objective.name].value)


def shown_better(a: Point, b: Point, objective: measures.Objective) -> bool:
    """Whether a is shown to be better than b; both have a measure of the objective."""
    return measures.shown_better(a.measures[objective.name], b.measures[objective.name], objective.better)


def ties(best: Point, others: Sequence[Point], objective: measures.Objective) -> list[Point]:
    """Those of the others that the best is not shown to be better than."""
    return [point for point in others if not shown_better(best, point, objective)]
