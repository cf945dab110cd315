"""What `quantfleet results` shows of a result: which rows, columns and order, as options ask for them."""

from __future__ import annotations

import datetime
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scheduler.cli import export, sheets, tables
from scheduler.filters import choice
from storage import columns, errors, metrics
from storage.columns import Kind
from storage.views import ResultView

if TYPE_CHECKING:
    from scheduler import predicate

WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="EXPRESSION",
        help="Only results that fit, e.g. \"gain > 2 and strategy ~ 'onnxruntime/*'\"; see docs/query.md",
    ),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option("--columns", metavar="A,B,…", help="Only these fields, in this order; 'latency_*' means several"),
]

FIELDS: dict[str, Kind] = columns.kinds(ResultView)
"""What a result has, and what `--where`, `--columns` and `--sort` may name."""

BRIEF = (
    *("strategy", "model", "threads", "input", "host", "state", "gain", "gain_low", "gain_high"),
    *("latency_p50_s", "accuracy", "artifact_bytes", "resident_peak_bytes"),
)
"""Columns of a flat table that nobody chose."""

_PERCENT = frozenset({"accuracy", "limit_share", "baseline_limit_share"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A field to sort by."""

    name: str
    falling: bool


def test_of(where: str | None) -> predicate.Predicate:
    """The test that `--where` asks for; everything fits without one."""
    if where is None:
        return lambda view: True
    from scheduler import predicate

    return predicate.compiled(where, FIELDS)


def columns_of(given: str | None) -> tuple[str, ...] | None:
    """The fields that `--columns` names, each once; QueryError with the nearest name."""
    if given is None:
        return None
    found: dict[str, None] = {}
    for word in filter(None, (part.strip() for part in given.split(","))):
        several = [name for name in FIELDS if fnmatch.fnmatchcase(name, word)]
        found |= dict.fromkeys(several or [str(choice("columns", word, list(FIELDS)))])
    if not found:
        raise errors.QueryError("--columns names no field; for example --columns strategy,threads,gain")
    return tuple(found)


def order_of(given: str | None, words: Sequence[str]) -> tuple[Order, ...]:
    """The fields that `--sort` names: `gain_low`, `-gain_low` (falling), or several; empty for one of the `words`."""
    if given is None or given in words:
        return ()
    parts = [part.strip() for part in given.split(",") if part.strip()]
    for name in (part.lstrip("+-") for part in parts):
        if name not in FIELDS:
            choice("sort", name, [*words, *FIELDS])
            raise errors.QueryError(f"--sort: {name} is a word that stands alone, not a field; name the field")
    return tuple(Order(name=part.lstrip("+-"), falling=part.startswith("-")) for part in parts)


def ordered(views: Sequence[ResultView], order: Sequence[Order]) -> list[ResultView]:
    """All results by these fields, the first one decides; what has no value comes last either way."""
    rows = list(views)
    for by in reversed(order):
        there = [view for view in rows if _sortable(view, by.name) is not None]
        there.sort(key=lambda view: _sortable(view, by.name), reverse=by.falling)
        rows = there + [view for view in rows if _sortable(view, by.name) is None]
    return rows


def sheet(
    views: Sequence[ResultView], chosen: tuple[str, ...] | None, order: Sequence[Order], format_: str
) -> sheets.Sheet:
    """Results as a sheet; without a choice, what people read is brief and what programs read is everything."""
    rows = [export.flat_result(view) for view in views]
    brief = format_ in ("table", "markdown")
    default = tuple(dict.fromkeys([*BRIEF, *(by.name for by in order)])) if brief else export.RESULT_FIELDS
    whole = rows if chosen is None else None
    kinds = {name: FIELDS[name] for name in chosen or default}
    return sheets.Sheet(columns=chosen or default, rows=rows, kinds=kinds, cell=cell, noun="results", whole=whole)


def cell(name: str, value: Any) -> str:
    """A field's value as people read it, by the unit in its name."""
    if value is None or isinstance(value, (str, tuple)):
        return sheets.shown(value or None)
    if name.endswith("_at"):
        return datetime.datetime.fromtimestamp(value, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    if name.endswith("_bytes"):
        return metrics.bytes_(value)
    if name.endswith("_s") and not name.endswith("_per_s"):
        return metrics.seconds(value)
    if name in _PERCENT:
        return metrics.percent(value)
    if name.startswith("gain"):
        return metrics.ratio(value)
    return tables.rate(value) if isinstance(value, float) else str(value)


def _sortable(view: ResultView, name: str) -> Any:
    """A value that its like can be ordered with: a length is a number or the word for real rows, which has no order."""
    value = getattr(view, name)
    return None if FIELDS[name] in ("integer", "real") and isinstance(value, str) else value
