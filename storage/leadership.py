"""One of many does what needs doing once: a lease on a duty, in the database, by the database's clock.

The duty is the reconciler's. Its row also says since when the duty has been done without a gap: after a time in
which nobody could reach the database every lease has run out, though every worker may be well. Nobody takes
jobs back (`lifecycle.expire`, `lifecycle.claim`) before the duty has been done steadily for longer than a lease,
in which time every living worker has renewed its own.
"""

from __future__ import annotations

import sqlalchemy as sa

from storage import statements, tables
from storage.database import Database

RECONCILE = "reconcile"
"""The duty of taking back lost jobs and publishing wake-ups again."""

leader = tables.leader


def hold(db: Database, holder: str, *, every: float, duty: str = RECONCILE) -> float | None:
    """Take or keep the duty, which is to be done `every` so many seconds; None when another has it.

    The answer is for how many seconds the duty has been done without a gap of more than three times `every`. A
    holder that is silent for twice `every` loses it, so that another can go on before that is a gap.
    """
    if _taken(db, holder, duty):
        return None
    until = tables.now() + 2 * every
    row = {"name": duty, "holder": holder, "until_at": until, "ticked_at": tables.now()}
    steady = sa.case((leader.c.ticked_at >= tables.now() - 3 * every, leader.c.steady_since_at), else_=tables.now())
    with db.transaction() as connection:
        insert = statements.insert(connection, leader).values(**row, steady_since_at=tables.now())
        take = insert.on_conflict_do_update(
            index_elements=["name"],
            set_={**row, "steady_since_at": steady},
            where=sa.or_(leader.c.holder == holder, leader.c.until_at <= tables.now()),
        )
        took = take.returning((tables.now() - leader.c.steady_since_at).label("steady_s"))
        answer = connection.execute(took).scalar_one_or_none()
    return None if answer is None else max(0.0, float(answer))


def _taken(db: Database, holder: str, duty: str) -> bool:
    """Whether another has the duty: of a thousand hosts that ask, all but one need to write nothing."""
    other = sa.select(leader.c.name).where(
        leader.c.name == duty, leader.c.holder != holder, leader.c.until_at > tables.now()
    )
    with db.read() as connection:
        return connection.execute(other).first() is not None


def resign(db: Database, holder: str, *, duty: str = RECONCILE) -> None:
    """Let another take the duty at once; harmless when the holder does not have it."""
    mine = sa.and_(leader.c.name == duty, leader.c.holder == holder)
    with db.transaction() as connection:
        connection.execute(sa.update(leader).where(mine).values(until_at=tables.now()))


def steady(seconds: float, *, duty: str = RECONCILE) -> sa.ColumnElement[bool]:
    """An SQL condition: somebody has the duty now, and it was done for longer than `seconds` without a gap."""
    done = sa.select(leader.c.name).where(
        leader.c.name == duty,
        leader.c.steady_since_at <= tables.now() - seconds,
        leader.c.until_at > tables.now(),
    )
    return sa.exists(done)
