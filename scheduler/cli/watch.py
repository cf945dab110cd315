"""`quantfleet watch` and `status`: how far the fleet is."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from scheduler import progress
from scheduler.cli import fleet_tables
from scheduler.cli import progress as display
from scheduler.cli.common import (
    BAD_ENDS,
    INTERRUPTED,
    job_document,
    print_json,
    print_json_line,
    state_counts,
    stored_study,
)
from scheduler.cli.options import DatabaseOption, JsonOption, StoredStudyArgument
from scheduler.progress import Place, Progress
from storage import errors, metrics, queries, records, settings
from storage.database import Database

POLL_S = 1.0
"""Least seconds between two looks at the database."""

SHARE = 20
"""A look that takes long makes the pause longer: at most one part in so many of the time is spent on looking."""

OVERLAP_S = 10.0
"""How far back each look asks for ended jobs: a transaction's time is that of its statement, not of its commit."""

TYPICAL_S = 30.0
"""How long typical times are remembered between two looks."""

RUNNING_SHOWN = 20
"""Most running jobs in the live display."""

Tell = Callable[[display.News, bool], None]
"""Tells news, and whether they are the first."""


def watch(
    study: StoredStudyArgument = None,
    database: DatabaseOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines: the counts, then each job that ends.")
    ] = False,
) -> None:
    """Show a study's progress by host until all of its jobs have come to their end; without a name the newest study's.

    Ends with exit code 1 when a job failed. Ctrl-C ends the watching only: the jobs go on.

    \b
    Examples:
      quantfleet watch demo
      quantfleet watch | tee demo.log
    """
    config = settings.load(database=database)
    console = Console(highlight=False, quiet=as_json)
    with Database.open(config.database, readonly=True) as db:
        view, asked = stored_study(db, study)
        found = watched(db, asked, progress.max_seconds(view), console, as_json=as_json)
        console.print(f"[bold]{view.name}[/bold]: {state_counts(found.states)}")
    end(found)


def status(
    study: StoredStudyArgument = None,
    database: DatabaseOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also older studies that are at their end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far the newest studies are, and all at work; of one study also hosts, running jobs and failures.

    \b
    Examples:
      quantfleet status
      quantfleet status --all
      quantfleet status demo
      quantfleet status demo --json | jq '.places[] | select(.waits_for)'
    """
    config = settings.load(database=database)
    console = Console(highlight=False)
    with Database.open(config.database, readonly=True) as db:
        if study is None:
            _of_all(db, console, everything=everything, as_json=as_json)
        else:
            _of_study(db, *stored_study(db, study), console, as_json)


def watched(db: Database, study: str, budget_s: float, console: Console, *, as_json: bool = False) -> Progress:
    """Follow a study (its name or id) on the console to its end; the last progress. Ctrl-C: Exit with 130."""
    try:
        with display.Display(console) as shown:
            tell = functools.partial(_tell_json, shown) if as_json else functools.partial(_tell, shown, console)
            return _follow(db, study, budget_s, tell, console)
    except KeyboardInterrupt:
        console.print("stopped watching; the jobs go on (`quantfleet watch` shows them again)")
        raise typer.Exit(INTERRUPTED) from None


def end(found: Progress) -> None:
    """Exit code 1 when a job failed."""
    if any(found.states.get(state) for state in BAD_ENDS):
        raise typer.Exit(1)


def _follow(db: Database, study: str, budget_s: float, tell: Tell, console: Console) -> Progress:
    typical, since, away, first = _Typical(db), queries.clock(db) - OVERLAP_S, False, True
    while True:
        began = time.monotonic()
        try:
            found = progress.look(db, study, typical, budget_s)
            ended = queries.jobs(db, study=study, states=records.TERMINAL, ended_after=since)
        except (errors.Unreachable, errors.DatabaseBusy) as exc:
            if not away:
                console.print(Text(f"still trying: {exc}", style="yellow"), soft_wrap=True)
            away = True
            time.sleep(POLL_S)
            continue
        away = False
        since = max([since, *(job.finished_at - OVERLAP_S for job in ended if job.finished_at is not None)])
        tell(_news(found, ended, console.width), first)
        first = False
        if not found.open:
            return found
        time.sleep(max(POLL_S, SHARE * (time.monotonic() - began)))


class _Typical:
    """Typical seconds by platform, asked for again when they are old: they change as jobs end."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, tuple[float, dict[tuple[str, str, str], float]]] = {}

    def __call__(self, platform_key: str) -> dict[tuple[str, str, str], float]:
        when, found = self._known.get(platform_key, (-TYPICAL_S, {}))
        if time.monotonic() - when > TYPICAL_S or not found:
            found = queries.typical_seconds(self._db, platform_key)
            self._known[platform_key] = (time.monotonic(), found)
        return found


def _news(found: Progress, ended: Sequence[queries.JobView], width: int) -> display.News:
    return display.News(
        total=found.jobs,
        done=found.jobs - found.open,
        ended=ended,
        running=found.running[:RUNNING_SHOWN],
        below=[Text(), *fleet_tables.standing(found, width)],
        left=fleet_tables.time_left(found),
        hosts=True,
    )


def _tell(shown: display.Display, console: Console, news: display.News, first: bool) -> None:
    shown.update(news)
    if first and news.done < news.total:
        console.print(f"{news.done} of {news.total} jobs at their end; Ctrl-C ends the watching only")


def _tell_json(shown: display.Display, news: display.News, first: bool) -> None:
    if first:
        print_json_line(jobs=news.total, finished=news.done)
    for job in shown.untold(news):
        print_json_line(job=job_document(job))


def _of_all(db: Database, console: Console, *, everything: bool, as_json: bool) -> None:
    newest = None if everything or as_json else progress.RECENT
    views, hosts = queries.studies(db, newest=newest), queries.hosts(db)
    running = queries.jobs(db, states="running")
    if as_json:
        print_json(
            studies=[_study_document(view) for view in views],
            hosts=[{"name": host.name, "standing": host.standing, "unseen_s": host.unseen_s} for host in hosts],
        )
        return
    if not views:
        console.print(Text(f"{db.address} holds no study yet: `quantfleet submit STUDY` stores one"), soft_wrap=True)
    now = queries.clock(db)
    for view in views:
        text = Text(f"{view.name}  ", style="bold", overflow="fold")
        text.append(f"{view.finished} of {view.jobs} jobs at their end: {state_counts(view.states)}", "not bold")
        text.append(f"  ({progress.lasting(max(0.0, now - view.submitted_at))} ago, id {view.id[:8]})", "not bold dim")
        console.print(text)
    if older := len(queries.study_names(db)) - len(views):
        console.print(f"{older} older {'study is at its' if older == 1 else 'studies are at their'} end: --all")
    console.print(_hosts_line(hosts, {job.host for job in running}))


def _of_study(db: Database, view: queries.StudyView, asked: str, console: Console, as_json: bool) -> None:
    found = progress.look(db, asked, _Typical(db), progress.max_seconds(view))
    failed = queries.failures(db, study=asked)
    if as_json:
        print_json(study=view.name, id=view.id, **_document(found), failures=[_failure(group) for group in failed])
        return
    for part in _parts(view, found, failed, console.width):
        console.print(part)


def _parts(
    view: queries.StudyView, found: Progress, failed: Sequence[queries.FailureGroup], width: int
) -> Iterator[RenderableType]:
    left = fleet_tables.time_left(found)
    yield f"[bold]{view.name}[/bold]: {state_counts(found.states)}{f'; {left}' if left else ''}"
    yield ""
    yield from fleet_tables.standing(found, width)
    if found.running:
        yield Text("\nrunning", style="italic")
        yield from (Text.from_markup(display.running_line(job, host=True)) for job in found.running)
    if failed:
        yield Text("\nwithout a result", style="italic")
        yield from fleet_tables.failures(failed, view.name)


def _hosts_line(hosts: Sequence[queries.HostView], busy: set[str | None]) -> str:
    if not hosts:
        return "no host is registered: start one with `quantfleet worker` on each machine that is to measure"
    here = [host for host in hosts if host.standing == "here"]
    measuring = sum(host.name in busy for host in here)
    parts = [f"{measuring} measuring", f"{len(here) - measuring} idle"]
    for word in ("stopped", "away", "imported"):
        count = sum(host.standing == word for host in hosts)
        parts += [f"{count} {word}"] if count else []
    return f"{metrics.counted(len(hosts), 'host')}: {', '.join(parts)}"


def _study_document(view: queries.StudyView) -> dict[str, Any]:
    return {
        "id": view.id,
        "name": view.name,
        "submitted_at": view.submitted_at,
        "jobs": view.jobs,
        "finished": view.finished,
        "states": dict(view.states),
    }


def _document(found: Progress) -> dict[str, Any]:
    return {
        "jobs": found.jobs,
        "finished": found.jobs - found.open,
        "states": found.states,
        "left_s": found.left_s,
        "places": [_place(place, found) for place in found.places],
        "running": [job_document(job) for job in found.running],
    }


def _place(place: Place, found: Progress) -> dict[str, Any]:
    return {
        "platform_key": place.platform_key,
        "host": place.host,
        "hosts": [{"name": host.name, "standing": host.standing} for host in place.hosts],
        "states": dict(place.states),
        "ended_on": dict(place.ended_on),
        "left_s": place.left_s,
        "waits_for": progress.waits_for(place, found.hosts),
    }


def _failure(group: queries.FailureGroup) -> dict[str, Any]:
    names = ("state", "message", "model", "strategy", "host", "count")
    return {name: getattr(group, name) for name in names}
