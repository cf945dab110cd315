"""Comparisons out of a database: what every command and page that shows or judges gains reads alike."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from scheduler import compare, limits, prices, scope
from scheduler.compare import Comparison
from storage import queries
from storage.answers import Answers
from storage.database import Database
from storage.views import ResultView

Kinds = str | Collection[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """What there is to show or to judge."""

    rows: list[Comparison]
    disturbed: int  # results that are left out


def views(db: Database, *, study: str | None, kinds: Kinds, platform: str | None = None) -> list[ResultView]:
    """The results that comparisons are made of, in planned order; their documents are excerpts."""
    return queries.results(db, study=study, kind=kinds, platform=platform, documents=False)


def compared(db: Database, *, study: str | None, kinds: Kinds, include_disturbed: bool = False) -> Compared:
    """The comparison of a study's results (its name or id), or of all.

    All of a large database are read a platform at a time, for results of two are never combined: memory is bounded by
    the largest platform.
    """
    ceilings, rows, disturbed = queries.ceilings(db), [], 0
    whole = study is not None or not queries.more_than(db, scope.LARGE)
    with _uncollected():
        for platform in (None,) if whole else queries.platform_keys(db):
            found = views(db, study=study, kinds=kinds, platform=platform)
            rows += comparisons(db, found, include_disturbed=include_disturbed, ceilings=ceilings)
            disturbed += 0 if include_disturbed else compare.disturbed_left_out(found)
    return Compared(rows=rows if whole else sorted(rows, key=compare.order), disturbed=disturbed)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: records have no cycles, and it would look at all of them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


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
    lookup = Answers(db, [view.job_id for view in views if view.kind == "accuracy" and view.state == "done"])
    rows = compare.compare(views, lookup, include_disturbed=include_disturbed)
    limited = limits.comparisons(rows, views, queries.ceilings(db) if ceilings is None else ceilings)
    return prices.priced(limited, prices.prices(queries.hosts(db)))
