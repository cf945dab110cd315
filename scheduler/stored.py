"""Comparisons out of a database: what every command and page that shows or judges gains reads alike."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from scheduler import compare, filters, limits, prices
from scheduler.compare import Comparison
from storage import queries
from storage.database import Database
from storage.views import ResultView


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
    lookup = functools.cache(functools.partial(queries.predictions, db))
    rows = compare.compare(views, lookup, include_disturbed=include_disturbed)
    limited = limits.comparisons(rows, views, queries.ceilings(db) if ceilings is None else ceilings)
    return prices.priced(limited, prices.prices(queries.hosts(db)))


def check_study(db: Database, study: str | None) -> None:
    """QueryError with the nearest for a study (name or id) that is not there; a database without any has no results."""
    known = queries.studies(db)
    if known:
        filters.study("study", study, known)
