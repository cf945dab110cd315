"""Platforms side by side, for people: strategy × hardware, what differs, and which column is which machine."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from scheduler import across, across_notes, across_sections, compare, labels
from scheduler.across import Across, Cell, Matrix, Model, Row
from scheduler.across_sections import Section
from scheduler.cli import tables
from storage import foreign, metrics

SYMBOLS = {"software": "§", "foreign": "†", "flips": "±"}
"""How a mark of a column or a row is shown; cells have those of `tables.SYMBOLS`."""

BREAK = "\n"

NARROW = 14
"""Widest line of a heading or verdict, where the cells have lines of their own for their intervals."""

_ELSEWHERE = {"withheld"}
"""Marks that speak of percentiles, which matrices do not show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A row as text."""

    strategy: str
    cells: tuple[str, ...]  # one for each column
    range: str


Sections = list[tuple[str, list[Line]]]


def render(found: Across, width: int) -> RenderableType:
    """Everything that `compare` prints for several platforms, without their details."""
    parts: list[RenderableType] = []
    for model in found.models:
        parts += [*_model(model, width), Text()]
    return Group(*parts, *_nowhere(found), *_columns(found), *_software(found), Text(), *_legend(found))


def _model(model: Model, width: int) -> Iterator[RenderableType]:
    yield Text(tables.clean(f"{model.name} on {metrics.counted(len(model.columns), 'platform')}"), style="bold")
    baselines = dict.fromkeys(matrix.baseline for matrix in (*model.gains, *model.accuracies))
    over = f" over {next(iter(baselines))}" if len(baselines) == 1 else ""
    if model.gains:
        yield _caption(f"gain{over}")
        yield from _table(model, lambda tall: _gain_sections(model, tall, alone=bool(over)), width)
    if model.accuracies:
        yield _caption(f"{BREAK if model.gains else ''}accuracy, answers compared with the baseline's row by row")
        yield from _table(model, lambda tall: _accuracy_sections(model, tall, alone=bool(over)), width)
    yield from tables.listed(f"the sign flips {SYMBOLS['flips']}", across_notes.flips(model))
    yield from tables.listed(f"not the same everywhere {tables.SYMBOLS['digest']}", across_notes.differences(model))
    yield from tables.listed("no number", _reasons(model, model.gains, lambda cell: cell.found.reason))
    yield from tables.listed("accuracy", _reasons(model, model.accuracies, _accuracy_note))


def _caption(text: str) -> Text:
    return Text(tables.clean(text), overflow="fold")


def _table(model: Model, lines: Callable[[bool], Sections], width: int) -> Iterator[RenderableType]:
    """One line a cell where that fits the width, otherwise several, otherwise several tables."""
    wide = _table_columns(model, tall=False)
    if tables.fit(_STRATEGY, wide, lines(False), width):
        yield from tables.folded(_STRATEGY, wide, lines(False), width)
    else:
        yield from tables.folded(_STRATEGY, _table_columns(model, tall=True), lines(True), width)


def _table_columns(model: Model, *, tall: bool) -> list[tables.Column[Line]]:
    found = [_table_column(model, number, tall=tall) for number in range(len(model.columns))]
    return [*found, tables.Column(title="range", cell=lambda line: line.range, left=True)]


def _table_column(model: Model, number: int, *, tall: bool) -> tables.Column[Line]:
    heading = _heading(model, number)
    return tables.Column(
        title=_narrow(heading) if tall else heading, cell=lambda line: line.cells[number], left=True, always=True
    )


_STRATEGY: tuple[tables.Column[Line], ...] = (
    tables.Column(title="strategy", cell=lambda line: tables.strategy_lines(line.strategy), left=True),
)


def _gain_sections(model: Model, tall: bool, *, alone: bool) -> Sections:
    return [_gain_section(section, tall, alone=alone) for section in across_sections.sections(model)]


def _gain_section(section: Section, tall: bool, *, alone: bool) -> tuple[str, list[Line]]:
    unknown = not any(section.threads)  # of other tools' results
    threads = "threads differ" if section.shared is None and not unknown else compare.threads(section.shared)
    heading = f"{section.input}, {threads}" + ("" if alone else f", over {section.baseline}")
    lines = [_line(row, "gain", tall) for row in section.rows]
    if section.shared is None and not unknown:
        counts = tuple(tables.NOTHING if count is None else str(count) for count in section.threads)
        lines.insert(0, Line(strategy="threads", cells=counts, range=tables.NOTHING))
    return heading, lines


def _accuracy_sections(model: Model, tall: bool, *, alone: bool) -> Sections:
    return [
        ("" if alone else f"over {matrix.baseline}", [_line(row, "accuracy", tall) for row in matrix.rows])
        for matrix in model.accuracies
    ]


def _line(row: Row, kind: across.Kind, tall: bool) -> Line:
    parts = {"gain": _gain, "accuracy": _accuracy}[kind]
    cells = (None if cell is None else parts(cell) for cell in row.cells)
    return Line(
        strategy=row.strategy,
        cells=tuple(tables.NOTHING if found is None else _joined(found, tall) for found in cells),
        range=_range(row, kind, tall),
    )


def _joined(parts: Iterable[str], tall: bool) -> str:
    return BREAK.join(_narrow(part) for part in parts) if tall else " ".join(parts)


def _heading(model: Model, number: int) -> str:
    column = model.columns[number]
    first, *more = column.label
    marks = "".join(SYMBOLS[mark] for mark in column.marks)
    return "\n".join([f"{first} {marks}" if marks else first, *more])


def _narrow(text: str) -> str:
    """Lines broken between words only."""
    lines = (textwrap.wrap(line, NARROW, break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))
    return "\n".join(part for line in lines for part in line)


def _gain(cell: Cell) -> list[str]:
    """The gain with its star and marks, and the interval; or the state; of another tool's without a gain, its p50."""
    row = cell.found
    if cell.value is None:
        alone = foreign.FLAG in cell.marks and row.latency_p50_s is not None
        return [f"{metrics.seconds(row.latency_p50_s) if alone else row.state} {_marks(cell)}".rstrip()]
    value, _, interval = tables.interval(row.gain, row.gain_low, row.gain_high).partition(" ")
    return [value + ("*" if row.significant else "") + _marks(cell), *([interval] if interval else [])]


def _accuracy(cell: Cell) -> list[str]:
    """The accuracy with its marks, and the verdict with its p; or the state."""
    found = cell.found.accuracy
    if found is None or found.accuracy is None:
        return [tables.NOTHING if found is None or found.state == "done" else found.state]
    verdict, comma, p = (found.verdict or "not compared").partition(", ")
    return [metrics.percent(found.accuracy) + _marks(cell), verdict + comma.rstrip(), *([p] if p else [])]


def _marks(cell: Cell) -> str:
    return "".join(tables.SYMBOLS[mark] for mark in cell.marks if mark not in _ELSEWHERE)


def _range(row: Row, kind: across.Kind, tall: bool) -> str:
    if row.low is None or row.high is None:
        return tables.NOTHING
    format_ = {"gain": metrics.ratio, "accuracy": metrics.percent}[kind]
    low, high = format_(row.low), format_(row.high)
    between = "–\n" if tall else "–"
    text = low if low == high else f"{low.removesuffix(' %')}{between}{high}"
    return f"{text} {SYMBOLS['flips']}" if row.flips else text


def _accuracy_note(cell: Cell) -> str | None:
    return cell.found.accuracy.note if cell.found.accuracy else None


def _reasons(model: Model, matrices: Iterable[Matrix], reason: Callable[[Cell], str | None]) -> list[str]:
    """`strategy on A, B (6 cases): reason`, once for each strategy and reason."""
    found: dict[tuple[str, str], list[int]] = {}
    for matrix in matrices:
        for row in matrix.rows:
            for number, cell in enumerate(row.cells):
                text = reason(cell) if cell else None
                if text:
                    found.setdefault((row.strategy, text), []).append(number)
    lines = []
    for (strategy, text), where in found.items():
        names = across_notes.names(model.columns[number] for number in sorted(set(where)))
        cases = f" ({len(where)} cases)" if len(where) > len(set(where)) else ""
        lines.append(f"{strategy} on {names}{cases}: {text}")
    return lines


def _nowhere(found: Across) -> Iterator[RenderableType]:
    lines = (f"{row.model}, {row.strategy}, {compare.shape(row)}: {row.state}, {row.reason}" for row in found.nowhere)
    yield from tables.listed("on no platform", list(dict.fromkeys(lines)))
    if found.nowhere:
        yield Text()


def _columns(found: Across) -> Iterator[RenderableType]:
    """Which machine each column is."""
    yield Text("columns", style="italic")
    for column in found.columns:
        yield Padding(Text(tables.clean(column.name), overflow="fold"), (0, 0, 0, 2))
        for line in _facts(column):
            yield Padding(Text(tables.clean(line), style="dim", overflow="fold"), (0, 0, 0, 4))


def _facts(column: across.Column) -> Iterator[str]:
    platform, machine = column.platform, column.platform.hardware
    if tool := foreign.told_by(platform):
        yield f"told by {tool}: {'; '.join(_told(column))}"
        return
    where = machine.virtualization or "bare metal"
    quota = "" if machine.quota_cores is None else f", quota {machine.quota_cores:g} cores"
    cores = f"{metrics.counted(machine.physical_cores, 'core')}, {machine.logical_cores} logical{quota}"
    yield f"{machine.cpu}; {cores}; {machine.memory_gib} GiB; {where}"
    hosts = f"{'host' if len(column.hosts) == 1 else 'hosts'} {', '.join(column.hosts)}" if column.hosts else "no host"
    yield f"hardware {platform.hardware_key[:8]}, software {platform.environment_key[:8]}, {hosts}"
    yield f"instruction sets: {' '.join(machine.isa) or 'none that matter'}"
    if machine.caps:
        yield f"hidden by {', '.join(machine.caps)}"


def _told(column: across.Column) -> Iterator[str]:
    """What another tool's files tell of a machine; what they do not tell is not guessed."""
    platform, machine = column.platform, column.platform.hardware
    yield machine.cpu if machine.cpu != foreign.UNKNOWN else "unknown CPU"
    if machine.logical_cores:
        yield f"{machine.logical_cores} logical cores"
    if machine.memory_gib:
        yield f"{machine.memory_gib} GiB"
    facts = labels.software(platform.environment).items()
    yield from (f"{name} {value}" for name, value in facts if name != foreign.TOLD_BY and value != foreign.UNKNOWN)
    yield f"hardware {platform.hardware_key[:8]}, software {platform.environment_key[:8]}"


def _software(found: Across) -> Iterator[RenderableType]:
    yield from tables.listed("software differs §", across_notes.software(found.columns))
    own = [column for column in found.columns if not foreign.told_by(column.platform)]
    same = labels.same_software(column.platform.environment for column in own)
    alone = " that are not †" if len(own) < len(found.columns) else ""
    yield from tables.listed(f"software of all columns{alone}", [", ".join(same)] if same else [])


def _legend(found: Across) -> Iterator[Text]:
    cells = [cell for one in _matrices(found) for row in one.rows for cell in row.cells]
    used = {mark for cell in cells if cell for mark in cell.marks} - _ELSEWHERE
    yield _dim("×gain: baseline's time ÷ the strategy's on the same host (above ×1 is faster) [95 % interval]")
    left = [tables.SYMBOLS[mark] for mark in ("digest", foreign.FLAG) if mark in used]
    counted = f", of cells without {' or '.join(left)}" if left else ""
    yield _dim(f"* the interval excludes ×1; range: least and greatest along the row{counted}")
    if None in cells:
        yield _dim(f"{tables.NOTHING} nothing measured there: not planned for this hardware, or not done yet")
    for mark, meaning in compare.MARKS.items():
        if mark in used:
            yield _dim(f"{tables.SYMBOLS[mark]} {mark}: {meaning}")
    marks = {mark for column in found.columns for mark in column.marks}
    flips = any(row.flips for matrix in _matrices(found) for row in matrix.rows)
    for mark in [*(["software"] if "software" in marks else []), *(["flips"] if flips else [])]:
        yield _dim(f"{SYMBOLS[mark]} {mark}: {across.MARKS[mark]}")


def _dim(text: str) -> Text:
    return Text(text, style="dim", overflow="fold")


def _matrices(found: Across) -> Iterator[Matrix]:
    for model in found.models:
        yield from (*model.gains, *model.accuracies)
