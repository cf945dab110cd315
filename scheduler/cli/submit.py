"""`quantfleet submit` and `backfill`: studies for the fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from scheduler import estimate, fleet, resolve
from scheduler import plan as planning
from scheduler import targets as targeting
from scheduler.cli import fleet_tables, results, watch
from scheduler.cli.common import print_json, read_study, stored_study
from scheduler.cli.options import (
    DatabaseOption,
    DataOption,
    DatasetOption,
    JsonOption,
    ModelOption,
    StoredStudyArgument,
    StudyArgument,
    TargetOption,
    WhereOption,
)
from scheduler.plan import IMPOSSIBLE, PLANNED
from scheduler.targets import Route
from storage import errors, metrics, queries, settings


def submit(
    study: StudyArgument,
    target: TargetOption = None,
    where: WhereOption = None,
    model: ModelOption = None,
    dataset: DatasetOption = None,
    data: DataOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what is done already, as new replicas.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try failed, dead, unsupported and cancelled jobs again.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Watch until all is measured, then print the comparison.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be planned.")] = False,
    database: DatabaseOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: what was planned, or with --wait the comparison.")
    ] = False,
) -> None:
    """Give a study to the fleet: each case once on each distinct platform, or as its targets or an option say.

    Submitting again plans only what is missing. Needs Postgres (QUANTFLEET_DATABASE); wake-ups go through the broker
    (QUANTFLEET_BROKER) or, where none is set, wait for the next look of a worker.

    \b
    Examples:
      quantfleet submit study.yaml
      quantfleet submit study.yaml --where isa=avx512_vnni --where label.region=eu --dry-run
      quantfleet submit study.yaml --target every-host --wait
    """
    config = settings.load(database=database)
    fleet.require_postgres(config)
    resolved = read_study(study, model, dataset, config, data=data, elsewhere=True)
    wanted = targeting.of_options(resolved.study, target, where or [])
    out = Console(stderr=wait, quiet=quiet or as_json, highlight=False)
    with fleet.Fleet(config) as opened:
        plan = opened.plan(resolved, opened.targets(wanted), fresh=fresh)
        facts = {"study": resolved.study.name, **_show(opened, plan, out), "notices": list(resolved.notices)}
        _note(resolved.notices)
        if not dry_run:
            opened.check_broker()
            facts |= _store(opened, resolved, wanted, plan, out, retry=retry)
        if wait and not dry_run:
            _wait(opened, facts["study_id"], plan, quiet=quiet, as_json=as_json)
        elif as_json:
            print_json(**facts)


def backfill(
    study: StoredStudyArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Every study that was submitted.")] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plan a study that was submitted before for the hosts that are known now; only what is missing is added.

    A host that joined later gets what it lacks, by the same targets. The study's files are not needed.

    \b
    Examples:
      quantfleet backfill demo
      quantfleet backfill --all
    """
    config = settings.load(database=database)
    if every == (study is not None):
        raise errors.QueryError("backfill takes the name of a study, or --all")
    console = Console(highlight=False, quiet=as_json)
    with fleet.Fleet(config) as opened:
        views = queries.studies(opened.database) if every else [stored_study(opened.database, study)[0]]
        opened.check_broker()
        found = [_filled(opened, view, console, strict=not every) for view in views]
        sent = opened.send()
    _note_unsent(sent, any(one["new"] for one in found))
    if as_json:
        print_json(studies=found, sent=sent.count, not_sent=sent.problem)


def _filled(opened: fleet.Fleet, view: queries.StudyView, console: Console, *, strict: bool) -> dict[str, Any]:
    """What backfilling one study added; with many studies one that cannot be planned does not stop the others."""
    try:
        filled = opened.backfill(view)
    except errors.UserError as exc:
        if strict:
            raise
        _note([f"{view.name}: {exc}"])
        return {"id": view.id, "name": view.name, "new": 0, "problem": str(exc)}
    new = metrics.counted(len(filled.new), "new job")
    console.print(Text.assemble((view.name, "bold"), f" (id {view.id[:8]}): {new}"))
    return {"id": view.id, "name": view.name, "new": len(filled.new), "problem": None}


def _show(opened: fleet.Fleet, plan: planning.Plan, out: Console) -> dict[str, Any]:
    """Print a plan by its targets; the same for `--json`."""
    hosts, estimates = queries.hosts(opened.database), opened.estimates(plan)
    guess = fleet.together(plan, estimates, hosts)
    for part in fleet_tables.plan(plan, estimates, guess, hosts, out.width):
        out.print(part)
    return _planned(plan, estimates, guess)


def _store(
    opened: fleet.Fleet,
    resolved: resolve.Resolved,
    wanted: targeting.Wanted,
    plan: planning.Plan,
    out: Console,
    *,
    retry: bool,
) -> dict[str, Any]:
    """Store the jobs, then publish; what became of it for `--json`."""
    stored = opened.submit(resolved, wanted, plan)
    retried = opened.retry(entry.key for entry in plan.entries) if retry else 0
    sent = opened.send()
    parts = [metrics.counted(len(stored.new), "new job"), f"{stored.existing} there already"]
    parts += [f"{retried} to be tried again"] if retried else []
    parts += [f"{metrics.counted(sent.count, 'wake-up')} sent"] if sent.count else []
    out.print(Text.assemble((resolved.study.name, "bold"), f": {', '.join(parts)}"))
    _note_unsent(sent, stored.new or retried)
    return {
        "study_id": stored.study_id,
        "new": len(stored.new),
        "existing": stored.existing,
        "retried": retried,
        "sent": sent.count,
        "not_sent": sent.problem,
    }


def _wait(opened: fleet.Fleet, study_id: str, plan: planning.Plan, *, quiet: bool, as_json: bool) -> None:
    console = Console(stderr=True, quiet=quiet or as_json, highlight=False)
    found = watch.watched(opened.database, study_id, plan.budget.max_seconds, console)
    results.compare(database=opened.config.database, study=study_id, as_json=as_json)
    watch.end(found)


def _planned(
    plan: planning.Plan, estimates: Mapping[Route, estimate.Estimate], guess: estimate.Estimate
) -> dict[str, Any]:
    """A plan by its targets as `--json` shows it; `estimate_s` of a target is that of one host, all its open jobs."""
    return {
        "counts": plan.counts(),
        "estimate_s": guess.seconds,
        "targets": [
            {
                "platform_key": target.platform_key,
                "host": target.host,
                "hosts": list(target.hosts),
                "cpus": list(dict.fromkeys(platform.hardware.cpu for platform in target.platforms)),
                "jobs": len(entries),
                "new": sum(entry.state == PLANNED for entry in entries),
                "cannot_run": sum(entry.state == IMPOSSIBLE for entry in entries),
                "reasons": list(dict.fromkeys(entry.reason for entry in entries if entry.reason)),
                "estimate_s": estimates[target.route].seconds,
            }
            for target, entries in plan.by_target()
        ],
    }


def _note_unsent(sent: fleet.Sent, stored: Any) -> None:
    if sent.problem is not None and stored:
        _note([f"the jobs are stored; the fleet's workers publish them within 15 s ({sent.problem})"])


def _note(texts: Sequence[str]) -> None:
    console = Console(stderr=True, highlight=False)
    for text in texts:
        console.print(Text(f"note: {text}", style="yellow"), soft_wrap=True)
