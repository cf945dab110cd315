"""From committed jobs to the queue, as often as it takes: publishing comes after the commit, and is repeated."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import broker, errors, leadership, lifecycle, records, settings, statements, tables
from storage.database import Database

BATCH = 5000
"""Most wake-ups that one look sends; the next look goes on."""

LOST_S = 30.0
"""Age from which a wake-up that nobody took counts as lost, once its queue is empty."""

log = logging.getLogger(__name__)
job = tables.job


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A job that may run now and needs a wake-up."""

    job_id: str
    queue: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """What jobs of one queue have in common."""

    platform_key: str
    wanted_host: str | None

    @property
    def queue(self) -> str:
        """The queue of these jobs."""
        return broker.queue_of(self.platform_key, self.wanted_host)


def tick(db: Database, publisher: broker.Publisher, holder: str, config: settings.Settings) -> bool:
    """The reconciler's duty, to be called every `config.reconcile` seconds by everyone; whether it was ours to do.

    Takes back the jobs whose leases ran out, but only when the duty has been done steadily for longer than a
    lease: after an outage of the database every worker gets the time to renew its own. Then publishes. A broker
    that does not answer is a warning: the next tick tries again.
    """
    steady_s = leadership.hold(db, holder, every=config.reconcile)
    if steady_s is None:
        return False
    if steady_s >= config.lease:
        lifecycle.expire(db)
    try:
        reconcile(db, publisher, older_than=LOST_S)
    except errors.Unreachable as exc:
        log.warning("wake-ups not sent yet: %s", exc)
    return True


def publish(db: Database, publisher: broker.Publisher) -> int:
    """Send wake-ups for the jobs that never had one; how many were sent."""
    return _send(db, publisher, unpublished(db))


def reconcile(db: Database, publisher: broker.Publisher, older_than: float) -> int:
    """Make good what the queue lost; how many wake-ups were sent.

    A queued job whose wake-up is older than `older_than` seconds gets another one, but only when its queue is
    empty: while messages wait there, waiting is all that is wrong.
    """
    sent = publish(db, publisher)
    for route in silent_routes(db, older_than):
        if publisher.waiting(route.queue) == 0:
            sent += _send(db, publisher, silent(db, route, older_than))
    return sent


def unpublished(db: Database, *, limit: int = BATCH) -> list[Due]:
    """The jobs that may run now and have no wake-up in the queue, in planned order."""
    return _due(db, job.c.published_at.is_(None), limit=limit)


def mark_published(db: Database, job_ids: Iterable[str]) -> None:
    """Remember that wake-ups for these jobs went into the queue now."""
    with db.transaction() as connection:
        for ids in statements.chunks(list(job_ids)):
            connection.execute(sa.update(job).where(job.c.id.in_(ids)).values(published_at=tables.now()))


def silent_routes(db: Database, older_than: float) -> list[Route]:
    """Where the jobs belong whose wake-ups nobody answered for so many seconds."""
    where = (job.c.platform_key, job.c.wanted_host)
    query = sa.select(*where).where(*_ready(), _unanswered(older_than)).distinct()
    with db.read() as connection:
        found = connection.execute(query).all()
    return [Route(platform_key=row.platform_key, wanted_host=row.wanted_host) for row in found]


def silent(db: Database, route: Route, older_than: float, *, limit: int = BATCH) -> list[Due]:
    """The jobs of a route whose wake-ups nobody answered for so many seconds, in planned order."""
    here = (job.c.platform_key == route.platform_key, job.c.wanted_host.is_not_distinct_from(route.wanted_host))
    return _due(db, _unanswered(older_than), *here, limit=limit)


def _ready() -> tuple[sa.ColumnElement[bool], ...]:
    return job.c.state == "queued", job.c.not_before_at <= tables.now()


def _unanswered(older_than: float) -> sa.ColumnElement[bool]:
    return job.c.published_at <= tables.now() - older_than


def _due(db: Database, *which: sa.ColumnElement[bool], limit: int) -> list[Due]:
    query = (
        sa.select(job.c.id, job.c.platform_key, job.c.wanted_host, job.c.attempts)
        .where(*_ready(), *which)
        .order_by(job.c.created_at, job.c.position, job.c.id)
        .limit(limit)
    )
    with db.read() as connection:
        found = connection.execute(query).all()
        return [Due(job_id=row.id, queue=_queue(connection, row)) for row in found]


def _queue(connection: sa.Connection, row: Any) -> str:
    """Where a job's wake-up goes; one for any platform that some have declined goes to one that has not."""
    if row.platform_key == records.ANY_PLATFORM and row.wanted_host is None and row.attempts:
        left = sorted(lifecycle.open_platforms(connection, row.id))
        if left:
            return broker.queue_of(left[row.attempts % len(left)])
    return broker.queue_of(row.platform_key, row.wanted_host)


def _send(db: Database, publisher: broker.Publisher, due: Sequence[Due]) -> int:
    """Publish, and remember what went out even when the broker stops answering in the middle."""
    sent: list[str] = []
    try:
        for each in due:
            publisher.publish(each.job_id, each.queue)
            sent.append(each.job_id)
    finally:
        if sent:
            mark_published(db, sent)
    return len(sent)
