"""kombu's Redis transport with a look at what comes in: of a message only its job is taken, the rest is made anew.

A broker's messages can come from whoever knows its password. Celery reads more in them than a job: time limits that
kill the running one, callbacks, a moment to wait for; and what is no message at all ends its consumer. So the envelope
that arrives is thrown away. What names no job is dropped and told.
"""

from __future__ import annotations

import base64
import json
import logging
import reprlib
import uuid
from collections.abc import Sequence
from typing import Any

import kombu.transport.redis

from storage import broker

log = logging.getLogger(__name__)


class Channel(kombu.transport.redis.Channel):  # type: ignore[misc]
    """A channel that outlives what is no JSON."""

    def _brpop_read(self, **options: Any) -> Any:
        seen = self.connection.seen
        try:
            return super()._brpop_read(**options)
        except (ValueError, RecursionError) as exc:
            if self.connection.seen != seen:
                raise  # it was read: the fault lies elsewhere
            log.warning("message dropped: it is no JSON: %s", reprlib.repr(str(exc)))
            return True


class Transport(kombu.transport.redis.Transport):  # type: ignore[misc]
    """Delivers rebuilt messages only."""

    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen = 0  # messages that were read so far, good or not

    def _deliver(self, message: Any, queue: str) -> None:
        self.seen += 1
        try:
            message = rebuilt(message, queue)
        except ValueError as exc:
            log.warning("message dropped: %s", exc)
            return
        super()._deliver(message, queue)


def push(channel: Any, wake_ups: Sequence[tuple[str, str]]) -> None:
    """Put wake-ups, each a job's id and its queue, behind what waits there, in one exchange with the server.

    What lies in Redis afterwards is what kombu's own publisher would have put there, one by one.
    """
    messages: dict[str, list[str]] = {}
    for job_id, queue in wake_ups:
        messages.setdefault(queue, []).append(json.dumps(envelope(job_id, queue)))
    with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
        for queue, some in messages.items():
            pipe.lpush(channel._q_for_pri(queue, 0), *some)
        pipe.execute()


def sizes(channel: Any, queues: Sequence[str]) -> dict[str, int]:
    """How many messages wait in each queue, whatever their priority, in one exchange with the server."""
    steps = channel.priority_steps
    with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
        for queue in queues:
            for step in steps:
                pipe.llen(channel._q_for_pri(queue, step))
        found = pipe.execute()
    return {queue: sum(found[at * len(steps) : (at + 1) * len(steps)]) for at, queue in enumerate(queues)}


def rebuilt(raw: Any, queue: str) -> dict[str, Any]:
    """A message as our own publisher would have sent it, for the job that a raw one names.

    Raises ValueError for one that names none; `raw` may be anything that JSON can hold.
    """
    try:
        (argument,), _, _ = json.loads(base64.b64decode(raw["body"], validate=True))
    except (LookupError, TypeError, ValueError, RecursionError):
        raise ValueError(f"not a message of quantfleet: {reprlib.repr(raw)}") from None
    return envelope(broker.job_of(argument), queue)


def envelope(job_id: str, queue: str) -> dict[str, Any]:
    """A message for a job as Celery's protocol 2 has it in kombu's Redis transport."""
    embedded = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
    body = json.dumps([[broker.message(job_id)], {}, embedded]).encode()
    number = uuid.uuid4().hex
    return {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": broker.TASK, "id": number, "root_id": number},
        "properties": {
            "correlation_id": number,
            "delivery_tag": number,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
        },
    }
