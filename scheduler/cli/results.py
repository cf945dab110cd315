"""The commands `results` and `compare`: what is stored, as tables, JSON or CSV."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from scheduler import compare as comparing
from scheduler import limits, stored
from scheduler.cli import changes, export, listing, over, paging, sheets, tables
from scheduler.cli.options import DatabaseOption
from scheduler.compare import Comparison
from scheduler.filters import Filter, choice
from storage import database_setting, errors, metrics, queries, records
from storage.database import Database
from storage.views import ResultView

if TYPE_CHECKING:
    from scheduler import across, reasons  # for several machines side by side: imported when there are

KINDS = ("latency", "throughput", "server", "tensor", "accuracy")

SHOWN = (*KINDS, "prepare")
"""Kinds of jobs that are shown without `--kind`; what a machine can do is `quantfleet hardware`'s to show."""

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

StudyOption = Annotated[
    str | None,
    typer.Option("--study", help="Only jobs of this study (its name or id); '*': all, of a large database too"),
]
ModelOption = Annotated[str | None, typer.Option("--model", help="Only this model; a glob such as 'bert*'")]
StrategyOption = Annotated[
    str | None, typer.Option("--strategy", help="Only these strategies; a glob such as 'onnxruntime/*'")
]
HardwareOption = Annotated[
    str | None, typer.Option("--hardware", help="Only this machine: part of the CPU's name, a host, or a key's start")
]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="Only this number of threads")]
InputOption = Annotated[
    str | None, typer.Option("--input", help="Only this input; a glob such as b1xl16 or '*dataset*' (x stands for ×)")
]
KindOption = Annotated[str | None, typer.Option("--kind", help=f"Only this kind: {', '.join(KINDS)}")]
StateOption = Annotated[str | None, typer.Option("--state", help="Only this state: done, unsupported, failed, dead, …")]
DisturbedOption = Annotated[
    bool, typer.Option("--include-disturbed", help="Count results that other load or stolen time disturbed")
]
SortOption = Annotated[str | None, typer.Option("--sort", help=f"Best first inside each input: {', '.join(SORTS)}")]
ResultSortOption = Annotated[
    str | None,
    typer.Option(
        "--sort",
        metavar="WORD|FIELD,…",
        help=f"{', '.join(SORTS)}: best first inside each input. A field, -field (falling) or several: all rows by it",
    ),
]
DetailsOption = Annotated[
    bool, typer.Option("--details", help="Several machines: also latencies, sizes and memory of each")
]
ExplainOption = Annotated[
    bool,
    typer.Option("--explain", help="Several machines: for the gains that differ most, what differs there"),
]
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
    input: InputOption = None,
    kind: KindOption = None,
    state: StateOption = None,
    include_disturbed: DisturbedOption = False,
    sort: SortOption = None,
    details: DetailsOption = False,
    explain: ExplainOption = False,
    axis: over.OverOption = None,
    against: changes.AgainstOption = None,
    against_environment: changes.AgainstEnvironmentOption = None,
    against_before: changes.AgainstBeforeOption = None,
    fdr: changes.FdrOption = None,
    judge: changes.JudgeOption = None,
    fail_on_regression: changes.FailOption = None,
    fail_on_accuracy_loss: changes.FailAccuracyOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Compare strategies with their baseline: gains with intervals, latencies, sizes, memory, paired accuracy.

    A gain comes from rounds in turn with the baseline on the same host.
    Accuracies are compared row by row, on the same rows and model only.
    Several machines stand side by side; what differs between them besides the hardware is said.

    Examples:

    \b
      quantfleet compare
      quantfleet compare --study demo --strategy 'onnxruntime/*' --sort gain
      quantfleet compare --hardware EPYC --threads 1 --csv > gains.csv
      quantfleet compare --strategy 'torch/*' --explain
      quantfleet compare --over threads --strategy 'torch/*'
      quantfleet compare --study pr-7 --against main --fail-on-regression 3%
      quantfleet compare --against-environment torch=2.12
      quantfleet compare --json | jq '.across[].rows[] | select(.flips)'
    """
    wanted = Filter(model=model, strategy=strategy, hardware=hardware, threads=threads, input=input, state=state)
    _check(kind, sort, as_json, as_csv)
    plain = {"--over": axis, "--details": details, "--explain": explain, "--sort": sort}
    asked = changes.asked(
        against=against,
        environment=against_environment,
        before=against_before,
        fdr=fdr,
        fail_on_regression=fail_on_regression,
        fail_on_accuracy_loss=fail_on_accuracy_loss,
        judge=judge,
        without=plain,
    )
    over.check(axis, {"--details": details, "--explain": explain, "--csv": as_csv})
    with _open(database) as db:
        if asked is not None:
            kinds, form = [kind] if kind else KINDS, {"as_json": as_json, "as_csv": as_csv}
            if changes.show(db, asked, wanted, study=study, kinds=kinds, disturbed=include_disturbed, **form):
                raise typer.Exit(1)
            return
        study = paging.scoped(db, study)
        whole = as_json or as_csv or axis is not None
        found = stored.compared(
            db,
            study=study,
            kinds=kind or SHOWN,
            include_disturbed=include_disturbed,
            chosen=wanted,
            paging=None if whole else paging.first(),
        )
        rows = sort_rows(found.rows, sort)
        if axis is not None and rows:
            over.show(rows, axis, queries.platforms(db).values(), as_json=as_json)
            return
        beside = _side_by_side(db, rows, sort)
        told = _explained(db, beside, study, kind) if explain else []
        if as_json:
            _write(export.comparison_json(rows, beside, told))
        elif as_csv:
            _write(export.as_csv(export.COMPARISON_FIELDS, map(export.flat_comparison, rows)))
        elif rows:
            show(rows, beside, details=details)
            if explain:
                from scheduler.cli import across_reasons

                _print(across_reasons.render(told, several=beside is not None))
            _mention_more(found.left, "comparison")
            _mention_left_out(db, found.disturbed)
            _mention_waiting(db, study)
        else:
            _write(_nothing(db, study))


def conclude(database: str, study: str, platform_key: str, *, as_json: bool) -> None:
    """The comparison at the end of `quantfleet run`: of this machine as it is now, whatever else the database holds."""
    with _open(database) as db:
        found = stored.views(db, study=study, kinds=SHOWN)
        views = [view for view in found if view.platform_key == platform_key]
        rows = stored.comparisons(db, views)
        if as_json:
            _write(export.comparison_json(rows, None))
        elif rows:
            show(rows, None)
            _mention_left_out(db, comparing.disturbed_left_out(views))
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
    input: InputOption = None,
    kind: KindOption = None,
    state: StateOption = None,
    where: listing.WhereOption = None,
    columns: listing.ColumnsOption = None,
    sort: ResultSortOption = None,
    format_: sheets.FormatOption = None,
    output: sheets.OutputOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List stored results, one row for each finished job; a job without a number shows its reason.

    Examples:

    \b
      quantfleet results --study demo
      quantfleet results --state failed
      quantfleet results --where "gain > 2 and threads == 1 and strategy ~ 'onnxruntime/*'" --sort -gain
      quantfleet results --where "latency_p95_s < 20ms" --columns strategy,host,gain,latency_p95_s --format markdown
      quantfleet results --kind latency -o gains.parquet
    """
    wanted = Filter(model=model, strategy=strategy, hardware=hardware, threads=threads, input=input, state=state)
    choice("kind", kind, KINDS)
    chosen = sheets.format_of(format_, output, as_json=as_json, as_csv=as_csv)
    order, fields, fits = listing.order_of(sort, tuple(SORTS)), listing.columns_of(columns), listing.test_of(where)
    with _open(database) as db:
        study = paging.scoped(db, study)
        found = stored.views(db, study=study, kinds=kind or SHOWN)
        every, ceilings = wanted.select(found), queries.ceilings(db)
        table = chosen == "table" and not (fields or order or output)
        late = table and where is None  # a table shows few of many, and is not sorted by a share of a limit
        views = [view for view in (every if late else limits.results(every, ceilings)) if fits(view)]
        views = listing.ordered(views, order) if order else sort_rows(_in_groups(views), sort)
        if chosen != "table" or (views and not table):
            sheets.write(listing.sheet(_told_whole(db, views, chosen), fields, order, chosen), chosen, output)
        elif views:
            shown = views[: paging.ROWS]
            _print(tables.results(limits.results(shown, ceilings) if late else shown, _console().width))
            _mention_more(len(views) - paging.ROWS, "result")
        else:
            _write(f"none of {metrics.counted(len(every), 'result')} fits --where\n" if every else _nothing(db, study))


def show(rows: Sequence[Comparison], beside: across.Across | None = None, *, details: bool = False) -> None:
    """Print a comparison for people, as wide as the terminal: machines side by side where there are several."""
    width = _console().width
    if beside is not None:
        from scheduler.cli import across_table

        _print(across_table.render(beside, width))
    if beside is None or details:
        _print(tables.comparison(rows, width))
    else:
        _print(Text("\n`--details` shows latencies, sizes, memory and notes of each machine, `--hardware` one alone."))


def _explained(
    db: Database, beside: across.Across | None, study: str | None, kind: str | None
) -> list[reasons.Difference]:
    if beside is None:
        return []
    from scheduler import reasons

    return reasons.explain(beside, queries.results(db, study=study, kind=kind or SHOWN), queries.ceilings(db))


def _told_whole(db: Database, views: Sequence[ResultView], format_: str) -> Sequence[ResultView]:
    """Servers' results with what each side did, where a format shows it."""
    if not format_.endswith("json"):
        return views
    served = {view.job_id: view for view in queries.whole(db, [view for view in views if view.kind == "server"])}
    return [served.get(view.job_id, view) for view in views]


def _side_by_side(db: Database, rows: Sequence[Comparison], sort: str | None) -> across.Across | None:
    """The rows by platform; None where fewer than two platforms have any."""
    ordered = sort_rows(sorted(rows, key=comparing.case_order), sort, group=_case)
    from scheduler import across

    found = across.across(ordered, queries.platforms(db).values())
    return found if len(found.columns) > 1 else None


def _mention_left_out(db: Database, count: int) -> None:
    if count:
        what = "1 disturbed result is" if count == 1 else f"{count} disturbed results are"
        again = "submit" if _is_fleet(db) else "run"
        hint = (
            f"{what} left out. Stop what else runs (`quantfleet doctor` names it) and measure again "
            f"(`quantfleet {again} --fresh`), or show them with `quantfleet compare --include-disturbed`."
        )
        _print(Text(hint))


def _mention_more(left: int, noun: str) -> None:
    """What a table left out, and how to see it."""
    hint = "narrow with --model, --strategy, --hardware, --threads or --input; --json and --csv have all"
    if (text := paging.more(left, noun, hint)) is not None:
        _print(Text(text))


def _mention_waiting(db: Database, study: str | None) -> None:
    """In a fleet one looks while others measure: say that more is to come."""
    waiting = len(queries.jobs(db, study=study, states=records.OPEN)) if _is_fleet(db) else 0
    if waiting:
        verb = "waits or runs" if waiting == 1 else "wait or run"
        _print(Text(f"{metrics.counted(waiting, 'job')} still {verb}: `quantfleet status` shows them."))


def _is_fleet(db: Database) -> bool:
    """Whether several hosts share the database: that takes Postgres."""
    return db.dialect != "sqlite"


def sort_rows(rows: Sequence[Row], by: str | None, group: Callable[[Row], Hashable] | None = None) -> list[Row]:
    """Rows sorted by a name of `SORTS` inside each group; groups keep their order.

    A group is a hardware, software, model, input and thread count, unless `group` says otherwise.
    """
    if by is None:
        return list(rows)
    field, sign = SORTS[by]
    group = group or _group
    order = {key: number for number, key in enumerate(dict.fromkeys(map(group, rows)))}

    def key(row: Row) -> tuple[int, bool, float]:
        value = getattr(row, field)
        value = getattr(value, "accuracy", value)  # a comparison's accuracy is a record
        return order[group(row)], value is None, sign * (value or 0)

    return sorted(rows, key=key)


def _in_groups(views: Sequence[ResultView]) -> list[ResultView]:
    """Planned order, with what belongs under one heading together."""
    order = {key: number for number, key in enumerate(dict.fromkeys(_group(view)[:3] for view in views))}
    inner = {key: number for number, key in enumerate(dict.fromkeys(map(_group, views)))}
    return sorted(views, key=lambda view: (order[_group(view)[:3]], inner[_group(view)]))


def _group(row: Comparison | ResultView) -> tuple[Any, ...]:
    return row.hardware_key, row.environment_key, *_case(row)


def _case(row: Comparison | ResultView) -> tuple[Any, ...]:
    return row.model, row.input, row.threads


def _check(kind: str | None, sort: str | None, as_json: bool, as_csv: bool) -> None:
    choice("kind", kind, KINDS)
    choice("sort", sort, tuple(SORTS))
    if as_json and as_csv:
        raise errors.QueryError("--json and --csv exclude one another")


def _open(database: str | None) -> Database:
    return Database.open(database_setting.address(database), readonly=True)


def _nothing(db: Database, study: str | None) -> str:
    """What to do about a database without results, in a sentence."""
    jobs = [job for job in queries.jobs(db, study=study) if job.kind in SHOWN]
    waiting = sum(job.state in records.OPEN for job in jobs)
    fleet = _is_fleet(db)
    if not jobs:
        hint = "submit STUDY` has the hosts measure a study" if fleet else "run STUDY` measures a study"
        return f"{db.address} holds no results yet: `quantfleet {hint} and stores them here.\n"
    hint = (
        "`quantfleet status` shows how far they are, `quantfleet hosts` who measures."
        if fleet
        else "the same `quantfleet run STUDY` goes on with them."
    )
    return f"{db.address} holds no results yet: {waiting} of {len(jobs)} jobs wait or run; {hint}\n"


def _console() -> Console:
    return Console(highlight=False)


def _print(what: RenderableType) -> None:
    _console().print(what)


def _write(text: str) -> None:
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
