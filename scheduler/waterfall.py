"""Steps from where one begins to a configuration, with each step's own factor and their product (pure).

Two kinds of chains:
- *gains*: both configurations were measured against the same baseline (its strategy, padding, instances, threads). A
  step's factor is the ratio of their gains, the product is the gain itself, as it was measured. Intervals assume that
  the gains come from independent sessions (`scheduler.ratios`): each job met a baseline of its own.
- where the baseline changes with the step, the factor is the ratio of the *rates* in rows per second, which were
  measured at different times and have no interval; from one process to several of the same threads it is instances ×
  *efficiency* (`storage.records.Load`), whose interval comes from sessions that hold both.

Own factors depend on the order of the steps, for what one step gains depends on those before it; the product does not.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from scheduler import across, ratios, shapes, steps
from scheduler.across import Column
from scheduler.compare import Comparison
from scheduler.ratios import Estimate, Product
from scheduler.shapes import Shape
from scheduler.steps import Point, Step
from storage import metrics, records
from storage.views import JobView

START = "start"
"""Name of what a chart begins with."""

RATED = frozenset({"latency", "throughput"})
"""Kinds whose rows per second are as many as can be; a server answers what comes."""

Through = Literal["gains", "efficiency", "rates"]
State = Literal["start", "done", "same", "missing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A comparison whose label tells its shape."""

    row: Comparison
    own: Shape
    base: Shape

    @property
    def point(self) -> Point:
        """Where it was measured."""
        return Point(kind=self.row.kind, strategy=self.row.strategy, shape=self.own)

    @property
    def reference(self) -> Point:
        """What its gain is over."""
        return Point(kind=self.row.kind, strategy=self.row.baseline, shape=self.base)

    @property
    def name(self) -> str:
        """Tells its gain from others."""
        return self.row.job_ids[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A baseline on one platform, with everything that was measured of the model there."""

    column: Column
    model: str
    point: Point
    cells: tuple[Cell, ...]  # all of the model and platform, on the content that most of them have
    own: tuple[Cell, ...]  # of them, those whose gains are over this baseline
    dropped: int = 0  # comparisons on other content

    @property
    def hardware(self) -> records.Hardware:
        """The machine."""
        return self.column.platform.hardware


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One step on one platform."""

    name: str
    point: Point
    state: State  # same: the step changes nothing on this machine; missing: no number, `reason` says why
    factor: records.Interval | None  # of this step alone; 1 without an interval where it changes nothing
    since: str | None  # the step that the factor is over: the last one with a number
    total: records.Interval | None  # of this step and all before it
    through: Through | None
    rate_per_s: float | None  # rows per second
    found: Comparison | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """The steps on one platform."""

    start: Start
    bars: tuple[Bar, ...]  # the first one is the start

    @property
    def measured(self) -> bool:
        """Whether any step has a number that it was measured for."""
        return any(bar.state == "done" for bar in self.bars)


@dataclass(frozen=True, kw_only=True, slots=True)
class _At:
    """The last step with a number."""

    name: str
    point: Point
    reference: Point
    cell: Cell | None  # None: the start itself
    total: Product
    rate_per_s: float | None


def starts(rows: Iterable[Comparison], platforms: Iterable[records.Platform]) -> list[Start]:
    """Every baseline that gains of latency, throughput or a server are over, by platform and model."""
    found = [row for row in rows if row.kind in steps.KINDS]
    beside = across.across(found, platforms)
    return [start for column in beside.columns for start in _starts_of(column, found)]


def chart(start: Start, wanted: Sequence[Step], jobs: Iterable[JobView] = ()) -> Chart:
    """The steps one after the other; one without a number says which job would give it. `jobs`: that still wait."""
    waiting = list(jobs)
    at = _At(name=START, point=start.point, reference=start.point, cell=None, total=Product(), rate_per_s=_rate(start))
    bars, point = [_first(at)], start.point
    for step in wanted:
        point = steps.applied(step, point, start.hardware)
        bar, at = _bar(step, point, at, start, waiting)
        bars.append(bar)
    return Chart(start=start, bars=tuple(bars))


def _starts_of(column: Column, rows: Sequence[Comparison]) -> Iterator[Start]:
    here = [row for row in rows if (row.hardware_key, row.environment_key) == column.where]
    for model in dict.fromkeys(row.model for row in here):
        cells = [cell for row in here if row.model == model and (cell := _cell(row)) is not None]
        kept = tuple(_alike(cells))
        by_reference: dict[Point, list[Cell]] = {}
        for cell in kept:
            by_reference.setdefault(cell.reference, []).append(cell)
        for point in dict.fromkeys(cell.reference for cell in kept if cell.row.state == "done"):
            own, dropped = tuple(by_reference[point]), len(cells) - len(kept)
            yield Start(column=column, model=model, point=point, cells=kept, own=own, dropped=dropped)


def _cell(row: Comparison) -> Cell | None:
    found = shapes.read(row.input, row.threads)
    return None if found is None else Cell(row=row, own=found[0], base=found[1])


def _alike(cells: Sequence[Cell]) -> list[Cell]:
    """Those on the content that most of them have: the model, then the input, then the model that transforms made."""
    kept = _usual(cells, lambda cell: None, lambda cell: cell.row.model_digest)
    kept = _usual(kept, _input, lambda cell: cell.row.input_digest)
    return _usual(kept, lambda cell: cell.row.strategy.rpartition("+")[0], lambda cell: cell.row.made_digest)


def _input(cell: Cell) -> Hashable:
    return cell.own.batch, cell.own.length, cell.own.padding, cell.base.padding


def _usual(cells: Sequence[Cell], group: Callable[[Cell], Hashable], content: Callable[[Cell], Hashable]) -> list[Cell]:
    """Of each group the cells with its most frequent content, the first of equals; those without a number stay."""
    counts: dict[Hashable, dict[Hashable, int]] = {}
    for cell in cells:
        if cell.row.state == "done":
            mine = counts.setdefault(group(cell), {})
            mine[content(cell)] = mine.get(content(cell), 0) + 1
    usual = {key: max(found, key=lambda one: found[one]) for key, found in counts.items()}
    return [cell for cell in cells if cell.row.state != "done" or content(cell) == usual[group(cell)]]


def _rate(start: Start) -> float | None:
    """Rows per second of the baseline, the median over the sessions that it was met in."""
    rates = [cell.row.baseline_throughput_per_s for cell in start.own]
    known = [rate for rate in rates if rate is not None]
    return statistics.median(known) if known else None


def _first(at: _At) -> Bar:
    return Bar(
        name=START,
        point=at.point,
        state="start",
        factor=None,
        since=None,
        total=at.total.interval(),
        through=None,
        rate_per_s=at.rate_per_s,
        found=None,
    )


def _bar(step: Step, point: Point, at: _At, start: Start, jobs: Sequence[JobView]) -> tuple[Bar, _At]:
    if point == at.point:
        return _same(step, at), dataclasses.replace(at, name=step.name)
    cell = _find(point, at, start)
    made = None if cell is None else _factor(cell, at)
    if cell is None or made is None:
        return _missing(step, point, _why(cell, point, start, jobs)), at
    factor, through = made
    total = _times(at.total, factor)
    bar = Bar(
        name=step.name,
        point=point,
        state="done",
        factor=factor.interval(),
        since=at.name,
        total=total.interval(),
        through=through,
        rate_per_s=cell.row.throughput_per_s,
        found=cell.row,
    )
    return bar, _At(
        name=step.name,
        point=point,
        reference=cell.reference,
        cell=cell,
        total=total,
        rate_per_s=cell.row.throughput_per_s,
    )


def _same(step: Step, at: _At) -> Bar:
    """A step that means nothing on this machine: one process for each core of one core."""
    return Bar(
        name=step.name,
        point=at.point,
        state="same",
        factor=Product().interval(),
        since=at.name,
        total=at.total.interval(),
        through=None,
        rate_per_s=at.rate_per_s,
        found=None if at.cell is None else at.cell.row,
        reason="the same case as the step before on this machine",
    )


def _missing(step: Step, point: Point, reason: str) -> Bar:
    return Bar(
        name=step.name,
        point=point,
        state="missing",
        factor=None,
        since=None,
        total=None,
        through=None,
        rate_per_s=None,
        found=None,
        reason=reason,
    )


def _find(point: Point, at: _At, start: Start) -> Cell | None:
    """The cell of a point: one with a number, over the same baseline as the step before, over the start's."""
    found = [cell for cell in start.cells if cell.point == point]
    order = (at.reference, start.point)
    return min(
        found,
        key=lambda cell: (
            cell.row.gain is None,
            order.index(cell.reference) if cell.reference in order else len(order),
        ),
        default=None,
    )


def _factor(cell: Cell, at: _At) -> tuple[Product, Through] | None:
    """What a cell gains over the last step; None where nothing tells it."""
    gain = ratios.gain(cell.row)
    before = None if at.cell is None else ratios.gain(at.cell.row)
    if cell.reference == at.reference and gain is not None:
        own = Product().times(cell.name, gain)
        if at.cell is None:
            return own, "gains"
        if before is not None:
            return own.over(at.cell.name, before), "gains"
    spread = _efficiency(cell, at)
    if spread is not None:
        return Product().times(f"{cell.name} efficiency", spread), "efficiency"
    rate = cell.row.throughput_per_s
    if rate is None or at.rate_per_s is None or not {cell.row.kind, at.point.kind} <= RATED:
        return None
    estimate = ratios.estimate(rate / at.rate_per_s, None, None, df=1)
    return Product().times(f"{at.name} → {cell.name}", estimate), "rates"


def _efficiency(cell: Cell, at: _At) -> Estimate | None:
    """Instances × efficiency, where the last step is one of these instances alone."""
    row, alone = cell.row, dataclasses.replace(cell.own, instances=1)
    if row.efficiency is None or cell.own.instances == 1:
        return None
    if (at.point.strategy, at.point.shape) != (row.strategy, alone):
        return None
    scaled = [None if one is None else one * cell.own.instances for one in (row.efficiency_low, row.efficiency_high)]
    # the efficiency is the newest job's: its own pairs are fewer where several jobs are combined
    pairs = (row.pairs or 0) // max(1, len(row.job_ids))
    return ratios.estimate(row.efficiency * cell.own.instances, scaled[0], scaled[1], df=pairs - 1)


def _times(total: Product, factor: Product) -> Product:
    for name, (estimate, power) in factor.powers.items():
        total = total.times(name, estimate) if power > 0 else total.over(name, estimate)
    return total


def _why(cell: Cell | None, point: Point, start: Start, jobs: Sequence[JobView]) -> str:
    """Why a step has no number, and which job would give it."""
    if cell is not None:
        row = cell.row
        if row.state != "done":
            return f"{row.state}: {row.reason}"
        return "; ".join(row.notes) or "no gain over the same baseline, and no rate"
    label = shapes.label(point.kind, point.shape, _base(point, start))
    what = f"{point.kind} of {point.strategy}, {label}, {metrics.counted(point.shape.threads, 'thread')}"
    for job in jobs:
        if _is_of(job, point, label, start):
            return f"job {job.id[:8]} ({what}) is {job.state}"
    return f"no such job on this machine: {what}, over {start.point.strategy}"


def _base(point: Point, start: Start) -> Shape:
    """The baseline's shape in a job of this point, as the study of the other cells would plan it."""
    given = [(cell.base.padding == cell.own.padding, cell.base.layout == cell.own.layout) for cell in start.own]
    base = point.shape
    if not all(padding for padding, _ in given):
        base = dataclasses.replace(base, padding=start.point.shape.padding)
    if not all(layout for _, layout in given):
        base = dataclasses.replace(base, instances=start.point.shape.instances, threads=start.point.shape.threads)
    return base


def _is_of(job: JobView, point: Point, label: str, start: Start) -> bool:
    wanted = (point.kind, start.model, point.strategy, start.point.strategy, point.shape.threads, label)
    known = (job.kind, job.model, job.strategy, job.baseline, job.threads, job.input)
    return wanted == known and job.platform_key in (start.column.platform.key, records.ANY_PLATFORM)
