"""From committed jobs to the queue, as often as it takes: publishing comes after the commit, and is repeated."""

from __future__ import annotations

from storage import broker, lifecycle
from storage.database import Database


def reconcile(database: Database, publisher: broker.Publisher, older_than: float) -> int:
    """Make good what queue and workers lost; how many wake-ups were sent.

    Leases that ran out are expired first. A queued job whose wake-up is older than `older_than` seconds gets
    another one, but only when its queue is empty: while messages wait there, waiting is all that is wrong.
    """
    lifecycle.expire(database)
    sent: list[str] = []
    empty: dict[str, bool] = {}
    for job_id, platform_key in lifecycle.due(database, older_than=older_than):
        queue = broker.platform_queue(platform_key)
        if queue not in empty:
            empty[queue] = publisher.waiting(queue) == 0
        if empty[queue]:
            publisher.publish(job_id, queue)
            sent.append(job_id)
    lifecycle.mark_published(database, sent)
    return len(sent)
