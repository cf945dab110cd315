"""`quantfleet plan`: what a study would do, on this machine or on a fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sqlalchemy.engine
import typer
from rich.console import Console

from scheduler import estimate, fleet, local, resolve
from scheduler import plan as planning
from scheduler import targets as targeting
from scheduler.cli import fleet_tables, plan_table
from scheduler.cli.common import read_study
from scheduler.cli.options import (
    DatabaseOption,
    DataOption,
    DatasetOption,
    JsonOption,
    ModelOption,
    StudyArgument,
    TargetOption,
    WhereOption,
)
from storage import database as databases
from storage import errors, queries, settings
from storage.database import Database


def plan(
    study: StudyArgument,
    model: ModelOption = None,
    dataset: DatasetOption = None,
    data: DataOption = None,
    target: TargetOption = None,
    where: WhereOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a study would do: what is done, what cannot run and why, and how long it may take.

    With a Postgres database it shows what the fleet's hosts would measure, otherwise what this machine would.
    Nothing is stored.

    Examples: quantfleet plan study.yaml · quantfleet plan study.yaml --where isa=avx512_vnni --json
    """
    config = settings.load(database=database)
    on_fleet = databases.sqlite_file(databases.parse(config.database)) is None
    if not on_fleet and (target is not None or where):
        raise errors.QueryError("--target and --where choose among a fleet's hosts; QUANTFLEET_DATABASE names SQLite")
    resolved = read_study(study, model, dataset, config, data=data, elsewhere=on_fleet)
    if on_fleet:
        _of_fleet(resolved, config, targeting.of_options(resolved.study, target, where or []), as_json)
    else:
        _of_this_machine(resolved, config, as_json)


def document(planned: planning.Plan, guess: estimate.Estimate) -> dict[str, Any]:
    """A plan as `--json` shows it."""
    return {
        "entries": [_entry(entry) for entry in planned.entries],
        "counts": planned.counts(),
        "estimate_s": guess.seconds,
        "estimate_known": guess.known,
        "estimate_guessed": guess.guessed,
    }


def _of_fleet(resolved: resolve.Resolved, config: settings.Settings, wanted: targeting.Wanted, as_json: bool) -> None:
    with fleet.Fleet(config) as opened:
        planned = opened.plan(resolved, opened.targets(wanted))
        estimates = opened.estimates(planned)
        hosts = queries.hosts(opened.database)
    guess = fleet.together(planned, estimates, hosts)
    if as_json:
        _print_json(document(planned, guess))
        return
    console = Console(highlight=False)
    for part in fleet_tables.plan(planned, estimates, guess, hosts, console.width):
        console.print(part)


def _of_this_machine(resolved: resolve.Resolved, config: settings.Settings, as_json: bool) -> None:
    platform = local.probe()
    opened = _existing(config.database)
    try:
        planned = local.plan_here(opened, resolved, platform, config.host)
        typical = queries.typical_seconds(opened, platform.key) if opened else {}
    finally:
        if opened:
            opened.close()
    guess = estimate.estimate(planned.entries, planned.budget, typical)
    if as_json:
        _print_json(document(planned, guess))
        return
    console = Console()
    for table in plan_table.render(planned, guess):
        console.print(table)


def _existing(address: str) -> Database | None:
    """The database when it is there; a plan does not make one."""
    file = sqlalchemy.engine.make_url(local.absolute(address)).database
    return Database.open(address, readonly=True) if file and Path(file).exists() else None


def _print_json(found: dict[str, Any]) -> None:
    typer.echo(json.dumps(found, ensure_ascii=False, indent=2))


def _entry(entry: planning.Entry) -> dict[str, Any]:
    case = entry.case
    return {
        "key": entry.key,
        "platform_key": entry.platform_key,
        "host": entry.wanted_host,
        "kind": case.kind,
        "model": case.model.name,
        "strategy": case.strategy,
        "threads": case.threads,
        "input": case.label,
        "replica": entry.replica,
        "state": entry.state,
        "reason": entry.reason,
        "caution": entry.caution,
    }
