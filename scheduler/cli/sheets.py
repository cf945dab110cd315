"""Rows with named columns in the format that a person asks for: to the terminal, a pipe or a file."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType

from scheduler.cli import export, tables
from scheduler.filters import choice
from storage import errors, records
from storage.columns import Kind

FORMATS = ("table", "csv", "json", "ndjson", "parquet", "markdown")
SUFFIXES = {
    ".csv": "csv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".md": "markdown",
}
"""How a file's name says its format."""

FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)}; default: what --output's name ends in, or table. Parquet needs the extra "
        "\\[frames].",
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file instead of standard output")
]

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """What is written: the columns in their order, and rows that have at least these."""

    columns: Sequence[str]
    rows: Sequence[Row]
    kinds: Mapping[str, Kind] = field(default_factory=dict)  # of a column that is not here its values tell
    cell: Callable[[str, Any], str] = lambda name, value: shown(value)  # a value as people read it
    noun: str = "rows"  # what JSON calls them
    whole: Sequence[Row] | None = None  # rows as JSON shows them, where that is more than the columns


def format_of(given: str | None, output: Path | None, *, as_json: bool = False, as_csv: bool = False) -> str:
    """The one format that the options ask for; QueryError when they contradict each other or name none."""
    if as_json and as_csv:
        raise errors.QueryError("--json and --csv exclude one another")
    short = "json" if as_json else "csv" if as_csv else None
    if short and given not in (None, short):
        raise errors.QueryError(f"--{short} and --format {given} exclude one another")
    by_name = SUFFIXES.get(output.suffix.lower()) if output is not None else None
    found = choice("format", given, FORMATS) or short or by_name or "table"
    if found == "parquet" and output is None and sys.stdout.isatty():
        raise errors.QueryError("Parquet is no text for a terminal: name a file with -o FILE, or redirect the output")
    return found


def write(sheet: Sheet, format_: str, output: Path | None) -> None:
    """The sheet in a format of `FORMATS`; SettingsError for a file that cannot be written."""
    content = _parquet(sheet) if format_ == "parquet" else _text(sheet, format_, output).encode()
    if output is None:
        sys.stdout.flush()
        # a test's standard output may have no bytes below it
        sys.stdout.buffer.write(content) if format_ == "parquet" else sys.stdout.write(content.decode())
        return
    try:
        output.write_bytes(content)
    except OSError as exc:
        raise errors.SettingsError(f"--output {output}: cannot be written ({exc.strerror})") from exc


def shown(value: Any) -> str:
    """Any value as a table's cell."""
    if value is None:
        return tables.NOTHING
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.12g}"  # epoch seconds keep theirs
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def render(sheet: Sheet, width: int) -> RenderableType:
    """A table as wide as the terminal; what is too wide is folded into several that repeat the first column."""
    numbers = {name for name in sheet.columns if _is_number(sheet, name)}
    columns: list[tables.Column[Row]] = [
        tables.Column(
            title=name,
            cell=lambda row, name=name: _lines(sheet, name, row),  # type: ignore[misc]
            left=name not in numbers,
            always=True,
        )
        for name in sheet.columns
    ]
    if len(columns) == 1:  # one is enough for a table, but not to be repeated
        columns.insert(0, tables.Column(title="", cell=lambda row: "", left=True))
    return Group(*tables.folded(columns[:1], columns[1:], [("", sheet.rows)], width))


def _lines(sheet: Sheet, name: str, row: Row) -> str:
    """A strategy's parts on lines of their own, for a column that each further table repeats stays narrow."""
    text = sheet.cell(name, row.get(name))
    return tables.strategy_lines(text) if name in ("strategy", "baseline") else text


def markdown(sheet: Sheet) -> str:
    """A table of GitHub's Markdown; what would be markup or HTML in a cell is text."""
    head = [_escaped(name) for name in sheet.columns]
    rule = ["---:" if _is_number(sheet, name) else "---" for name in sheet.columns]
    body = [[_escaped(sheet.cell(name, row.get(name))) for name in sheet.columns] for row in sheet.rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *body))


def _text(sheet: Sheet, format_: str, output: Path | None) -> str:
    if format_ == "markdown":
        return markdown(sheet)
    if format_ == "csv":
        cells = ({name: _flat(row.get(name)) for name in sheet.columns} for row in sheet.rows)
        return export.as_csv(sheet.columns, cells)
    if format_ == "table":
        console = Console(highlight=False) if output is None else Console(highlight=False, width=100, color_system=None)
        with console.capture() as captured:
            console.print(render(sheet, console.width))
        return captured.get()
    rows = [{name: _json(value) for name, value in row.items()} for row in _json_rows(sheet)]
    if format_ == "ndjson":
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    document = {"schema": records.SCHEMA_VERSION, sheet.noun: rows}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _json_rows(sheet: Sheet) -> Sequence[Row]:
    if sheet.whole is not None:
        return sheet.whole
    return [{name: row.get(name) for name in sheet.columns} for row in sheet.rows]


def _parquet(sheet: Sheet) -> bytes:
    import io

    from storage import frames

    sink = io.BytesIO()
    frames.write_parquet(frames.table(sheet.columns, sheet.kinds, sheet.rows), sink)
    return sink.getvalue()


def _is_number(sheet: Sheet, name: str) -> bool:
    kind = sheet.kinds.get(name)
    if kind is not None:
        return kind in ("integer", "real")
    values = [row.get(name) for row in sheet.rows]
    return any(isinstance(value, (int, float)) for value in values) and not any(isinstance(v, str) for v in values)


def _json(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _flat(value: Any) -> Any:
    """As a CSV cell: documents as JSON, bytes as base64; several texts are joined by `export.as_csv`."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else _json(value)


def _escaped(text: str) -> str:
    """A cell of one line: everything that could begin markup, a link or HTML gets a backslash."""
    text = " ".join(tables.clean(text).split())
    return "".join(f"\\{c}" if c in "\\`*[]<>|~&!" else c for c in text)
