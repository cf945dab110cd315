"""Comparisons and results as tables that fit the terminal: what is too wide is folded into several, never cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import rich.box
import rich.table
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from scheduler import compare
from scheduler.compare import Comparison
from storage import metrics
from storage.views import ResultView

T = TypeVar("T")

GAP = 2
"""Blank columns between two columns."""

SYMBOLS = {
    "A/A": "=",
    "disturbed": "!",
    "threads": "t",
    "overloaded": "o",
    "no rate": "n",
    "withheld": "w",
    "wide": "~",
    "replicas": "r",
    "left out": "-",
    "operation": "≠",
    "digest": "#",
    "foreign": "†",
}
"""How a mark is shown in a table; the footer explains those that occur."""


NAMED = 3
"""Strategies that a reason or a note names."""

NOTHING = "–"
"""A cell without a number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column(Generic[T]):
    """One column: its heading and the cell of a row (may have several lines)."""

    title: str
    cell: Callable[[T], str]
    left: bool = False  # aligned left; numbers are aligned right
    always: bool = False  # shown even when no row has anything


def folded(
    keys: Sequence[Column[T]], columns: Sequence[Column[T]], sections: Sequence[tuple[str, Sequence[T]]], width: int
) -> Iterator[RenderableType]:
    """As many tables as the width needs; each repeats the key columns. A section is a heading and its rows.

    A column in which no row has anything is left out, unless it is `always` shown or no other one remains.
    """
    rows = [row for _, part in sections for row in part]
    columns = [c for c in columns if c.always or any(c.cell(row) != NOTHING for row in rows)] or columns
    room = _room(keys, sections, width)
    taken: list[Column[T]] = []
    for column in columns:
        if taken and _needed([*taken, column], rows) > room:
            yield _table([*keys, *taken], sections, width)
            yield Text()
            taken = []
        taken.append(column)
    if taken:
        yield _table([*keys, *taken], sections, width)


def fit(
    keys: Sequence[Column[T]], columns: Sequence[Column[T]], sections: Sequence[tuple[str, Sequence[T]]], width: int
) -> bool:
    """Whether one table is enough for all columns."""
    return _needed(columns, [row for _, part in sections for row in part]) <= _room(keys, sections, width)


def comparison(rows: Sequence[Comparison], width: int) -> RenderableType:
    """Everything that `compare` prints: tables for each hardware and model, notes, and the legend."""
    parts: list[RenderableType] = []
    for _, group in itertools.groupby(rows, key=lambda r: (r.hardware_key, r.environment_key, r.model)):
        parts += [*_platform(list(group), width), Text()]
    return Group(*parts, *_legend(rows))


def results(views: Sequence[ResultView], width: int) -> RenderableType:
    """Everything that `results` prints: one row for each finished job, by hardware and model."""
    parts: list[RenderableType] = []
    for _, group in itertools.groupby(views, key=lambda v: (v.hardware_key, v.environment_key, v.model)):
        part = list(group)
        sections = [(compare.shape(v[0]), v) for v in _runs(part)]
        parts += [_title(part[0], {v.host for v in part if v.host}), *folded(_RESULT_KEYS, _RESULT, sections, width)]
        parts += [*listed("no number", _reasons(part, lambda v: v.message)), Text()]
    return Group(*parts)


def clean(text: str) -> str:
    """Text from a database or a file without control characters, which could move a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def strategy_lines(name: str) -> str:
    """A strategy with its transforms and options on lines of their own, so that a column stays narrow."""
    *transforms, runtime = name.split("+")
    head, colon, options = runtime.partition(":")
    last = head if not colon else "\n  ".join([head, *options.split(",")])
    return "\n".join([*(f"{one}+" for one in transforms), last])


def several(names: Iterable[str]) -> str:
    """`torch/fp32, torch/bf16, torch/fp16 and 7 more`: the first few."""
    found = list(names)
    more = len(found) - NAMED
    return f"{', '.join(found[:NAMED])} and {more} more" if more > 0 else ", ".join(found)


def _platform(rows: Sequence[Comparison], width: int) -> Iterator[RenderableType]:
    yield _title(rows[0], {host for row in rows for host in row.hosts})
    measured = [row for row in rows if row.input is not None]
    sections = [(compare.shape(part[0]), part) for part in _runs(measured)]
    if measured:
        yield from folded(_STRATEGY, _TIMES, sections, width)
    once = list({row.strategy: row for row in reversed(rows) if _has_size_or_accuracy(row)}.values())[::-1]
    if once:
        yield Text()
        yield from folded(_STRATEGY, _WORTH, [("", once)], width)
    yield from listed("no number", _reasons(rows, lambda r: r.reason))
    yield from listed("accuracy", _reasons(rows, lambda r: r.accuracy.note if r.accuracy else None))
    yield from listed("percentiles withheld", _reasons(rows, lambda r: "; ".join(r.withheld)))
    yield from listed("notes", _notes(rows))


def _title(row: Any, hosts: Iterable[str]) -> Text:
    title = Text(clean(f"{row.model} on {row.cpu or 'an unknown machine'}"), style="bold", overflow="fold")
    names = ", ".join(sorted(hosts)) or "no host"
    hardware, software = (row.hardware_key or "unknown")[:8], (row.environment_key or "unknown")[:8]
    title.append(clean(f"\nhardware {hardware}, software {software}, {names}"), "not bold")
    return title


def _table(columns: Sequence[Column[T]], sections: Sequence[tuple[str, Sequence[T]]], width: int) -> rich.table.Table:
    # the box puts one blank between columns, the padding the others
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        justify: Any = "left" if column.left else "right"
        table.add_column(Text(_heading(column)), justify=justify, overflow="fold", max_width=max(12, width - GAP))
    for heading, rows in sections:
        if heading:
            table.add_row(Text(clean(heading), style="italic"))
        for row in rows:
            table.add_row(*(Text(clean(column.cell(row))) for column in columns))
    return table


def _room(keys: Sequence[Column[T]], sections: Sequence[tuple[str, Sequence[T]]], width: int) -> int:
    """What the key columns leave of the width; a section's heading stands in the first one."""
    rows = [row for _, part in sections for row in part]
    headings = max((Text(heading).cell_len for heading, _ in sections), default=0)
    return width - max(headings, _width(keys[0], rows)) - _needed(keys[1:], rows)


def _needed(columns: Iterable[Column[T]], rows: Sequence[T]) -> int:
    return sum(GAP + _width(column, rows) for column in columns)


def _heading(column: Column[T]) -> str:
    return column.title.replace(" (", "\n(")


def _width(column: Column[T], rows: Sequence[T]) -> int:
    texts = [_heading(column), *(column.cell(row) for row in rows)]
    return max(Text(line).cell_len for text in texts for line in text.split("\n"))


def _runs(rows: Sequence[T]) -> Iterator[list[T]]:
    for _, part in itertools.groupby(rows, key=compare.shape):
        yield list(part)


def _reasons(rows: Iterable[T], reason: Callable[[T], str | None]) -> list[str]:
    """`strategy, strategy and 7 more (12 cases): reason`, once for each reason."""
    return _told((getattr(row, "strategy", ""), text) for row in rows if (text := reason(row)))


def _notes(rows: Iterable[Comparison]) -> list[str]:
    return _told((row.strategy, note) for row in rows for note in row.notes)


def _told(found: Iterable[tuple[str, str]]) -> list[str]:
    """Each text once, behind the names that it is said of."""
    names: dict[str, list[str]] = {}
    for name, text in found:
        names.setdefault(text, []).append(name)
    return [
        f"{several(dict.fromkeys(said))}{f' ({len(said)} cases)' if len(said) > 1 else ''}: {text}"
        for text, said in names.items()
    ]


def listed(heading: str, lines: Sequence[str]) -> Iterator[RenderableType]:
    """A heading with indented lines below it; nothing without lines."""
    if lines:
        yield Text(f"\n{heading}", style="italic")
        for line in lines:
            yield Padding(Text(clean(line), overflow="fold"), (0, 0, 0, 2))


def _legend(rows: Sequence[Comparison]) -> Iterator[Text]:
    used = {mark for row in rows for mark in row.marks}
    yield Text("×gain: baseline's time ÷ the strategy's (above ×1 is faster) [95 % interval]", style="dim")
    yield Text("* the interval excludes ×1; in brackets: the baseline's, from the same rounds", style="dim")
    if any(row.limit_share is not None for row in rows):
        yield Text("of limit: the least time of a call on this machine ÷ p50 (`quantfleet hardware show`)", style="dim")
    for mark, meaning in compare.MARKS.items():
        if mark in used:
            yield Text(f"{SYMBOLS[mark]} {mark}: {meaning}", style="dim", overflow="fold")


def _has_size_or_accuracy(row: Comparison) -> bool:
    return row.kind != "tensor" and (row.artifact_bytes is not None or row.accuracy is not None)


def _gain(row: Comparison) -> str:
    if row.state != "done":
        return f"{row.state} "
    return interval(row.gain, row.gain_low, row.gain_high) + ("*" if row.significant else "")


def interval(gain: float | None, low: float | None, high: float | None) -> str:
    """`×2.41 [2.35, 2.47]`."""
    tail = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return metrics.ratio(gain) + tail


def _mark_symbols(row: Comparison) -> str:
    return "".join(SYMBOLS[mark] for mark in row.marks)


def _both(format_: Callable[[float | None], str], name: str) -> Callable[[Comparison], str]:
    """The strategy's number with the baseline's in brackets."""

    def cell(row: Comparison) -> str:
        own, other = getattr(row, name), getattr(row, f"baseline_{name}")
        return format_(own) if other is None else _in_one_unit(format_(own), format_(other))

    return cell


def _in_one_unit(own: str, other: str) -> str:
    """`10 (20) ms` where both have the unit, `10 ms (1.2 s)` otherwise."""
    (number, blank, unit), (other_number, _, other_unit) = own.partition(" "), other.partition(" ")
    return f"{number} ({other_number}){blank}{unit}" if unit == other_unit else f"{own} ({other})"


def rate(value: float | None) -> str:
    """Rows per second with three significant digits."""
    return "–" if value is None else metrics.three(value)


def limit(share: float | None) -> str:
    """The share of what the machine can do: `43 %`."""
    return metrics.percent(share, digits=0)


def _accuracy(row: Comparison) -> str:
    return metrics.percent(row.accuracy.accuracy) if row.accuracy else "–"


def _difference(row: Comparison) -> str:
    """Points against the baseline with their 95 % interval."""
    found = row.accuracy
    if found is None or found.difference is None or found.difference_low is None or found.difference_high is None:
        return "–"
    points = [f"{100 * x:+.1f}" for x in (found.difference, found.difference_low, found.difference_high)]
    return f"{points[0]} [{points[1]}, {points[2]}]"


def _verdict(row: Comparison) -> str:
    found = row.accuracy
    return (found.verdict or ("not compared" if found.accuracy is not None else "–")) if found else "–"


def _agreement(row: Comparison) -> str:
    return metrics.percent(row.accuracy.agreement) if row.accuracy else "–"


_STRATEGY: tuple[Column[Comparison], ...] = (
    Column(title="strategy", cell=lambda row: strategy_lines(row.strategy), left=True),
)
_TIMES: tuple[Column[Comparison], ...] = (
    Column(title="gain and marks", cell=lambda row: f"{_gain(row)}{_mark_symbols(row)}", left=True),
    Column(title="p50 (baseline)", cell=_both(metrics.seconds, "latency_p50_s")),
    Column(title="p90 (baseline)", cell=_both(metrics.seconds, "latency_p90_s")),
    Column(title="p95 (baseline)", cell=_both(metrics.seconds, "latency_p95_s")),
    Column(title="of limit (baseline)", cell=_both(limit, "limit_share")),
    Column(title="rows/s (baseline)", cell=_both(rate, "throughput_per_s")),
    Column(title="efficiency", cell=lambda row: metrics.percent(row.efficiency, 0)),
    Column(title="cost of a million (baseline)", cell=_both(rate, "cost_per_million")),
    Column(title="joules a row (baseline)", cell=_both(rate, "joules_per_row")),
    Column(title="like for like", cell=lambda row: metrics.ratio(row.like_for_like)),
    Column(title="peak (baseline)", cell=_both(metrics.bytes_, "resident_peak_bytes")),
)
_WORTH: tuple[Column[Comparison], ...] = (
    Column(title="size (ratio)", cell=lambda r: f"{metrics.bytes_(r.artifact_bytes)} ({metrics.ratio(r.size_ratio)})"),
    Column(title="accuracy", cell=_accuracy),
    Column(title="verdict", cell=_verdict, left=True),
    Column(title="points [95 %]", cell=_difference),
    Column(title="same answers", cell=_agreement),
)
_RESULT_KEYS: tuple[Column[ResultView], ...] = (
    Column(title="strategy", cell=lambda view: strategy_lines(view.strategy), left=True),
    Column(title="job", cell=lambda view: view.job_id[:8], left=True),
)
_RESULT: tuple[Column[ResultView], ...] = (
    Column(title="state", cell=lambda view: view.state, left=True),
    Column(title="gain [95 %]", cell=lambda v: interval(v.gain, v.gain_low, v.gain_high), left=True),
    Column(title="p50", cell=lambda view: metrics.seconds(view.latency_p50_s)),
    Column(title="accuracy", cell=lambda view: metrics.percent(view.accuracy)),
    Column(title="flags", cell=lambda view: ", ".join(view.flags), left=True),
    Column(title="of limit", cell=lambda view: limit(view.limit_share)),
    Column(title="p90", cell=lambda view: metrics.seconds(view.latency_p90_s)),
    Column(title="size", cell=lambda view: metrics.bytes_(view.artifact_bytes)),
    Column(title="peak memory", cell=lambda view: metrics.bytes_(view.resident_peak_bytes)),
    Column(title="pairs", cell=lambda view: "–" if view.pairs is None else str(view.pairs)),
    Column(title="stopped by", cell=lambda view: view.stopped or "–", left=True),
    Column(title="replica", cell=lambda view: str(view.replica)),
    Column(title="host", cell=lambda view: view.host or "–", left=True),
)
