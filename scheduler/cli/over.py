"""`compare --over AXIS`: any axis of the matrix on the columns, as tables or JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from scheduler import compare
from scheduler.axes import AXES
from scheduler.cli import common, tables
from scheduler.compare import Comparison
from scheduler.filters import choice
from storage import errors, metrics, records

if TYPE_CHECKING:
    from scheduler.pivot import Cell, Pivot, Row, Table

OverOption = Annotated[
    str | None,
    typer.Option("--over", metavar="AXIS", help=f"What the columns are: {', '.join(AXES)}"),
]

_CELL = (
    *("state", "reason", "gain", "gain_low", "gain_high", "significant", "latency_p50_s", "throughput_per_s"),
    *("hardware_key", "environment_key", "model", "model_digest", "input_digest", "strategy", "baseline"),
    *("threads", "input", "marks", "job_ids"),
)
"""Fields of a comparison that a cell shows in JSON."""


def check(axis: str | None, without: Mapping[str, bool]) -> None:
    """QueryError for an unknown axis, and for options that another layout has."""
    choice("over", axis, tuple(AXES))
    for option, given in without.items():
        if axis is not None and given:
            raise errors.QueryError(f"{option} and --over exclude one another")


def show(rows: Sequence[Comparison], axis: str, platforms: Iterable[records.Platform], *, as_json: bool) -> None:
    """Print the comparisons with this axis on the columns; QueryError where none has anything on it."""
    from scheduler import pivot

    found = pivot.pivot(rows, axis, platforms)
    if not found.tables:
        raise errors.QueryError(f"--over {axis}: no result has any {axis} to tell apart")
    if as_json:
        common.print_json(over=axis, tables=[_plain(table) for table in found.tables])
    else:
        console = Console(highlight=False)
        console.print(render(found, console.width))


def render(found: Pivot, width: int) -> RenderableType:
    """All tables, and what their signs mean."""
    parts: list[RenderableType] = []
    for table in found.tables:
        parts += [Text(tables.clean(table.title), style="bold", overflow="fold"), *_table(table, width)]
        parts += [*tables.listed("no number", _reasons(table)), Text()]
    if found.without:
        results = metrics.counted(found.without, "comparison")
        parts.append(Text(f"{results} left out: nothing on the axis {found.axis} there"))
    return Group(*parts, *_legend(found))


def _table(table: Table, width: int) -> Iterator[RenderableType]:
    columns = [_column(number, title) for number, title in enumerate(table.columns)]
    columns.append(tables.Column(title="range", cell=_range, left=True))
    keys: Sequence[tables.Column[Row]] = [
        tables.Column(title="", cell=lambda row: tables.strategy_lines(row.label), left=True)
    ]
    yield from tables.folded(keys, columns, [(heading, rows) for heading, rows in table.sections], width)


def _column(number: int, title: str) -> tables.Column[Row]:
    return tables.Column(title=title, cell=lambda row: _cell(row.cells[number]), left=True, always=True)


def _cell(cell: Cell | None) -> str:
    """The gain with its interval, below it what a call takes or how many rows come a second."""
    if cell is None:
        return tables.NOTHING
    row = cell.found
    if row.gain is None:
        return row.state
    marks = [mark for mark in compare.MARKS if mark in _marks(cell)]
    star = ("*" if row.significant else "") + "".join(tables.SYMBOLS[mark] for mark in marks)
    gain, _, interval = tables.interval(row.gain, row.gain_low, row.gain_high).partition(" ")
    return "\n".join(filter(None, [f"{gain}{star} {interval}".rstrip(), _pace(row)]))


def _marks(cell: Cell) -> set[str]:
    marks = {*cell.found.marks} - {"digest", "withheld"}
    return marks if cell.counted else marks | {"digest"}


def _pace(row: Comparison) -> str | None:
    if row.kind in {"throughput", "server"}:
        return None if row.throughput_per_s is None else f"{tables.rate(row.throughput_per_s)} rows/s"
    return None if row.latency_p50_s is None else metrics.seconds(row.latency_p50_s)


def _range(row: Row) -> str:
    from scheduler.cli import across_table

    if row.low is None or row.high is None:
        return tables.NOTHING
    low, high = metrics.ratio(row.low), metrics.ratio(row.high)
    return (low if low == high else f"{low}–{high}") + (f" {across_table.SYMBOLS['flips']}" if row.flips else "")


def _cells(table: Table) -> Iterator[Cell]:
    for _, rows in table.sections:
        yield from (cell for row in rows for cell in row.cells if cell is not None)


def _reasons(table: Table) -> list[str]:
    """`strategy, strategy and 7 more: reason`, once for each reason."""
    found: dict[str, dict[str, None]] = {}
    for row in (cell.found for cell in _cells(table) if cell.found.gain is None):
        found.setdefault(f"{row.state}, {row.reason or '; '.join(row.notes)}", {})[row.strategy] = None
    return [f"{tables.several(names)}: {text}" for text, names in found.items()]


def _legend(found: Pivot) -> Iterator[Text]:
    from scheduler.cli import across_table

    yield _dim("×gain: baseline's time ÷ the strategy's on the same host (above ×1 is faster) [95 % interval]")
    yield _dim(
        "* the interval excludes ×1; below: the strategy's p50, or rows/s; range: least and greatest gain of a row"
    )
    used = {mark for table in found.tables for cell in _cells(table) if cell.found.gain for mark in _marks(cell)}
    for mark, meaning in compare.MARKS.items():
        if mark in used:
            yield _dim(f"{tables.SYMBOLS[mark]} {mark}: {meaning}")
    if any(row.flips for table in found.tables for _, rows in table.sections for row in rows):
        yield _dim(
            f"{across_table.SYMBOLS['flips']} significantly faster than the baseline in one column, slower in another"
        )


def _dim(text: str) -> Text:
    return Text(text, style="dim", overflow="fold")


def _plain(table: Table) -> dict[str, Any]:
    sections = [{"heading": heading, "rows": [_plain_row(row) for row in rows]} for heading, rows in table.sections]
    return {"title": table.title, "columns": list(table.columns), "sections": sections}


def _plain_row(row: Row) -> dict[str, Any]:
    found = dataclasses.asdict(dataclasses.replace(row, cells=()))
    cells = [
        None if cell is None else {"counted": cell.counted, **{name: getattr(cell.found, name) for name in _CELL}}
        for cell in row.cells
    ]
    return {**found, "cells": cells}
