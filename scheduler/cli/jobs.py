"""`quantfleet cancel` and `retry`: take jobs back, and try them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from scheduler import fleet
from scheduler import study as studies
from scheduler.cli.common import confirmed, print_json, state_counts, stored_study
from scheduler.cli.options import DatabaseOption, JsonOption, StoredStudyArgument, YesOption
from storage import database as databases
from storage import errors, lifecycle, metrics, queries, records, settings
from storage.database import Database
from storage.queries import JobView

JobOption = Annotated[
    list[str] | None, typer.Option("--job", metavar="ID", help="Only this job: its id or how it begins; repeatable.")
]
HostOption = Annotated[
    str | None,
    typer.Option("--host", metavar="NAME", help="Only jobs that are for this host alone, or that it took; a glob."),
]
StrategyOption = Annotated[
    str | None, typer.Option("--strategy", help="Only this strategy; a glob such as 'onnxruntime/*'.")
]
ModelOption = Annotated[str | None, typer.Option("--model", help="Only this model; a glob.")]


def cancel(
    study: StoredStudyArgument = None,
    job: JobOption = None,
    host: HostOption = None,
    strategy: StrategyOption = None,
    model: ModelOption = None,
    database: DatabaseOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take jobs back: waiting ones end at once, running ones within seconds. What is done stays.

    \b
    Examples:
      quantfleet cancel demo
      quantfleet cancel demo --strategy 'onnxruntime/*' --yes
      quantfleet cancel --job 3f9a21 --job 77c0de
    """
    config = settings.load(database=database)
    with Database.open(config.database) as db:
        picked = _picked(db, study, job, {"host": host, "strategy": strategy, "model": model}, records.OPEN)
        found = [one for one in picked if not one.cancelling]
        _ask("cancel", found, yes=yes or as_json)
        count = lifecycle.cancel(db, [one.id for one in found])
    if as_json:
        print_json(cancelled=count, running=sum(one.state == "running" for one in found))
        return
    running = sum(one.state == "running" for one in found)
    tail = f"; {running} of them running: they end at their next heartbeat" if running else ""
    typer.echo(f"{metrics.counted(count, 'job')} cancelled{tail}")


def retry(
    study: StoredStudyArgument = None,
    job: JobOption = None,
    host: HostOption = None,
    strategy: StrategyOption = None,
    model: ModelOption = None,
    state: Annotated[
        str, typer.Option("--state", help="Only jobs that ended so; several with commas.")
    ] = "failed,dead,unsupported,cancelled",
    database: DatabaseOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Try jobs again that ended without a result, as if they had never been tried.

    \b
    Examples:
      quantfleet retry demo
      quantfleet retry demo --state failed,dead
      quantfleet retry demo --state unsupported --host epyc-1
    """
    config = settings.load(database=database)
    with Database.open(config.database) as db:
        found = _picked(db, study, job, {"host": host, "strategy": strategy, "model": model}, _states(state))
        _ask("try again", found, yes=yes or as_json)
        count = lifecycle.retry(db, [one.id for one in found])
        sent = _sent(db, config) if count else None
    if as_json:
        print_json(retried=count, sent=sent.count if sent else 0, not_sent=sent.problem if sent else None)
        return
    typer.echo(f"{metrics.counted(count, 'job')} queued again")
    if sent is not None and sent.problem is not None:
        Console(stderr=True).print(Text(f"note: {sent.problem}", style="yellow"), soft_wrap=True)


def _states(text: str) -> frozenset[str]:
    asked = [part.strip() for part in text.split(",") if part.strip()]
    for word in asked:
        if word not in fleet.AGAIN:
            known = sorted(fleet.AGAIN)
            near = errors.nearest(word, known)
            raise errors.QueryError(f"--state {word}: expected {', '.join(known)}{near}")
    return frozenset(asked)


def _picked(
    db: Database, study: str | None, ids: Sequence[str] | None, patterns: dict[str, str | None], states: frozenset[str]
) -> list[JobView]:
    """The jobs that are meant, among those in the states; QueryError for words that name nothing."""
    given = {name: pattern for name, pattern in patterns.items() if pattern is not None}
    if study is None and not ids and not given:
        raise errors.QueryError("say which jobs: a study, --job ID, or one of --host, --strategy, --model")
    if ids and (study is not None or given):
        raise errors.QueryError("--job names jobs one by one; leave the study and the other filters out")
    if ids:
        wanted = {_job_id(db, prefix) for prefix in ids}
        return [one for one in queries.jobs(db, states=states) if one.id in wanted]
    asked = None if study is None else stored_study(db, study)[1]
    _check(db, asked, given)
    return [one for one in queries.jobs(db, study=asked, states=states) if _fits(one, given)]


def _job_id(db: Database, prefix: str) -> str:
    found = queries.ids_starting(db, prefix)
    if len(found) == 1 or prefix in found:
        return prefix if prefix in found else found[0]
    if not found:
        raise errors.QueryError(f"--job {prefix}: no job's id begins so (`quantfleet results` shows ids)")
    raise errors.QueryError(f"--job {prefix}: several ids begin so ({', '.join(one[:12] for one in found)}, …)")


_NAMES: dict[str, Callable[[JobView | queries.JobGroup], tuple[str | None, ...]]] = {
    "host": lambda job: (job.wanted_host, job.host),
    "strategy": lambda job: (job.strategy,),
    "model": lambda job: (job.model,),
}


def _fits(job: JobView | queries.JobGroup, patterns: dict[str, str]) -> bool:
    return all(
        any(text is not None and studies.matches(pattern, text) for text in _NAMES[name](job))
        for name, pattern in patterns.items()
    )


def _check(db: Database, study: str | None, patterns: dict[str, str]) -> None:
    """QueryError for a pattern that fits no job of the study at all, in whatever state."""
    groups = queries.groups(db, study=study)
    for name, pattern in patterns.items():
        if any(_fits(group, {name: pattern}) for group in groups):
            continue
        known = sorted({text for group in groups for text in _NAMES[name](group) if text is not None})
        there = f"there is {', '.join(known[:8])}{', …' if len(known) > 8 else ''}" if known else "there is none"
        raise errors.QueryError(f"--{name}: no job has {pattern!r}{errors.nearest(pattern, known)} ({there})")


def _ask(what: str, found: Iterable[JobView], *, yes: bool) -> None:
    jobs = list(found)
    if jobs:
        counts = state_counts(Counter(job.state for job in jobs))
        confirmed(f"{what} {metrics.counted(len(jobs), 'job')} ({counts})?", yes=yes)


def _sent(db: Database, config: settings.Settings) -> fleet.Sent:
    """Wake-ups for what was queued again; on one machine's database the next run does that."""
    if databases.sqlite_file(databases.parse(config.database)) is not None:
        return fleet.Sent(count=0, problem="`quantfleet run STUDY` measures them")
    with fleet.publisher(config) as publisher:
        sent = fleet.send(db, publisher)
    if sent.problem is None:
        return sent
    return fleet.Sent(count=sent.count, problem=f"the fleet's workers publish them within 15 s ({sent.problem})")
