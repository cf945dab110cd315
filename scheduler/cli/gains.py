"""Gains out of the database, for commands that conclude from them; what to do where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from scheduler import compare, stored
from scheduler.cli import paging
from scheduler.compare import Comparison
from storage import errors, queries, records
from storage.database import Database


def comparisons(
    db: Database, study: str | None, kinds: Sequence[str], *, include_disturbed: bool = False
) -> list[Comparison]:
    """The comparison of our results of these kinds, of one study (name or id) or of all, without intervals of
    latencies and without floors.

    QueryError for an unknown study.
    """
    scoped = paging.scoped(db, study)
    found = stored.compared(
        db, study=scoped, kinds=kinds, include_disturbed=include_disturbed, intervals=(), floors=False
    )
    return compare.of_ours(found.rows)


def check(rows: Iterable[Comparison]) -> None:
    """QueryError, which says why, where there are results and none of them has a gain."""
    paired = [row for row in rows if row.kind in records.PAIRED]
    if any(row.gain is not None for row in paired):
        return
    states = {row.state for row in paired}
    if "left out" in states:
        raise errors.QueryError(
            "every result was disturbed while it was measured: stop what else runs (`quantfleet doctor` names it) and "
            "measure again, or count them with --include-disturbed"
        )
    why = f"all of them are {', '.join(sorted(states))}" if states else "there are accuracies only"
    raise errors.QueryError(f"there is no gain among the results: {why}; `quantfleet compare` shows the reasons")


def nothing(db: Database) -> str:
    """What a database without results needs, in a sentence."""
    waiting = len(queries.jobs(db, states=records.OPEN))
    if waiting:
        return f"{db.address} holds no gains yet: {waiting} jobs wait or run (`quantfleet status` shows them).\n"
    return f"{db.address} holds no gains yet: `quantfleet run STUDY` measures a study and stores them here.\n"


def interval(name: str, found: records.Interval | None) -> dict[str, Any]:
    """`{name, name_low, name_high}` as JSON has intervals; null where there is none."""
    values = (None, None, None) if found is None else (found.value, found.low, found.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
