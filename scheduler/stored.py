"""Comparisons out of a database: what every command and page that shows or judges gains reads alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from scheduler import compare, limits, prices, scope
from scheduler.compare import Comparison
from scheduler.filters import Filter
from storage import queries
from storage.answers import Answers
from storage.database import Database
from storage.views import ResultView

Kinds = str | Collection[str]

EVERYTHING = Filter()


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """What there is to show or to judge."""

    rows: list[Comparison]
    disturbed: int  # results that are left out
    left: int = 0  # cases on other pages


def views(db: Database, *, study: str | None, kinds: Kinds, platform: str | None = None) -> list[ResultView]:
    """The results that comparisons are made of, in planned order; their documents are excerpts."""
    return queries.results(db, study=study, kind=kinds, platform=platform, documents=False)


def compared(
    db: Database,
    *,
    study: str | None,
    kinds: Kinds,
    include_disturbed: bool = False,
    chosen: Filter = EVERYTHING,
    paging: compare.Paging | None = None,
    intervals: Sequence[int] = compare.SHOWN,
    floors: bool = True,
) -> Compared:
    """The comparison of a study's results (its name or id), or of all.

    `chosen` picks rows, QueryError where there are some and it fits none; `paging`: one page of them; `intervals` as
    `compare.part` has them; `floors`: whether those of `scheduler.limits` are needed.

    All of a large database are read a platform at a time, for results of two are never combined: memory is bounded by
    the largest platform.
    """
    ceilings: limits.Known = queries.ceilings(db) if floors else {}
    rows: list[Comparison] = []
    disturbed = 0
    if study is not None or not queries.more_than(db, scope.LARGE):
        found = views(db, study=study, kinds=kinds)
        some = part(
            db,
            found,
            include_disturbed=include_disturbed,
            ceilings=ceilings,
            chosen=chosen,
            paging=paging,
            intervals=intervals,
        )
        return Compared(rows=some.rows, disturbed=left_out(found, include_disturbed), left=some.left)
    for platform in queries.platform_keys(db):
        found = views(db, study=study, kinds=kinds, platform=platform)
        some = part(db, found, include_disturbed=include_disturbed, ceilings=ceilings, intervals=intervals)
        rows += some.rows
        disturbed += left_out(found, include_disturbed)
    some = _chosen(sorted(rows, key=compare.order), chosen, paging)
    return Compared(rows=some.rows, disturbed=disturbed, left=some.left)


def left_out(found: Sequence[ResultView], include_disturbed: bool) -> int:
    """Disturbed results that a comparison of these does not count."""
    return 0 if include_disturbed else compare.disturbed_left_out(found)


def comparisons(
    db: Database,
    views: Sequence[ResultView],
    *,
    include_disturbed: bool = False,
    ceilings: limits.Known | None = None,
) -> list[Comparison]:
    """The comparison of results, with floors and prices; predictions are read where a pair needs them.

    `ceilings`: the database's, where the caller has read them.
    """
    return part(db, views, include_disturbed=include_disturbed, ceilings=ceilings).rows


def part(
    db: Database,
    views: Sequence[ResultView],
    *,
    include_disturbed: bool = False,
    ceilings: limits.Known | None = None,
    chosen: Filter = EVERYTHING,
    paging: compare.Paging | None = None,
    intervals: Sequence[int] = compare.SHOWN,
) -> compare.Part:
    """The same of those rows that are chosen, or a page of them: where all are, nothing is computed for the others."""
    lookup = Answers(db, [view.job_id for view in views if view.kind == "accuracy" and view.state == "done"])
    early = paging if chosen == EVERYTHING else None  # a filter may ask for what only rows know
    some = compare.part(views, lookup, include_disturbed=include_disturbed, paging=early, intervals=intervals)
    limited = limits.comparisons(some.rows, views, queries.ceilings(db) if ceilings is None else ceilings)
    rows = prices.priced(limited, prices.prices(queries.hosts(db)))
    return replace(some, rows=rows) if chosen == EVERYTHING else _chosen(rows, chosen, paging)


def _chosen(rows: Sequence[Comparison], chosen: Filter, paging: compare.Paging | None) -> compare.Part:
    picked = chosen.select(rows)
    return compare.Part(rows=picked) if paging is None else compare.page_of(picked, paging)
