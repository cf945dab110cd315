"""`quantfleet prune`: raw samples out of the database, what is concluded from them stays."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from scheduler import filters
from scheduler.cli import bars
from scheduler.cli.common import confirmed, print_json
from scheduler.cli.options import DatabaseOption, JsonOption, YesOption
from storage import errors, metrics, pruning, queries, settings
from storage.database import Database

DAY_S = 86_400.0

StudyOption = Annotated[str | None, typer.Option("--study", help="Only of this study (its name or id)")]
OlderOption = Annotated[
    float | None, typer.Option("--older-than", metavar="DAYS", min=0, help="Only of results that are older than this")
]
KeepOption = Annotated[
    int | None, typer.Option("--keep", metavar="N", min=0, help="Keep those of the newest N results of each case")
]
AllOption = Annotated[bool, typer.Option("--all", help="Of all results")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would go")]
VacuumOption = Annotated[
    bool, typer.Option("--vacuum/--no-vacuum", help="Give the room back to the disk (Postgres: to what comes next)")
]
FullOption = Annotated[
    bool, typer.Option("--full", help="Postgres: write the table anew, which gives the room back; nobody reads it then")
]


def prune(
    *,
    database: DatabaseOption = None,
    study: StudyOption = None,
    older_than: OlderOption = None,
    keep: KeepOption = None,
    everything: AllOption = False,
    dry_run: DryOption = False,
    vacuum: VacuumOption = True,
    full: FullOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take raw samples out of the database, and keep everything that is concluded from them.

    Gains, percentiles, intervals, predictions, what regressions are judged by and what reports show of samples stay:
    every command prints the same numbers. What needs the samples themselves (pyperf's files) is lost.
    Conditions given together all hold.

    Examples:

    \b
      quantfleet prune --older-than 90 --dry-run
      quantfleet prune --study demo --yes
      quantfleet prune --keep 3
      quantfleet prune --all --yes --json
    """
    _check(study, older_than, keep, everything=everything, full=full, vacuum=vacuum)
    with Database.open(settings.load(database=database).database) as db:
        if study is not None:
            filters.study("study", study, queries.study_names(db))
        before = None if older_than is None else queries.clock(db) - DAY_S * older_than
        chosen = pruning.choose(db, study=study, before=before, keep=keep)
        if dry_run:
            _tell_plan(chosen, as_json=as_json)
            return
        if chosen.kinds and not yes and not sys.stdin.isatty():
            raise errors.SettingsError(f"this would delete {_counted(chosen)}: --yes does, --dry-run only tells")
        if chosen.kinds:
            confirmed(f"Delete {_counted(chosen)}? What is concluded from them stays.", yes=yes)
        _prune(db, chosen, vacuum=vacuum, full=full, as_json=as_json)


def _prune(db: Database, chosen: pruning.Chosen, *, vacuum: bool, full: bool, as_json: bool) -> None:
    from scheduler import remains

    size = pruning.size(db)
    with bars.added("pruning", len(chosen.kinds), "results") as tell:
        gone = pruning.prune(db, chosen.kinds, remains.of, tell)
    note = pruning.reclaim(db, full=full) if vacuum else None
    after = pruning.size(db)
    if as_json:
        what = {"jobs": gone.jobs, "legs": gone.legs, "samples": gone.samples}
        print_json(**what, bytes_before=size, bytes_after=after, note=note)
        return
    results, legs = metrics.counted(gone.jobs, "result"), metrics.counted(gone.legs, "leg")
    typer.echo(f"raw samples of {results} deleted ({gone.samples:,} samples of {legs}); what is concluded stays")
    regained = metrics.bytes_(max(0, size - after))
    typer.echo(f"{db.address}: {metrics.bytes_(size)} → {metrics.bytes_(after)}, {regained} regained")
    if note is not None:
        typer.echo(note)


def _tell_plan(chosen: pruning.Chosen, *, as_json: bool) -> None:
    if as_json:
        print_json(dry_run=True, jobs=len(chosen.kinds), bytes=chosen.bytes)
    else:
        typer.echo(f"would delete {_counted(chosen)}")


def _counted(chosen: pruning.Chosen) -> str:
    results = metrics.counted(len(chosen.kinds), "result")
    return f"the raw samples of {results}, about {metrics.bytes_(chosen.bytes)}"


def _check(
    study: str | None, older_than: float | None, keep: int | None, *, everything: bool, full: bool, vacuum: bool
) -> None:
    narrowed = any(given is not None for given in (study, older_than, keep))
    if narrowed == everything:
        raise errors.SettingsError("say which samples: --study, --older-than or --keep, or --all")
    if full and not vacuum:
        raise errors.SettingsError("--full and --no-vacuum exclude one another")
