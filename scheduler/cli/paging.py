"""How much of a large database a command looks at and a table shows; what is left out is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from scheduler import compare, scope
from scheduler.compare import Comparison
from storage import metrics
from storage.database import Database

ROWS = 1_000
"""Rows that tables show; nobody reads more, and programs take `--json`."""


def scoped(db: Database, study: str | None) -> str | None:
    """The study to ask for (`scheduler.scope`); what a large database leaves out is said on standard error."""
    found = scope.of(db, study)
    if found.note is not None:
        typer.echo(found.note, err=True)
    return found.study


def page(rows: Sequence[Comparison]) -> list[Comparison]:
    """The first rows by case, in the order in which they came: a case is shown on all of its platforms, or not."""
    if len(rows) <= ROWS:
        return list(rows)
    ordered = sorted(rows, key=compare.case_order)
    last = _case(ordered[ROWS - 1])
    end = next((number for number in range(ROWS, len(ordered)) if _case(ordered[number]) != last), len(ordered))
    kept = {id(row) for row in ordered[:end]}
    return [row for row in rows if id(row) in kept]


def more(left: int, noun: str, hint: str) -> str | None:
    """`3,000 more comparisons: HINT`; None where nothing is left out."""
    if left <= 0:
        return None
    counted = metrics.counted(left, noun)
    return f"{counted.replace(str(left), f'{left:,} more', 1)}: {hint}"


def _case(row: Comparison) -> tuple[Any, ...]:
    return row.model, row.kind, row.input, row.threads, row.baseline, row.strategy
