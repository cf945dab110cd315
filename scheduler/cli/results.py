"""The commands `results` and `compare`: what is stored, as tables, JSON or CSV."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from scheduler import compare as comparing
from scheduler.cli import export, tables
from scheduler.compare import Comparison
from scheduler.filters import Filter, choice
from storage import errors, queries, records, settings
from storage.database import Database
from storage.views import ResultView

KINDS = ("latency", "accuracy")

Row = TypeVar("Row", Comparison, ResultView)

SORTS: dict[str, tuple[str, int]] = {
    "gain": ("gain", -1),
    "p50": ("latency_p50_s", 1),
    "p90": ("latency_p90_s", 1),
    "p95": ("latency_p95_s", 1),
    "throughput": ("throughput_per_s", -1),
    "size": ("artifact_bytes", 1),
    "memory": ("resident_peak_bytes", 1),
    "accuracy": ("accuracy", -1),
}
"""`--sort` → field and direction, the best first."""

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", help="SQLAlchemy address; default: QUANTFLEET_DATABASE, or quantfleet.db here"),
]
StudyOption = Annotated[str | None, typer.Option("--study", help="Only jobs of this study (its name or id)")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Only this model; a glob such as 'bert*'")]
StrategyOption = Annotated[
    str | None, typer.Option("--strategy", help="Only these strategies; a glob such as 'onnxruntime/*'")
]
HardwareOption = Annotated[
    str | None, typer.Option("--hardware", help="Only this hardware: part of the CPU's name, a host, or a key's start")
]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="Only this number of threads")]
KindOption = Annotated[str | None, typer.Option("--kind", help=f"Only this kind: {', '.join(KINDS)}")]
StateOption = Annotated[str | None, typer.Option("--state", help="Only this state: done, unsupported, failed, dead, …")]
DisturbedOption = Annotated[
    bool, typer.Option("--include-disturbed", help="Count results that other load or stolen time disturbed")
]
SortOption = Annotated[str | None, typer.Option("--sort", help=f"Best first inside each input: {', '.join(SORTS)}")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output; fields in docs/results.md")]
CsvOption = Annotated[bool, typer.Option("--csv", help="CSV on standard output, the same fields")]


def compare(
    *,
    database: DatabaseOption = None,
    study: StudyOption = None,
    model: ModelOption = None,
    strategy: StrategyOption = None,
    hardware: HardwareOption = None,
    threads: ThreadsOption = None,
    kind: KindOption = None,
    state: StateOption = None,
    include_disturbed: DisturbedOption = False,
    sort: SortOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Compare strategies with their baseline: gains with intervals, latencies, sizes, memory, paired accuracy.

    A gain comes from rounds in turn with the baseline on the same host.
    Accuracies are compared row by row, on the same rows and model only.

    Examples:

    \b
      quantfleet compare
      quantfleet compare --study demo --strategy 'onnxruntime/*' --sort gain
      quantfleet compare --hardware EPYC --threads 1 --csv > gains.csv
    """
    wanted = Filter(model=model, strategy=strategy, hardware=hardware, threads=threads, state=state)
    _check(kind, sort, as_json, as_csv)
    with _open(database) as db:
        views = _views(db, study, kind)
        rows = sort_rows(wanted.select(comparisons(db, views, include_disturbed=include_disturbed)), sort)
        if as_json:
            _write(export.as_json("comparisons", map(export.flat_comparison, rows)))
        elif as_csv:
            _write(export.as_csv(export.COMPARISON_FIELDS, map(export.flat_comparison, rows)))
        elif rows:
            show(rows)
            _mention_left_out(0 if include_disturbed else comparing.disturbed_left_out(views))
        else:
            _write(_nothing(db, study))


def results(
    *,
    database: DatabaseOption = None,
    study: StudyOption = None,
    model: ModelOption = None,
    strategy: StrategyOption = None,
    hardware: HardwareOption = None,
    threads: ThreadsOption = None,
    kind: KindOption = None,
    state: StateOption = None,
    sort: SortOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List stored results, one row for each finished job; a job without a number shows its reason.

    Examples:

    \b
      quantfleet results --study demo
      quantfleet results --state failed
      quantfleet results --kind accuracy --json | jq '.results[].accuracy'
    """
    wanted = Filter(model=model, strategy=strategy, hardware=hardware, threads=threads, state=state)
    _check(kind, sort, as_json, as_csv)
    with _open(database) as db:
        views = sort_rows(_in_groups(wanted.select(_views(db, study, kind))), sort)
        if as_json:
            _write(export.as_json("results", map(export.flat_result, views)))
        elif as_csv:
            _write(export.as_csv(export.RESULT_FIELDS, map(export.flat_result, views)))
        elif views:
            _print(tables.results(views, _console().width))
        else:
            _write(_nothing(db, study))


def comparisons(db: Database, views: Sequence[ResultView], *, include_disturbed: bool = False) -> list[Comparison]:
    """The comparison of results, with predictions read from the database when a pair needs them."""
    lookup = functools.cache(functools.partial(queries.predictions, db))
    return comparing.compare(views, lookup, include_disturbed=include_disturbed)


def show(rows: Sequence[Comparison]) -> None:
    """Print a comparison for people, as wide as the terminal."""
    _print(tables.comparison(rows, _console().width))


def _mention_left_out(count: int) -> None:
    if count:
        what = "1 disturbed result is" if count == 1 else f"{count} disturbed results are"
        hint = (
            f"{what} left out. Stop what else runs (`quantfleet doctor` names it) and measure again "
            "(`quantfleet run --fresh`), or show them with `quantfleet compare --include-disturbed`."
        )
        _print(Text(hint))


def sort_rows(rows: Sequence[Row], by: str | None) -> list[Row]:
    """Rows sorted by a name of `SORTS` inside each hardware, model, input and thread count; groups keep their order."""
    if by is None:
        return list(rows)
    field, sign = SORTS[by]
    order = {key: number for number, key in enumerate(dict.fromkeys(map(_group, rows)))}

    def key(row: Row) -> tuple[int, bool, float]:
        value = getattr(row, field)
        value = getattr(value, "accuracy", value)  # a comparison's accuracy is a record
        return order[_group(row)], value is None, sign * (value or 0)

    return sorted(rows, key=key)


def _in_groups(views: Sequence[ResultView]) -> list[ResultView]:
    """Planned order, with what belongs under one heading together."""
    order = {key: number for number, key in enumerate(dict.fromkeys(_group(view)[:3] for view in views))}
    inner = {key: number for number, key in enumerate(dict.fromkeys(map(_group, views)))}
    return sorted(views, key=lambda view: (order[_group(view)[:3]], inner[_group(view)]))


def _group(row: Comparison | ResultView) -> tuple[Any, ...]:
    return row.hardware_key, row.environment_key, row.model, row.input, row.threads


def _check(kind: str | None, sort: str | None, as_json: bool, as_csv: bool) -> None:
    choice("kind", kind, KINDS)
    choice("sort", sort, tuple(SORTS))
    if as_json and as_csv:
        raise errors.QueryError("--json and --csv exclude one another")


def _open(database: str | None) -> Database:
    return Database.open(settings.load(database=database).database, readonly=True)


def _views(db: Database, study: str | None, kind: str | None) -> list[ResultView]:
    known = queries.studies(db)
    if known and study not in {one.id for one in known}:
        choice("study", study, [one.name for one in known])
    return queries.results(db, study=study, kind=kind)


def _nothing(db: Database, study: str | None) -> str:
    """What to do about a database without results, in a sentence."""
    jobs = queries.jobs(db, study=study)
    if not jobs:
        return f"{db.address} holds no results yet: `quantfleet run STUDY` measures a study and stores them here.\n"
    waiting = sum(job.state not in records.TERMINAL for job in jobs)
    return (
        f"{db.address} holds no results yet: {waiting} of {len(jobs)} jobs wait or run; "
        "the same `quantfleet run STUDY` goes on with them.\n"
    )


def _console() -> Console:
    return Console(highlight=False)


def _print(what: RenderableType) -> None:
    _console().print(what)


def _write(text: str) -> None:
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
