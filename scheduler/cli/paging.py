"""How much of a large database a command looks at and a table shows; what is left out is said."""

from __future__ import annotations

import typer

from scheduler import compare, pages, scope
from storage import metrics
from storage.database import Database

ROWS = 500
"""Rows that tables show; nobody reads more, and programs take `--json`."""


def first() -> compare.Paging:
    """The page that tables show."""
    return compare.Paging(page=pages.Page(most=ROWS))


def scoped(db: Database, study: str | None) -> str | None:
    """The study to ask for (`scheduler.scope`); what a large database leaves out is said on standard error."""
    found = scope.of(db, study)
    if found.note is not None:
        typer.echo(found.note, err=True)
    return found.study


def more(left: int, noun: str, hint: str) -> str | None:
    """`3,000 more comparisons: HINT`; None where nothing is left out."""
    if left <= 0:
        return None
    counted = metrics.counted(left, noun)
    return f"{counted.replace(str(left), f'{left:,} more', 1)}: {hint}"
