"""Waterfalls for people: bars on a logarithmic axis, a table of factors, and the steps of several machines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from scheduler.cli import tables
from scheduler.recognise import Family
from scheduler.steps import Step
from scheduler.waterfall import Bar, Chart
from storage import metrics, records

NAMES = 26
"""Widest name of a step beside its bar."""

GAINS, LOSES, EDGE = "█", "░", "│"

Column = tables.Column[Bar]

Row = tuple[str, list[Bar]]
"""A step's name with its bar on every machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A family's steps with a chart for each machine."""

    family: Family
    steps: tuple[Step, ...]
    charts: tuple[Chart, ...]
    ends: int | None  # cases that the end is the fastest of; None: steps that a person named


def render(found: Sequence[Told], width: int) -> RenderableType:
    """Everything that `waterfall` prints."""
    parts: list[RenderableType] = []
    for told in found:
        for chart in told.charts:
            parts += [*_chart(chart, width), Text()]
        if len(told.charts) > 1:
            parts += [*_beside(told, width), Text()]
        parts += [*_recognised(told)]
    return Group(*parts, *_legend(found))


def _chart(chart: Chart, width: int) -> Iterator[RenderableType]:
    start = chart.start
    yield Text(tables.clean(f"{start.model} on {start.column.name}: {start.point.kind}"), style="bold", overflow="fold")
    hosts = ", ".join(start.column.hosts) or "no host"
    yield Text(
        tables.clean(f"from {start.point.strategy}, {start.point.shape.text(start.point.kind)}; {hosts}"),
        overflow="fold",
    )
    yield Text()
    yield from _bars(chart, width)
    yield Text()
    yield from tables.folded(_NAME, _COLUMNS, [("", chart.bars)], width)
    yield from tables.listed("no number", [f"{bar.name}: {bar.reason}" for bar in chart.bars if bar.state == "missing"])
    yield from tables.listed("notes", list(_notes(chart)))


def _notes(chart: Chart) -> Iterator[str]:
    for bar in chart.bars:
        if bar.state == "same":
            yield f"{bar.name}: {bar.reason}"
        if bar.through == "rates":
            yield f"{bar.name}: ratio of rates from two sessions, for the baseline changes here: no interval"
        if bar.through == "efficiency":
            yield f"{bar.name}: instances × efficiency against one of them alone"
    if chart.start.dropped:
        counted = metrics.counted(chart.start.dropped, "result")
        yield f"{counted} on another content of the model or input left out (`quantfleet compare` shows them)"


def _bars(chart: Chart, width: int) -> Iterator[RenderableType]:
    """A line for each step: from the product before it to the product with it."""
    known = [bar.total.value for bar in chart.bars if bar.total is not None]
    names = min(NAMES, max(Text(bar.name).cell_len for bar in chart.bars))
    room = max(10, width - names - len("  ×100.00"))
    low, high = min(known), max(known)
    before = 1.0
    for bar in chart.bars:
        line = Text(_cut(bar.name, names), overflow="crop", no_wrap=True)
        if bar.total is None:
            yield line.append("  no number", "dim")
            continue
        line.append("  " + segment(before, bar.total.value, low, high, room - 1), _style(bar))
        yield line.append(f" {metrics.ratio(bar.total.value)}")
        before = bar.total.value


def segment(before: float, after: float, low: float, high: float, room: int) -> str:
    """A bar from one product to another on a logarithmic axis of `room` characters from `low` to `high`."""
    span = math.log(high / low) or 1.0
    one, other = (round((room - 1) * math.log(value / low) / span) for value in (before, after))
    left, right = sorted((one, other))
    mark = EDGE if right == left else (GAINS if after > before else LOSES) * (right - left)
    return " " * left + mark


def _style(bar: Bar) -> str:
    if bar.factor is None or not bar.factor.excludes_1:
        return ""
    return "green" if bar.factor.value > 1 else "red"


def _cut(name: str, width: int) -> str:
    text = tables.clean(name)
    return f"{text[: width - 1]}…" if len(text) > width else text.ljust(width)


def _factor(bar: Bar) -> str:
    if bar.state == "start":
        return tables.NOTHING
    return _starred(bar.factor) if bar.state == "done" else "the same" if bar.state == "same" else "no number"


def _starred(found: records.Interval | None) -> str:
    if found is None:
        return tables.NOTHING
    return tables.interval(found.value, found.low, found.high) + ("*" if found.excludes_1 else "")


def _total(bar: Bar) -> str:
    if bar.total is None:
        return tables.NOTHING
    whole = bar.state == "start" or bar.total.low == bar.total.high
    return metrics.ratio(bar.total.value) if whole else tables.interval(bar.total.value, bar.total.low, bar.total.high)


def _accuracy(bar: Bar) -> str:
    found = None if bar.found is None else bar.found.accuracy
    return tables.NOTHING if found is None else metrics.percent(found.accuracy)


def _verdict(bar: Bar) -> str:
    found = None if bar.found is None else bar.found.accuracy
    return tables.NOTHING if found is None else found.verdict or tables.NOTHING


_NAME: tuple[Column, ...] = (tables.Column(title="step", cell=lambda bar: tables.strategy_lines(bar.name), left=True),)
_COLUMNS: tuple[Column, ...] = (
    tables.Column(title="its own factor", cell=_factor, left=True, always=True),
    tables.Column(title="product so far", cell=_total, left=True, always=True),
    tables.Column(title="rows/s", cell=lambda bar: tables.rate(bar.rate_per_s)),
    tables.Column(title="accuracy", cell=_accuracy),
    tables.Column(title="verdict", cell=_verdict, left=True),
)


def _beside(told: Told, width: int) -> Iterator[RenderableType]:
    """Each step's own factor on every machine, and the product in the last row."""
    yield Text(tables.clean(f"{told.family.model}: each step's own factor by machine"), style="bold")
    rows = [(step.name, [chart.bars[number + 1] for chart in told.charts]) for number, step in enumerate(told.steps)]
    columns = [_machine(chart, number) for number, chart in enumerate(told.charts)]
    ends = ("product", [chart.bars[-1] for chart in told.charts])
    key: tables.Column[Row] = tables.Column(title="step", cell=lambda row: tables.strategy_lines(row[0]), left=True)
    yield from tables.folded([key], columns, [("", [*rows, ends])], width)


def _machine(chart: Chart, number: int) -> tables.Column[Row]:
    def cell(row: Row) -> str:
        bar = row[1][number]
        return _total(bar) if row[0] == "product" else _factor(bar)

    return tables.Column(title="\n".join(chart.start.column.label), cell=cell, left=True, always=True)


def _recognised(told: Told) -> Iterator[RenderableType]:
    if told.ends is None:
        return
    what = f"the fastest of {told.ends} cases" if told.ends > 1 else "the only case"
    yield Text(f"steps recognised on the way to {what}; the same as options:", style="dim", overflow="fold")
    for step in told.steps:
        yield Text(tables.clean(f"  --step '{step.name}={step.text}'"), style="dim", overflow="fold")
    yield Text()


def _legend(found: Iterable[Told]) -> Iterator[Text]:
    bars = [bar for told in found for chart in told.charts for bar in chart.bars]
    yield _dim("own factor: gain of this step ÷ gain of the one before [95 % interval]; * it excludes ×1")
    yield _dim(
        "intervals take the steps' sessions as independent; own factors depend on the order, the product does not"
    )
    if any(bar.total is not None and bar.state == "done" and bar.total.value < 1 for bar in bars):
        yield _dim(f"{LOSES} a step that loses")


def _dim(text: str) -> Text:
    return Text(text, style="dim", overflow="fold")
