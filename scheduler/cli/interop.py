"""The group `interop`: results of other tools in, ours out in their formats."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from scheduler import compare as comparing
from scheduler.cli import export as exporting
from scheduler.cli import tables
from scheduler.cli.common import confirmed, print_json
from scheduler.cli.options import DatabaseOption, JsonOption, YesOption
from scheduler.filters import Filter, choice
from scheduler.interop import conbench, formats, importing, pyperf_export
from storage import errors, foreign, metrics, queries, settings
from storage.database import Database
from storage.views import ResultView

EXPORTS = ("pyperf", "conbench")

FilesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="Files, or folders of LoadGen's logs or a run of optimum-benchmark."),
]
FormatOption = Annotated[str, typer.Option("--format", help=f"Who wrote them: {', '.join(formats.FORMATS)}.")]
ExportFormatOption = Annotated[str, typer.Option("--format", help=f"{' or '.join(EXPORTS)}.", show_default=False)]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="The model, as our studies call it; default: the file's.")
]
StrategyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy",
        metavar="[FILE=]NAME",
        help="The strategy of all files, or of one file, folder or benchmark; repeatable. Default: the file's.",
    ),
]
BaselineOption = Annotated[
    str | None,
    typer.Option("--baseline", metavar="NAME", help="Which of their strategies the gains are taken against."),
]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="Threads, where the files do not tell.")]
BatchOption = Annotated[int | None, typer.Option("--batch", min=1, help="Rows of a call, likewise.")]
LengthOption = Annotated[int | None, typer.Option("--length", min=1, help="Tokens of a row, likewise.")]
HostOption = Annotated[str | None, typer.Option("--host", metavar="NAME", help="What the machine is called.")]
StudyNameOption = Annotated[
    str | None, typer.Option("--study", metavar="NAME", help="Name of the study, behind foreign/; default: the tool.")
]
StudyOption = Annotated[str | None, typer.Option("--study", help="Only jobs of this study (its name or id)")]
ModelFilter = Annotated[str | None, typer.Option("--model", help="Only this model; a glob such as 'bert*'")]
StrategyFilter = Annotated[
    str | None, typer.Option("--strategy", help="Only these strategies; a glob such as 'onnxruntime/*'")
]
HardwareFilter = Annotated[
    str | None, typer.Option("--hardware", help="Only this machine: part of the CPU's name, a host, or a key's start")
]
ThreadsFilter = Annotated[int | None, typer.Option("--threads", min=1, help="Only this number of threads")]
DisturbedOption = Annotated[
    bool, typer.Option("--include-disturbed", help="Count results that other load or stolen time disturbed")
]
OutOption = Annotated[
    Path, typer.Option("-o", "--output", metavar="PATH", help="pyperf: a folder; conbench: a JSON file.")
]
SamplesOption = Annotated[
    bool, typer.Option("--samples", help="pyperf: every sample is a value, not every leg; its t test cannot take that.")
]
RepositoryOption = Annotated[
    str | None,
    typer.Option("--repository", metavar="URL", help="conbench: what was measured, https://github.com/ORG/REPO."),
]
CommitOption = Annotated[str | None, typer.Option("--commit", metavar="SHA", help="conbench: its commit.")]

app = typer.Typer(
    help="Import results of other tools; export ours in their formats.", no_args_is_help=True, add_completion=False
)


@app.command("import")
def import_(
    files: FilesArgument,
    format_: FormatOption = "auto",
    model: ModelOption = None,
    strategy: StrategyOption = None,
    baseline: BaselineOption = None,
    threads: ThreadsOption = None,
    batch: BatchOption = None,
    length: LengthOption = None,
    host: HostOption = None,
    study: StudyNameOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import results of optimum-benchmark, pyperf or MLPerf LoadGen as a study of foreign origin.

    They are marked † wherever they are shown, and never paired with what quantfleet measured. A gain comes only from
    files that are imported together and hold baseline and strategy both; it is unpaired. The same file again changes
    nothing.

    \b
    Examples:
      quantfleet interop import runs/bert/benchmark.json --model minilm
      quantfleet interop import fp32.json int8.json --baseline fp32 --model minilm --threads 1
      quantfleet interop import logs/resnet50 --strategy onnxruntime/fp32 --host lab-3
      quantfleet interop import a.json --strategy a.json=torch/fp32 --batch 1 --length 16
    """
    choice("format", format_, formats.FORMATS)
    found = formats.read(files, format_)
    names = importing.Names(
        model=model,
        strategies=tuple(strategy or ()),
        baseline=baseline,
        threads=threads,
        batch=batch,
        length=length,
        host=host,
    )
    results = importing.results(found, names)
    with Database.create_or_open(settings.load(database=database).database) as db:
        same = importing.check(results, foreign.known(db))
        stored = importing.study(found, study)
        new = foreign.store(db, study=stored, results=results)
        views = [view for view in queries.results(db) if view.job_id in {*new, *same}]
        if as_json:
            rows = [exporting.flat_result(view) for view in views]
            print_json(study=stored.name if new else None, new=list(new), existing=same, results=rows)
        else:
            _show(views, stored.name, len(new), len(same))


@app.command()
def remove(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Name or id of a study of foreign origin.")],
    database: DatabaseOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take an import back: delete a study of foreign origin with its results. Our own results are never deleted.

    Examples: quantfleet interop remove foreign/pyperf · quantfleet interop remove foreign/loadgen --yes
    """
    with Database.open(settings.load(database=database).database) as db:
        there = [one for one in queries.studies(db) if one.name.startswith(foreign.STUDY)]
        meant = [one for one in there if study in (one.name, one.id)]
        if not meant:
            known = ", ".join(sorted({one.name for one in there})) or "none"
            near = errors.nearest(study, [one.name for one in there])
            raise errors.QueryError(f"no study of foreign origin is called {study!r}{near} (there is {known})")
        count = sum(one.jobs for one in meant)
        confirmed(f"Delete {metrics.counted(count, 'foreign result')} of {meant[0].name}?", yes=yes)
        removed = foreign.remove(db, [one.id for one in meant])
    if as_json:
        print_json(study=meant[0].name, removed=removed)
    else:
        typer.echo(f"{meant[0].name}: {metrics.counted(removed, 'foreign result')} deleted")


@app.command("export")
def export_(
    output: OutOption,
    format_: ExportFormatOption,
    study: StudyOption = None,
    model: ModelFilter = None,
    strategy: StrategyFilter = None,
    hardware: HardwareFilter = None,
    threads: ThreadsFilter = None,
    include_disturbed: DisturbedOption = False,
    samples: SamplesOption = False,
    repository: RepositoryOption = None,
    commit: CommitOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write results as pyperf's JSON files, or in conbench's result format.

    pyperf: for each machine and strategy a file with a benchmark for each model, input and thread count, and one of
    its baseline from the same rounds; pyperf compares the two, unpaired. conbench: a list of results as its API takes
    them, one by one.

    \b
    Examples:
      quantfleet interop export --format pyperf -o out/ --strategy 'torch/*'
      pyperf compare_to out/*int8-dynamic.baseline.json out/*int8-dynamic.json
      quantfleet interop export --format conbench -o results.json --repository https://github.com/org/repo
    """
    choice("format", format_, EXPORTS)
    with Database.open(settings.load(database=database).database, readonly=True) as db:
        wanted = Filter(model=model, strategy=strategy, hardware=hardware, threads=threads)
        views = wanted.select(_views(db, study))
        kept = [view for view in views if include_disturbed or "disturbed" not in view.flags]
        if not kept:
            raise errors.QueryError("every result is disturbed; --include-disturbed writes them nevertheless")
        left = [_left(len(views) - len(kept), "disturbed", "--include-disturbed writes them")]
        if format_ == "pyperf":
            written, skipped = _pyperf(db, kept, output, samples=samples)
            left.append(_left(skipped, "without raw samples of single calls", "pyperf has no place for them"))
        else:
            written = _conbench(db, kept, output, repository, commit)
    if as_json:
        print_json(written=[str(path) for path in written], left_out=[line for line in left if line])
    else:
        _told(written, [line for line in left if line])


def _views(db: Database, study: str | None) -> list[ResultView]:
    known = queries.study_names(db)
    if known and study not in {one.id for one in known}:
        choice("study", study, [one.name for one in known])
    found = queries.results(db, study=study, kind=("latency", "throughput", "server", "tensor"))
    if not found:
        raise errors.QueryError(f"{db.address} holds no results that could be exported")
    return found


def _pyperf(db: Database, views: Sequence[ResultView], folder: Path, *, samples: bool) -> tuple[list[Path], int]:
    """Written files, and how many results have nothing for pyperf."""
    if folder.exists() and not folder.is_dir():
        raise errors.SettingsError(f"-o {folder}: a file; pyperf's files go into a folder")
    usable = [view for view in views if pyperf_export.usable(view)]
    legs = functools.partial(queries.legs, db)
    documents = pyperf_export.files(usable, queries.platforms(db), legs, samples=samples)
    if not documents:
        raise errors.QueryError("none of these results has raw samples of single calls")
    return [_write(folder / name, document) for name, document in documents.items()], len(views) - len(usable)


def _conbench(
    db: Database, views: Sequence[ResultView], file: Path, repository: str | None, commit: str | None
) -> list[Path]:
    if repository is None or not re.fullmatch(r"https://github\.com/[^/\s]+/[^/\s]+/?", repository):
        raise errors.SettingsError(
            "--format conbench needs --repository https://github.com/ORG/REPO: conbench files every result under one"
        )
    if file.is_dir():
        raise errors.SettingsError(f"-o {file}: a folder; conbench's results go into one JSON file")
    found = conbench.results(
        views,
        queries.platforms(db),
        functools.partial(queries.legs, db),
        repository=repository,
        commit=commit,
    )
    return [_write(file, found)]


def _write(path: Path, document: Any) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as exc:
        raise errors.SettingsError(f"{path}: {exc.strerror or exc}") from exc
    return path


def _left(count: int, why: str, hint: str) -> str:
    return f"{metrics.counted(count, 'result')} {why} left out; {hint}" if count else ""


def _told(written: Iterable[Path], left: Iterable[str]) -> None:
    for path in written:
        typer.echo(str(path))
    for line in left:
        typer.echo(line, err=True)


def _show(views: Sequence[ResultView], study: str, new: int, same: int) -> None:
    """What was imported, as a table, with what is to be said of it."""
    console = Console(highlight=False)
    merged: dict[str, list[ResultView]] = {}
    for view in views:
        merged.setdefault(f"{view.model}, {comparing.shape(view)}", []).append(view)
    notes = dict.fromkeys(f"{view.strategy}: {note}" for view in views for note in view.notes)
    shown = tables.folded(_KEYS, _COLUMNS, list(merged.items()), console.width)
    for piece in (*shown, *tables.listed("notes", list(notes))):
        console.print(piece)
    console.print(Text(_conclusion(study, new, same)), soft_wrap=True)


def _conclusion(study: str, new: int, same: int) -> str:
    if not new:
        was = "was" if same == 1 else "were"
        return f"\nnothing new: {metrics.counted(same, 'result')} {was} imported before"
    again = f", {same} imported before" if same else ""
    return f"\n{study}: {metrics.counted(new, 'result')} imported{again}; `quantfleet compare` shows them, marked †"


_KEYS: tuple[tables.Column[ResultView], ...] = (
    tables.Column(title="strategy", cell=lambda view: tables.strategy_lines(view.strategy), left=True),
)
_COLUMNS: tuple[tables.Column[ResultView], ...] = (
    tables.Column(title="gain", cell=lambda view: tables.interval(view.gain, view.gain_low, view.gain_high), left=True),
    tables.Column(title="p50", cell=lambda view: metrics.seconds(view.latency_p50_s), always=True),
    tables.Column(title="p90", cell=lambda view: metrics.seconds(view.latency_p90_s)),
    tables.Column(title="p99", cell=lambda view: metrics.seconds(view.latency_p99_s)),
    tables.Column(title="rows/s", cell=lambda view: tables.rate(view.throughput_per_s)),
    tables.Column(title="peak", cell=lambda view: metrics.bytes_(view.resident_peak_bytes)),
    tables.Column(title="CPU", cell=lambda view: view.cpu or "unknown", left=True),
)
