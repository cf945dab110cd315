"""`quantfleet run` and `quantfleet plan`: a study on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import sqlalchemy.engine
import typer
from rich.console import Console

from scheduler import estimate, local, resolve
from scheduler import plan as planning
from scheduler import study as studies
from scheduler.cli import plan_table, progress, results
from scheduler.cli.options import DatasetOption, ModelOption, StudyArgument
from storage import lifecycle, metrics, queries, records, settings
from storage.database import Database

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", help="SQLite address or file; default: QUANTFLEET_DATABASE or ./quantfleet.db."),
]

BAD_ENDS = frozenset({"failed", "dead"})

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def run(
    study: StudyArgument,
    model: ModelOption = None,
    dataset: DatasetOption = None,
    database: DatabaseOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what is done already, as new replicas.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed, dead and unsupported jobs again.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display, only the comparison.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON, no progress.")] = False,
) -> None:
    """Run a study on this machine and print the comparison.

    Needs no server: results go into a SQLite file, a worker is started and stopped. Interrupt it with Ctrl-C and
    run the same command again: it goes on where it was, and measures nothing twice.

    Examples: quantfleet run study.yaml · quantfleet run study.yaml --model minilm=./minilm --dataset ./val.parquet
    """
    console = Console(stderr=True, quiet=quiet or as_json)
    config = settings.load(database=database)
    loaded, resolved = _read(study, model, dataset, config)
    with local.Embedded(config) as embedded:
        plan = embedded.fresh_plan(resolved) if fresh else embedded.plan(resolved)
        submitted = embedded.submit(loaded, plan)
        ids = _ids(embedded.database, plan)
        if retry:
            lifecycle.retry(embedded.database, _ended_badly(embedded.database, ids))
        console.print(_opening(embedded, plan, submitted, resolved))
        try:
            with progress.Display(console, len(ids)) as display:
                jobs = embedded.work(ids, display.update)
        except KeyboardInterrupt:
            embedded.stop()
            console.print("stopped; what was done is stored, and the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
    _report(config, loaded.name, jobs, as_json)


def plan(
    study: StudyArgument,
    model: ModelOption = None,
    dataset: DatasetOption = None,
    database: DatabaseOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a study would do on this machine: what is done, what cannot run and why, and how long it may take.

    Examples: quantfleet plan study.yaml · quantfleet plan study.yaml --json
    """
    config = settings.load(database=database)
    _, resolved = _read(study, model, dataset, config)
    platform = local.probe()
    opened = _existing(config.database)
    try:
        planned = local.plan_here(opened, resolved, platform)
        typical = queries.typical_seconds(opened, platform.key) if opened else {}
    finally:
        if opened:
            opened.close()
    guess = estimate.estimate(planned.entries, planned.budget, typical)
    if as_json:
        typer.echo(json.dumps(_plan_document(planned, guess), ensure_ascii=False, indent=2))
        return
    console = Console()
    for table in plan_table.render(planned, guess):
        console.print(table)


def _read(
    path: Path, models: list[str] | None, dataset: str | None, config: settings.Settings
) -> tuple[studies.Study, resolve.Resolved]:
    loaded = studies.load(path, models=studies.overrides(models or []), dataset=dataset)
    return loaded, resolve.resolve(loaded, folders=config.folders)


def _existing(address: str) -> Database | None:
    """The database when it is there; a plan does not make one."""
    file = sqlalchemy.engine.make_url(local.absolute(address)).database
    return Database.open(address, readonly=True) if file and Path(file).exists() else None


def _ids(database: Database, plan: planning.Plan) -> list[str]:
    keys = {entry.key for entry in plan.entries}
    return [job.id for job in queries.jobs(database) if job.key in keys]


def _ended_badly(database: Database, ids: list[str]) -> list[str]:
    wanted = set(ids)
    again = BAD_ENDS | {"unsupported", "cancelled"}
    return [job.id for job in queries.jobs(database) if job.id in wanted and job.state in again]


def _opening(
    embedded: local.Embedded, plan: planning.Plan, submitted: lifecycle.Submitted, resolved: resolve.Resolved
) -> str:
    done = sum(entry.state in records.TERMINAL for entry in plan.entries)
    typical = queries.typical_seconds(embedded.database, embedded.platform.key)
    guess = estimate.estimate(plan.entries, plan.budget, typical)
    about = f", about {metrics.seconds(guess.seconds)}" if guess.seconds else ""
    return (
        f"[bold]{resolved.study.name}[/bold]: {len(plan.entries)} jobs, {done} done already, "
        f"{len(submitted.new)} new{about} · {embedded.file}"
    )


def _report(config: settings.Settings, study: str, jobs: list[queries.JobView], as_json: bool) -> None:
    results.compare(database=config.database, study=study, as_json=as_json)
    if any(job.state in BAD_ENDS for job in jobs):
        raise typer.Exit(1)


def _plan_document(plan: planning.Plan, guess: estimate.Estimate) -> dict[str, object]:
    return {
        "entries": [
            {
                "key": entry.key,
                "kind": entry.case.kind,
                "model": entry.case.model.name,
                "strategy": entry.case.strategy,
                "threads": entry.case.threads,
                "input": entry.case.input.label() if entry.case.input else None,
                "replica": entry.replica,
                "state": entry.state,
                "reason": entry.reason,
                "caution": entry.caution,
            }
            for entry in plan.entries
        ],
        "counts": plan.counts(),
        "estimate_s": guess.seconds,
        "estimate_known": guess.known,
        "estimate_guessed": guess.guessed,
    }
