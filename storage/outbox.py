"""From committed jobs to the queue, as often as it takes: publishing comes after the commit, and is repeated."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from storage import broker, errors, hot_statements, leadership, lifecycle, records, settings, statements, tables, views
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

    @property
    def anywhere(self) -> bool:
        """Whether its jobs may also wait in the queues of platforms that have not declined them."""
        return self.platform_key == records.ANY_PLATFORM and self.wanted_host is None


class _Queues:
    """What waits in the broker as it was when it was first asked: many queues at a time, each once."""

    def __init__(self, publisher: broker.Publisher) -> None:
        self._publisher = publisher
        self._asked: set[str] = set()
        self._idle: set[str] = set()

    def idle(self, queues: Iterable[str]) -> frozenset[str]:
        """Those of some queues in which nothing waits."""
        names = frozenset(queues)
        self._idle |= self._publisher.empty(names - self._asked)
        self._asked |= names
        return names & self._idle


def tick(db: Database, publisher: broker.Publisher, holder: str, config: settings.Settings) -> bool:
    """The reconciler's duty, to be called every `config.reconcile` seconds by everyone; whether it was ours to do.

    Takes back the jobs whose leases ran out, but only when the duty has been done steadily for longer than a
    lease: after an outage of the database every worker gets the time to renew its own. Then publishes. A broker
    that does not answer, or refuses us, is a warning: the next tick tries again.
    """
    steady_s = leadership.hold(db, holder, every=config.reconcile)
    if steady_s is None:
        return False
    if steady_s >= config.lease:
        lifecycle.expire(db)
    try:
        reconcile(db, publisher, older_than=LOST_S)
    except (errors.Unreachable, errors.SettingsError) as exc:
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
    routes, queues = silent_routes(db, older_than), _Queues(publisher)
    idle = queues.idle(route.queue for route in routes if not route.anywhere)
    for route in routes:
        if route.anywhere or route.queue in idle:
            due = silent(db, route, older_than)
            alone = queues.idle(each.queue for each in due)
            sent += _send(db, publisher, [each for each in due if each.queue in alone])
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
    return tables.in_state("queued"), job.c.not_before_at <= tables.now(), hot_statements.unblocked()


def _unanswered(older_than: float) -> sa.ColumnElement[bool]:
    return job.c.published_at <= tables.now() - older_than


def _due(db: Database, *which: sa.ColumnElement[bool], limit: int) -> list[Due]:
    query = (
        sa.select(job.c.id, job.c.key, job.c.platform_key, job.c.wanted_host, job.c.attempts)
        .where(*_ready(), *which)
        .order_by(job.c.created_at, job.c.position, job.c.id)
        .limit(limit)
    )
    with db.read() as connection:
        found = connection.execute(query).all()
        tried = {row.id: row.key for row in found if row.attempts and row.platform_key == records.ANY_PLATFORM}
        elsewhere = _elsewhere(connection, tried)
    queues = {row.id: broker.queue_of(row.platform_key, row.wanted_host) for row in found}
    return [Due(job_id=row.id, queue=elsewhere.get(row.id, queues[row.id])) for row in found]


def _elsewhere(connection: sa.Connection, tried: Mapping[str, str]) -> dict[str, str]:
    """The queues of those jobs (id → key) for any platform that some have declined: of a platform that has not.

    One with a host that serves now, if there is any; in the queue for all, those that declined would drop them.
    """
    declined = lifecycle.declined(connection, list(tried))
    here = sa.and_(tables.host.c.stopped_at.is_(None), tables.host.c.last_seen_at >= tables.now() - views.AWAY_S)
    query = sa.select(tables.host.c.platform_key, here.label("here")).where(tables.host.c.imported_at.is_(None))
    known = connection.execute(query).all() if declined else []
    chosen: dict[str, str] = {}
    for job_id, no in declined.items():
        left = [row for row in known if row.platform_key not in no]
        serving = sorted({row.platform_key for row in left if row.here} or {row.platform_key for row in left})
        if serving:  # each job always the same one of them, all of them alike
            chosen[job_id] = broker.queue_of(serving[zlib.crc32(tried[job_id].encode()) % len(serving)])
    return chosen


def _send(db: Database, publisher: broker.Publisher, due: Sequence[Due]) -> int:
    """Publish, and remember what went out even when the broker stops answering in the middle."""
    return sum(_send_some(db, publisher, some) for some in statements.chunks(due))


def _send_some(db: Database, publisher: broker.Publisher, due: Sequence[Due]) -> int:
    sent: list[str] = []
    try:
        for taken in publisher.publish_all([(each.job_id, each.queue) for each in due]):
            sent += taken
    finally:
        if sent:
            mark_published(db, sent)
    return len(sent)
