"""What a report needs, read from a database."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import sqlalchemy as sa

from scheduler import compare, filters, machines, pages, prices, remains, stored
from scheduler.compare import Comparison
from scheduler.report import chains, contents, front, spread
from scheduler.report import weights as histograms
from scheduler.report.contents import About, Report
from scheduler.report.spread import Spread
from scheduler.report.weights import Weight
from storage import queries, records
from storage.database import Database
from storage.views import ResultView, StudyView

KINDS = ("latency", "throughput", "server", "tensor", "accuracy")
"""Kinds of jobs that a report shows."""

LINES = 600
"""Comparisons after which a page takes no further input: one of more would be slow to make and to open."""

MOST_SPREADS = 200
"""Jobs of a page whose raw samples are read."""

AT_ONCE = 50
"""Jobs whose samples are read together."""

Tell = Callable[[int, int], None]
"""Told how many of how many jobs' samples are read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a report is to hold."""

    study: str | None = None  # name or id, as queries take it
    title: str | None = None
    chosen: filters.Filter = field(default_factory=filters.Filter)
    include_disturbed: bool = False
    most_spreads: int = MOST_SPREADS
    page: int | None = 1  # of a large study; None: everything on one


def read(
    db: Database, wanted: Wanted, *, weights: Iterable[Weight] = (), tell: Tell = lambda done, total: None
) -> Report:
    """The report of a study, or of everything; one without lines where nothing came to an end yet.

    A large study has several pages: every input of a model stands on one of them, with all of its strategies, thread
    counts and machines. Raises QueryError for a filter that fits nothing, and for a page that there is not.
    """
    views = stored.views(db, study=wanted.study, kinds=KINDS)
    ceilings = queries.ceilings(db)
    part = stored.part(
        db,
        views,
        include_disturbed=wanted.include_disturbed,
        ceilings=ceilings,
        chosen=wanted.chosen,
        paging=_paging(wanted.page),
    )
    rows = part.rows
    left_out = stored.left_out(views, wanted.include_disturbed)
    platforms, hosts = list(queries.platforms(db).values()), queries.hosts(db)
    kept = histograms.stored(queries.whole(db, _operations(views, rows)))
    return contents.report(
        rows,
        platforms,
        _about(db, wanted, part, left_out),
        waterfalls=chains.waterfalls(rows, platforms),
        spreads=_spreads(db, rows, wanted.most_spreads, tell),
        ceilings=ceilings,
        studies=_studies(db, wanted.study),
        weights=(*weights, *kept[: histograms.MOST]),
        weights_left=len(kept[histograms.MOST :]),
        prices=machines.hourly(machines.machines(front.answers(rows), platforms, hosts, prices.prices(hosts))),
    )


def _paging(number: int | None) -> compare.Paging | None:
    """A page holds whole inputs of a model, as plots and fronts do."""
    if number is None:
        return None
    return compare.Paging(page=pages.Page(most=LINES, number=number), group=lambda case: (case.model, case.input))


def _operations(views: Iterable[ResultView], rows: Iterable[Comparison]) -> list[ResultView]:
    """The newest results of the tensor operations among the rows."""
    wanted = {row.job_ids[0] for row in rows if row.kind == "tensor" and row.state == "done" and row.job_ids}
    return [view for view in views if view.job_id in wanted]


def _spreads(db: Database, rows: Sequence[Comparison], most: int, tell: Tell) -> dict[str, tuple[Spread, ...]]:
    """By job, of the first jobs in the order of the rows; server jobs' samples are spread by requests, not by calls."""
    ids = [row.job_ids[0] for row in rows if row.state == "done" and row.kind in records.PAIRED and row.job_ids]
    chosen = ids[:most]
    found: dict[str, tuple[Spread, ...]] = {}
    for done in range(0, len(chosen), AT_ONCE):
        tell(done, len(chosen))
        some = chosen[done : done + AT_ONCE]
        found |= {job_id: spread.spreads(legs) for job_id, legs in queries.legs_of(db, some).items()}
        found |= {job_id: remains.spreads(left.document) for job_id, left in queries.pruned(db, some).items()}
    return found


def _about(db: Database, wanted: Wanted, part: compare.Part, left_out: int) -> About:
    groups = queries.groups(db, study=wanted.study)
    names = {one.id: one.name for one in queries.study_names(db)}
    study = None if wanted.study is None else names.get(wanted.study, wanted.study)
    return About(
        title=wanted.title or (f"Study {study}" if study else "All results"),
        study=study,
        made_at=time.time(),
        version=importlib.metadata.version("quantfleet"),
        database=_name(db),
        chosen=_in_words(wanted.chosen),
        include_disturbed=wanted.include_disturbed,
        left_out=left_out,
        page=wanted.page or 1,
        pages=part.pages,
        elsewhere=part.left,
        most_spreads=wanted.most_spreads,
        waiting=sum(group.count for group in groups if group.state not in records.TERMINAL and group.kind in KINDS),
    )


def _name(db: Database) -> str:
    """A database's name or file without where it lies: a report travels further than that should."""
    return PurePath(sa.make_url(db.address).database or "").name or db.dialect


def _in_words(chosen: filters.Filter) -> tuple[str, ...]:
    names = ("model", "strategy", "hardware", "threads", "state")
    given: Mapping[str, object] = {name: getattr(chosen, name) for name in names}
    return tuple(f"{name} {value}" for name, value in given.items() if value is not None)


def _studies(db: Database, study: str | None) -> list[StudyView]:
    """Every text that was submitted under the name, or the one of the id; all where none is asked for."""
    return [view for view in queries.studies(db, counted=False) if study in (None, view.name, view.id)]
