"""What the pages show, read from the database anew for each of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scheduler import estimate, fleet, labels, progress, roster, scope
from scheduler.progress import Progress
from scheduler.report import reading
from scheduler.targets import Route
from storage import errors, queries
from storage.database import Database
from storage.views import FailureGroup, JobView, StudyView

MOST_RUNNING = 50
"""Most running jobs that a page lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Studies, and the fleet in a few counts."""

    studies: Sequence[StudyView]
    older: int  # studies that are not among them
    hosts: Sequence[roster.Row]
    now: float  # the database's clock


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyPage:
    """How far a study is, by where its jobs belong."""

    view: StudyView
    progress: Progress
    titles: Mapping[str, Sequence[str]]  # platform key → what tells it from the others
    waits: Mapping[Route, str]  # by the place's route: why nobody takes its jobs
    running: Sequence[JobView]
    failures: Sequence[FailureGroup]


def overview(db: Database, *, everything: bool = False) -> Overview:
    """What the first page shows: the newest studies and those at work, unless it is to show all."""
    found = queries.studies(db, newest=None if everything else progress.RECENT)
    older = len(queries.study_names(db)) - len(found)
    return Overview(studies=found, older=older, hosts=hosts(db), now=queries.clock(db))


def hosts(db: Database) -> tuple[roster.Row, ...]:
    """Every host with what it does."""
    waiting = queries.groups(db, states="queued")
    return roster.rows(queries.hosts(db), queries.jobs(db, states="running"), waiting)


def study(db: Database, given: str) -> StudyPage:
    """A study by its name or id; QueryError with the nearest for an unknown one."""
    view, asked = fleet.study_of(db, given)
    found = progress.look(db, asked, _typical(db), progress.max_seconds(view))
    return StudyPage(
        view=view,
        progress=found,
        titles=labels.labels(host.platform for place in found.places for host in place.hosts),
        waits={place.route: reason for place in found.places if (reason := progress.waits_for(place, found.hosts))},
        running=found.running[:MOST_RUNNING],
        failures=queries.failures(db, study=asked),
    )


def wanted(db: Database, given: str | None, page: str, *, most_spreads: int) -> reading.Wanted:
    """What to read of a page of a study, or of everything; QueryError for what is unknown."""
    if not page.isdecimal():
        raise errors.QueryError(f"page {page!r} is no number")
    asked = scope.of(db, None).study if not given else fleet.study_of(db, given)[1]
    return reading.Wanted(study=asked, most_spreads=most_spreads, page=int(page))


def _typical(db: Database) -> Callable[[str], estimate.Typical]:
    @functools.cache
    def typical(platform_key: str) -> estimate.Typical:
        return queries.typical_seconds(db, platform_key)

    return typical


def trouble(exc: errors.QuantfleetError) -> tuple[int, str]:
    """Status and heading of the page for an error: what names nothing, or a database that is away."""
    if isinstance(exc, errors.QueryError):
        return 404, "Nothing is called that"
    if isinstance(exc, (errors.Unreachable, errors.DatabaseError)):
        return 503, "The database is away"
    return 500, "That did not work"
