"""`quantfleet report`: everything that is stored of a study, as one HTML page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from scheduler import scope
from scheduler.cli import bars, paging
from scheduler.cli.common import stored_study
from scheduler.cli.options import DatabaseOption, StoredStudyArgument
from scheduler.cli.results import DisturbedOption, HardwareOption, ModelOption, StrategyOption, ThreadsOption
from scheduler.filters import Filter
from storage import errors, metrics, settings
from storage.database import Database

LARGE_BYTES = 10_000_000
"""A page beyond this is slow to open on a phone: worth a word."""


def report(
    study: StoredStudyArgument = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The page; an earlier one is replaced.")
    ] = Path("report.html"),
    database: DatabaseOption = None,
    model: ModelOption = None,
    strategy: StrategyOption = None,
    hardware: HardwareOption = None,
    threads: ThreadsOption = None,
    include_disturbed: DisturbedOption = False,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Histograms of a weight: what `model inspect --layer … --json` printed; repeatable."
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.", show_default="the study's name")] = None,
    number: Annotated[
        str, typer.Option("--page", metavar="NUMBER", help="Which page of a large study; `all`: everything on one.")
    ] = "1",
) -> None:
    """Write a report: one HTML file with plots, tables, machines, versions and the study, which opens offline.

    Without STUDY it holds everything in the database, or the newest study of a large one ('*': everything even so). Its
    own filters choose model, input, threads and machine; the options here leave out for good, which keeps it small.
    Of more than 600 cases it is one page of several, each with whole inputs.

    \b
    Examples:
      quantfleet report demo -o demo.html
      quantfleet report --hardware EPYC --strategy 'torch/*'
      quantfleet report demo --weights weight.json --title 'Intents, week 48'
      quantfleet report nightly --page 2 -o nightly-2.html
    """
    try:
        from scheduler.report import page, reading
        from scheduler.report import weights as histograms
    except ImportError as exc:
        raise errors.SettingsError("a report needs more packages: pip install 'quantfleet[report]'") from exc

    _check_output(output)
    wanted_page = _page(number)
    page.plotly_script()  # what is missing is told before anything is read
    found = [histograms.read(path) for path in weights or ()]
    chosen = Filter(model=model, strategy=strategy, hardware=hardware, threads=threads)
    with Database.open(settings.load(database=database).database, readonly=True) as db:
        asked = paging.scoped(db, study) if study in (None, scope.EVERYTHING) else stored_study(db, study)[1]
        wanted = reading.Wanted(
            study=asked, title=title, chosen=chosen, include_disturbed=include_disturbed, page=wanted_page
        )
        with bars.counted("reading samples") as tell:
            read = reading.read(db, wanted, weights=found, tell=tell)
    if not read.lines and not read.accuracies:
        raise errors.QueryError(_nothing(read.about.study, read.about.waiting))
    size = page.write(page.html(read), output)
    cases, machines = metrics.counted(len(read.lines), "case"), metrics.counted(len(read.places), "machine")
    typer.echo(f"{output}: {cases} on {machines}, {metrics.bytes_(size)}")
    if read.about.pages > 1:
        about = read.about
        typer.echo(
            f"page {about.page} of {about.pages}, {metrics.counted(about.elsewhere, 'case')} stand on others: "
            f"--page {about.page % about.pages + 1} writes another one, --page all everything into one"
        )
    if size > LARGE_BYTES:
        typer.echo("That is much for a phone: --model, --strategy, --hardware and --threads leave out.", err=True)


def _page(text: str) -> int | None:
    """The number of a page; None for all on one; QueryError for anything else."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise errors.QueryError(f"--page {text}: a number from 1 on, or `all`")
    return int(text)


def _check_output(path: Path) -> None:
    """Refuse before anything is read: SettingsError for a path that no page can be written to."""
    if path.is_dir():
        raise errors.SettingsError(f"--output {path} is a folder: name a file in it, such as {path / 'report.html'}")
    if not path.parent.is_dir():
        raise errors.SettingsError(f"--output {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise errors.SettingsError(f"--output {path} cannot be written: no right to, in {path.parent.absolute()}")


def _nothing(study: str | None, waiting: int) -> str:
    """Why there is no page, and what to do."""
    what = f"study {study}" if study else "the database"
    if waiting:
        return f"{what} has no results yet: {metrics.counted(waiting, 'job')} wait or run (`quantfleet status`)"
    return f"{what} has no results yet: `quantfleet run STUDY` measures a study, `quantfleet submit STUDY` on a fleet"
