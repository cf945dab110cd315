"""`quantfleet sql`: questions in SQL that only read."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from scheduler.cli import sheets
from scheduler.cli.options import DatabaseOption
from storage import settings, sql_query, sql_views
from storage.database import Database

LIMIT = 1000
"""Rows without `--limit`: what a person can look through."""

QueryArgument = Annotated[
    str | None,
    typer.Argument(help="One SELECT, WITH or VALUES; - reads it from standard input.", show_default=False),
]
LimitOption = Annotated[int, typer.Option("--limit", min=0, metavar="N", help="At most N rows; 0: all.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Give up after so long.")]


def sql(
    query: QueryArgument = None,
    *,
    database: DatabaseOption = None,
    limit: LimitOption = LIMIT,
    timeout: TimeoutOption = sql_query.TIMEOUT_S,
    format_: sheets.FormatOption = None,
    output: sheets.OutputOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The same as --format csv")] = False,
) -> None:
    """Ask the database in SQL; it is opened for reading, and whatever would change it is refused.

    Without a query: the views that are made for this, v_result, v_gain and v_host, with their columns.

    Examples:

    \b
      quantfleet sql
      quantfleet sql 'SELECT strategy, threads, gain FROM v_gain WHERE disturbed = 0 ORDER BY gain DESC'
      quantfleet sql 'SELECT cpu, max(gain) FROM v_gain GROUP BY cpu' --format markdown
      quantfleet sql 'SELECT * FROM v_result' --limit 0 -o results.parquet
    """
    chosen = sheets.format_of(format_, output, as_json=as_json, as_csv=as_csv)
    if query is None:
        sheets.write(_views(narrow=chosen == "table"), chosen, output)
        return
    text = sys.stdin.read() if query == "-" else query
    with Database.open(settings.load(database=database).database, readonly=True) as db:
        answer = sql_query.ask(db, text, limit=limit or None, timeout_s=timeout)
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    sheets.write(sheets.Sheet(columns=answer.columns, rows=rows), chosen, output)
    if answer.more:
        note = f"only the first {limit} rows; --limit N shows more, --limit 0 all"
        Console(stderr=True, highlight=False).print(note, markup=False)


def _views(*, narrow: bool) -> sheets.Sheet:
    """Every column of every view; `narrow`: in a table, where the first column is what a second one repeats."""
    rows = [
        {"view": view, "column": name, "type": column.kind, "meaning": column.meaning}
        for view in sql_views.VIEWS
        for name, column in sql_views.columns(view).items()
    ]
    if narrow:
        rows = [{**row, "column": f"{row['view']}.{row['column']}"} for row in rows]
    columns = ("column", "type", "meaning") if narrow else ("view", "column", "type", "meaning")
    return sheets.Sheet(columns=columns, rows=rows, noun="columns")
