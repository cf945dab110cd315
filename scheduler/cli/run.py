"""`quantfleet run`: a study on this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from scheduler import estimate, fleet, local, resolve
from scheduler import plan as planning
from scheduler.cli import progress, results
from scheduler.cli.common import BAD_ENDS, INTERRUPTED, read_study
from scheduler.cli.options import DatabaseOption, DataOption, DatasetOption, ModelOption, StudyArgument
from storage import lifecycle, metrics, queries, records, settings


def run(
    study: StudyArgument,
    model: ModelOption = None,
    dataset: DatasetOption = None,
    data: DataOption = None,
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
    run the same command again: it goes on where it was, and measures nothing twice. A fleet is submitted to with
    `quantfleet submit`; what a study says under `targets` counts there only.

    Examples: quantfleet run study.yaml · quantfleet run study.yaml --model minilm=./minilm --dataset ./val.parquet
    """
    console = Console(stderr=True, quiet=quiet or as_json)
    config = settings.load(database=database)
    resolved = read_study(study, model, dataset, config, data=data)
    with local.Embedded(config) as embedded:
        plan = embedded.plan(resolved, fresh=fresh)
        submitted = embedded.submit(resolved, plan)
        keys = [entry.key for entry in plan.entries]
        if retry:
            lifecycle.retry(embedded.database, queries.job_ids(embedded.database, keys, fleet.AGAIN))
        console.print(_opening(embedded, plan, submitted, resolved))
        try:
            with progress.Display(console) as display:
                jobs = embedded.work(queries.job_ids(embedded.database, keys), lambda u: display.update(news(u)))
        except KeyboardInterrupt:
            embedded.stop()
            console.print("stopped; what was done is stored, and the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
    results.conclude(config.database, resolved.study.name, embedded.platform.key, as_json=as_json)
    if any(job.state in BAD_ENDS for job in jobs):
        raise typer.Exit(1)


def news(update: local.Update) -> progress.News:
    """What the embedded mode tells, for the display."""
    restarted = f"the worker died and was started again ({update.restarts})"
    ended = [job for job in update.jobs if job.state in records.TERMINAL]
    return progress.News(
        total=len(update.jobs),
        done=len(ended),
        ended=ended,
        running=[job for job in update.jobs if job.state == "running"],
        below=[Text(restarted, style="yellow")] if update.restarts else [],
    )


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
