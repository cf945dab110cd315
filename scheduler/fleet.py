"""Many hosts, one database: studies submitted from anywhere, and filled in for hosts that join later.

The database is the truth. Publishing comes after the commit and may fail: every worker's launcher publishes what was
never published, so whatever happens to the queue, or to the process that submits, nothing is lost.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler import estimate, resolve, saved
from scheduler import plan as planning
from scheduler import targets as targeting
from scheduler.targets import Route, Target, Wanted
from storage import database, errors, foreign, lifecycle, queries, settings
from storage.database import Database

if TYPE_CHECKING:
    from storage import broker  # brings Celery in, which takes longer to import than all the rest

AGAIN = frozenset({"failed", "dead", "unsupported", "cancelled"})
"""States that `retry` takes up."""

ID_START = 6
"""Least beginning of a study's id that stands for it."""

NO_BROKER = "no broker is set here"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What became of the wake-ups for jobs that are stored."""

    count: int  # wake-ups that the queue took
    problem: str | None = None  # why others have to send the rest


@dataclass(frozen=True, kw_only=True, slots=True)
class Filled:
    """What a study lacked on the hosts that are known now."""

    plan: planning.Plan
    new: tuple[str, ...]  # ids of the jobs that were added


def require_postgres(config: settings.Settings) -> None:
    """SettingsError for a database that cannot serve several hosts."""
    if database.sqlite_file(database.parse(config.database)) is not None:
        raise errors.SettingsError(
            f"a fleet needs Postgres: SQLite ({config.redacted_database()}) is a file on one machine, where "
            "`quantfleet run` measures without any server; set QUANTFLEET_DATABASE=postgresql://USER@HOST/NAME"
        )


class Fleet:
    """The fleet's database, and its broker where one is set; use as a context manager."""

    def __init__(self, config: settings.Settings) -> None:
        require_postgres(config)
        self.config = config
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Fleet:
        with contextlib.ExitStack() as stack:
            self.database = stack.enter_context(Database.open(self.config.database))
            self._publisher = stack.enter_context(publisher(self.config))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def targets(self, wanted: Wanted) -> tuple[Target, ...]:
        """What is wanted, among the hosts known now; raises as `targets.targets`."""
        return targeting.targets(wanted, queries.hosts(self.database, imported=False))

    def plan(self, resolved: resolve.Resolved, targets: Sequence[Target], *, fresh: bool = False) -> planning.Plan:
        """A study's cases on the targets, against what the database holds; `fresh`: as new replicas."""
        known = functools.partial(queries.existing, self.database)
        if fresh:
            return planning.fresh(resolved, targets, known)
        planned = planning.plan(resolved, targets)
        return planned.against(known(planned.keys))

    def check_broker(self) -> None:
        """Before anything is stored: raises Unreachable, or SettingsError for a broker that will never answer."""
        if self._publisher is not None:
            self._publisher.ping()

    def submit(self, resolved: resolve.Resolved, wanted: Wanted, plan: planning.Plan) -> lifecycle.Submitted:
        """Store the study with those of its jobs that are new, in one transaction; nothing is published.

        What a target cannot run is submitted too: its worker answers `unsupported`, and the reason is a result.
        """
        return lifecycle.submit(self.database, study=saved.text_of(resolved, wanted), jobs=plan.every_job)

    def retry(self, keys: Iterable[str]) -> int:
        """Queue those jobs again that ended without a result; how many."""
        return lifecycle.retry(self.database, queries.job_ids(self.database, keys, AGAIN))

    def send(self) -> Sent:
        """Wake-ups for every stored job without one; what the broker does not take, the workers send later."""
        return send(self.database, self._publisher)

    def backfill(self, view: queries.StudyView) -> Filled:
        """Store the jobs that a study lacks for the hosts known now; nothing is published.

        Raises UserError for a study that cannot be planned: stored by another version, or no host fits it any more.
        """
        resolved, wanted = saved.restore(view.name, view.text, view.document)
        planned = self.plan(resolved, self.targets(wanted))
        every = planned.every_job
        there = queries.existing(self.database, (job.key for job in every))
        missing = [job for job in every if job.key not in there]
        if not missing:
            return Filled(plan=planned, new=())
        text = lifecycle.StudyText(name=view.name, text=view.text, document=view.document)
        return Filled(plan=planned, new=lifecycle.submit(self.database, study=text, jobs=missing).new)

    def estimates(self, plan: planning.Plan) -> dict[Route, estimate.Estimate]:
        """For each target of a plan the time of its open jobs, one after the other."""
        typical = functools.cache(functools.partial(queries.typical_seconds, self.database))
        return {
            target.route: estimate.estimate(entries, plan.budget, typical(target.platform_key))
            for target, entries in plan.by_target()
        }


@contextlib.contextmanager
def publisher(config: settings.Settings) -> Iterator[broker.Publisher | None]:
    """A publisher for the broker, closed in the end; None where no broker is set."""
    if not config.broker:
        yield None
        return
    from storage import broker

    opened = broker.Publisher(config)
    try:
        yield opened
    finally:
        opened.close()


def together(
    plan: planning.Plan, estimates: Mapping[Route, estimate.Estimate], hosts: Iterable[queries.HostView]
) -> estimate.Estimate:
    """Time of a whole plan: targets are measured side by side, each by those of its hosts that serve now."""
    here = {host.name for host in hosts if host.standing == "here"}
    parts = ((estimates[target.route], sum(name in here for name in target.hosts)) for target, _ in plan.by_target())
    return estimate.together(parts)


def send(db: Database, through: broker.Publisher | None) -> Sent:
    """Wake-ups for every stored job without one, as far as the broker takes them."""
    if through is None:
        return Sent(count=0, problem=NO_BROKER)
    from storage import outbox

    count = 0
    try:
        while sent := outbox.publish(db, through):
            count += sent
            if sent < outbox.BATCH:
                break
    except errors.QuantfleetError as exc:
        return Sent(count=count, problem=str(exc))
    return Sent(count=count)


def study_of(db: Database, given: str | None) -> tuple[queries.StudyView, str]:
    """A submitted study, and what to ask the database for; QueryError with the nearest for an unknown one.

    A name means everything that was submitted under it, the view is then the newest; an id, or how one begins, means
    that one text. None: the newest study's name. The states of its jobs are not counted.
    """
    known = queries.studies(db, counted=False)
    if not known:
        raise errors.QueryError(f"{db.address} holds no study yet: `quantfleet submit STUDY` stores one")
    ours = [view for view in known if not view.name.startswith(foreign.STUDY)] or known
    named = [view for view in (ours if given is None else known) if given in (None, view.name)]
    if named:
        return named[0], named[0].name
    meant = [view for view in known if len(str(given)) >= ID_START and view.id.startswith(str(given))]
    if len(meant) == 1:
        return meant[0], meant[0].id
    names = sorted({view.name for view in known})
    raise errors.QueryError(
        f"no study is called {given!r}{errors.nearest(str(given), names)} (there is {', '.join(names)})"
    )
