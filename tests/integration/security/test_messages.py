"""Whoever can write to the broker can wake jobs, and nothing more."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import kombu.exceptions
import kombu.serialization
import pytest

from storage import broker, redis_transport, settings
from tests import services

PICKLE, YAML, JSON = "application/x-python-serialize", "application/x-yaml", "application/json"


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def envelope(body: bytes, content_type: str, *, task: str = broker.TASK, **more: Any) -> bytes:
    """A message as Celery puts it into a list of Redis, with any body."""
    delivery = {"exchange": "", "routing_key": "any"}
    properties = {"body_encoding": "base64", "delivery_tag": uuid.uuid4().hex, "delivery_info": delivery, "priority": 0}
    headers = {"task": task, "id": uuid.uuid4().hex, "lang": "py", "argsrepr": "()", **more}
    text = base64.b64encode(body).decode()
    whole = {"body": text, "content-encoding": "utf-8", "content-type": content_type, "headers": headers}
    return json.dumps({**whole, "properties": properties}).encode()


def evil_messages(file: Path) -> list[bytes]:
    """What somebody may put into a queue that is none of ours; `file` must never come to be."""
    arguments = json.dumps([[{"job": "no-such-job", "schema": 1}], {}, {}]).encode()
    odd: list[Any] = [
        [],
        [None],
        ["text"],
        [{"job": 7, "schema": 1}],
        [{"job": "x", "schema": 99}],
        [{"job": "x"}],
        [1, 2],
    ]
    return [
        envelope(pickle.dumps([[Evil(file)], {}, {}]), PICKLE),
        envelope(f"[!!python/object/apply:os.mknod ['{file}']]".encode(), YAML),
        envelope(pickle.dumps(Evil(file)), JSON),
        envelope(b"\xff\xfe no json", JSON),
        envelope(arguments, JSON, task="os.system"),
        envelope(arguments, "application/x-unknown"),
        envelope(arguments, JSON),
        *(envelope(json.dumps([each, {}, {}]).encode(), JSON) for each in odd),
        *(envelope(each, JSON) for each in (b"{}", b"7", b"[1, 2, 3]", b"[[1, 2], {}, {}]", b"[" * 100_000)),
        *(b"garbage", b"\xff\xfe", b"[]", b"{}", b"null", b"7", b'{"body": 7}', b'{"body": "?"}', b'"text"', b"["),
        b"[" * 100_000,
    ]


JOBS_AMONG_EVIL = 3
"""Of these messages name a job, though none that exists: whatever else is in them, they can only wake."""


@pytest.fixture
def queue() -> str:
    return f"host.{uuid.uuid4().hex}"


@pytest.fixture
def consuming(redis_server: services.Redis, queue: str) -> Iterator[tuple[kombu.Connection, list[Any]]]:
    """A consumer with the settings of a worker, and what it could read."""
    app = broker.app(settings.Settings(broker=redis_server.address), queues=[queue])
    read: list[Any] = []
    with app.connection_for_read() as connection:
        accept, callbacks = app.conf.accept_content, [lambda body, _: read.append(body)]
        with kombu.Consumer(connection, [app.amqp.queues[queue]], callbacks=callbacks, accept=accept, no_ack=True):
            yield connection, read


def test_a_worker_reads_jobs_only(
    redis_server: services.Redis, queue: str, consuming: tuple[kombu.Connection, list[Any]], tmp_path: Path
) -> None:
    connection, read = consuming
    for evil in evil_messages(tmp_path / "evil"):
        redis_server.client().lpush(queue, evil)
        with contextlib.suppress(TimeoutError):
            connection.drain_events(timeout=5)
        assert redis_server.client().llen(queue) == 0, evil
    assert [broker.job_of(arguments[0]) for arguments, *_ in read] == ["no-such-job"] * JOBS_AMONG_EVIL
    assert list(tmp_path.iterdir()) == []
    assert redis_server.client().hlen("unacked") == 0


def test_of_a_message_only_its_job_is_taken(
    redis_server: services.Redis, queue: str, consuming: tuple[kombu.Connection, list[Any]]
) -> None:
    connection, read = consuming
    callback = {"task": "os.system", "args": ["true"]}
    body = [[{"job": "j1", "schema": 1, "more": 7}], {"keyword": 1}, {"callbacks": [callback], "chain": [callback]}]
    headers: dict[str, Any] = {
        "eta": "2999-01-01T00:00:00",
        "timelimit": [0.001, 0.001],
        "expires": "never",
        "id": ["x"],
        "retries": 9,
    }
    redis_server.client().lpush(queue, envelope(json.dumps(body).encode(), JSON, **headers))
    connection.drain_events(timeout=10)
    embedded = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
    assert read == [[[{"job": "j1", "schema": 1}], {}, embedded]]


@pytest.mark.parametrize("content_type", [PICKLE, YAML, "application/x-unknown"])
def test_celery_itself_is_told_to_take_json_only(content_type: str, tmp_path: Path) -> None:
    app = broker.app(settings.Settings(broker="redis://host/0"))
    body = pickle.dumps(Evil(tmp_path / "evil"))
    accept = kombu.serialization.prepare_accept_content(app.conf.accept_content)
    assert kombu.serialization.loads(b"[1]", JSON, "utf-8", accept=accept) == [1]
    with pytest.raises(kombu.exceptions.ContentDisallowed):
        kombu.serialization.loads(body, content_type, "binary", accept=accept)
    assert list(tmp_path.iterdir()) == []


def test_what_a_publisher_sends_is_what_a_worker_rebuilds(redis_server: services.Redis, queue: str) -> None:
    publisher = broker.Publisher(settings.Settings(broker=redis_server.address))
    publisher.publish("j1", queue)
    publisher.close()
    raw = json.loads(bytes(redis_server.client().rpop(queue)))  # type: ignore[arg-type]
    made = redis_transport.rebuilt(raw, queue)
    assert json.loads(base64.b64decode(raw["body"])) == json.loads(base64.b64decode(made["body"]))
    assert set(made) == set(raw)
    assert set(made["properties"]) <= set(raw["properties"])
    assert set(made["headers"]) <= set(raw["headers"])
    for name in ("content-type", "content-encoding"):
        assert made[name] == raw[name]


def test_the_evil_message_of_these_tests_would_work(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "evil")))  # noqa: S301 - the proof that it is one
    assert (tmp_path / "evil").exists()
