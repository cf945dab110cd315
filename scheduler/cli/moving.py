"""`quantfleet export` and `quantfleet import`: studies from one database to another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from scheduler import fleet
from scheduler.cli import bars
from scheduler.cli.common import print_json, state_counts
from scheduler.cli.options import DatabaseOption, JsonOption, study_names
from storage import archive, archiving, errors, importing, metrics, queries, settings
from storage.database import Database

SHOWN = 10
"""Refused results that are listed; `--json` has all."""


def export(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY…", help="Names or ids of studies.", autocompletion=study_names)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")],
    *,
    database: DatabaseOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write studies with everything that was measured into one file, which `quantfleet import` takes elsewhere.

    Results, raw samples, predictions, attempts, machines and their ceilings go along. Jobs that have not come to
    their end stay here.

    Examples:

    \b
      quantfleet export demo -o demo.qfz
      quantfleet export demo calibration -o both.qfz --force
      quantfleet export demo -o demo.qfz && QUANTFLEET_DATABASE=postgresql://me@host/team quantfleet import demo.qfz
    """
    if output.exists() and not (force and output.is_file()):
        raise errors.SettingsError(f"--output {output}: is there already; --force replaces a file")
    with Database.open(settings.load(database=database).database, readonly=True) as db:
        ids = {view.id for given in studies for view in _meant(db, given)}
        with bars.added("exporting", None, "rows") as told:
            done = archiving.export(db, ids, output, told)
    if as_json:
        print_json(file=str(output), bytes=output.stat().st_size, **_document(done))
        return
    what = ", ".join((metrics.counted(done.jobs, "job"), metrics.counted(done.results, "result")))
    size = metrics.bytes_(output.stat().st_size)
    typer.echo(f"{output} ({size}): {', '.join(done.studies)}: {what}, raw samples of {done.samples} legs")
    if done.left_out:
        typer.echo(f"left out, for they have not come to their end: {state_counts(done.left_out)}")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `quantfleet export` wrote.")],
    *,
    database: DatabaseOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be taken.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take the studies of an exported file into this database, in one transaction and nothing twice.

    What is here already is passed over, so the same file may be imported again. A result that differs from the one
    that the same job has here is refused and named (exit code 1). Nothing of it is ever given to a worker.

    Examples:

    \b
      quantfleet import demo.qfz
      quantfleet import demo.qfz --dry-run
      QUANTFLEET_DATABASE=postgresql://me@host/team quantfleet import demo.qfz
    """
    address = settings.load(database=database).database
    with (
        archive.Archive(file) as source,
        Database.create_or_open(address) as db,
        bars.added("importing", source.total, "rows") as told,
    ):
        done = importing.import_(db, source, told, dry_run=dry_run)
        where = db.address
    if as_json:
        print_json(database=where, dry_run=dry_run, **_document(done))
    else:
        for line in _lines(done, where, dry_run=dry_run):
            typer.echo(line)
    if done.refused:
        raise typer.Exit(1)


def _meant(db: Database, given: str) -> list[queries.StudyView]:
    """All studies of a name, or the one of an id."""
    _, wanted = fleet.study_of(db, given)
    return [view for view in queries.studies(db) if wanted in (view.name, view.id)]


def _lines(done: importing.Imported, where: str, *, dry_run: bool) -> Iterator[str]:
    would = "would come" if dry_run else "came"
    names = ", ".join(done.studies) or "no study"
    yield (
        f"{where}: {names}: {metrics.counted(done.new, 'job')} {would} ({metrics.counted(done.results, 'result')}), "
        f"{done.same} here already"
    )
    if done.went_on:
        yield f"{metrics.counted(done.went_on, 'job')} that had failed elsewhere, and got a result there since"
    if done.hosts:
        yield f"machines that {would}: {', '.join(done.hosts)}; nothing is planned for them"
    for name in done.known_hosts:
        yield f"note: {name} is another machine here, and stays it; the file's results keep their own hardware"
    if done.kept:
        yield f"note: {metrics.counted(done.kept, 'job')} without a result in the file stay here as they are"
    for refused in done.refused[:SHOWN]:
        yield f"refused: {refused.what}: {refused.why}"
    if len(done.refused) > SHOWN:
        yield f"refused: {len(done.refused) - SHOWN} more; --json lists all"


def _document(done: archiving.Exported | importing.Imported) -> Mapping[str, object]:
    return dataclasses.asdict(done)
