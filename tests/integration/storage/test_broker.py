"""Wake-ups through a real Redis: sent, counted, dropped; and what is said when it does not work."""

from __future__ import annotations

import base64
import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from storage import broker, errors, redis_transport, settings
from tests import services

QUEUE = "platform.0123456789abcdef"


def publisher(address: str) -> broker.Publisher:
    return broker.Publisher(settings.Settings(broker=address))


@pytest.fixture
def redis(redis_server: services.Redis) -> Iterator[services.Redis]:
    """The shared server, emptied."""
    redis_server.client().flushall()
    yield redis_server


@pytest.fixture
def queue(redis: services.Redis) -> Iterator[broker.Publisher]:
    with contextlib.closing(publisher(redis.address)) as made:
        yield made


def test_a_broker_that_is_there_answers(queue: broker.Publisher) -> None:
    queue.ping()


def test_messages_are_counted_and_dropped_queue_by_queue(queue: broker.Publisher) -> None:
    for name in (QUEUE, QUEUE, "host.one"):
        queue.publish(uuid.uuid4().hex, name)
    assert [queue.waiting(name) for name in (QUEUE, "host.one", "any")] == [2, 1, 0]
    queue.purge(QUEUE)
    queue.purge("any")
    assert [queue.waiting(name) for name in (QUEUE, "host.one", "any")] == [0, 1, 0]


def test_many_wake_ups_at_once_lie_there_as_single_ones_do_and_in_their_order(
    redis: services.Redis, queue: broker.Publisher
) -> None:
    queue.publish("first", QUEUE)
    wanted = [(f"j{n}", ("host.one", QUEUE)[n % 2]) for n in range(1100)]

    taken = list(queue.publish_all(wanted))

    assert [job_id for some in taken for job_id in some] == [job_id for job_id, _ in wanted]
    raw = [json.loads(text) for text in reversed(cast("list[bytes]", redis.client().lrange(QUEUE, 0, -1)))]
    bodies = [json.loads(base64.b64decode(one["body"])) for one in raw]
    assert [body[0][0]["job"] for body in bodies] == ["first", *(job_id for job_id, name in wanted if name == QUEUE)]
    single, many = raw[0], raw[1]
    assert bodies[0][1:] == bodies[1][1:]
    assert (single["content-type"], single["content-encoding"]) == (many["content-type"], many["content-encoding"])
    assert single["properties"]["delivery_info"] == many["properties"]["delivery_info"]
    assert set(many["properties"]) <= {*single["properties"], "priority"}
    assert all(redis_transport.rebuilt(one, QUEUE) for one in raw)


def test_queues_in_which_nothing_waits_are_told_at_once(queue: broker.Publisher) -> None:
    list(queue.publish_all([("a", QUEUE), ("b", "host.one")]))
    assert queue.empty([QUEUE, "host.one", "any", "host.two"]) == {"any", "host.two"}
    assert queue.empty([]) == frozenset()


def test_who_looks_again_and_again_needs_one_connection(redis: services.Redis, queue: broker.Publisher) -> None:
    def connections() -> int:
        return int(cast("dict[str, int]", asked.info("stats"))["total_connections_received"])

    asked = redis.client()
    queue.waiting(QUEUE)
    before = connections()
    for _ in range(5):
        assert queue.empty([QUEUE, "any"]) == {QUEUE, "any"}
        assert list(queue.publish_all([])) == []
    assert connections() == before


def test_publishing_leaves_nothing_behind_but_messages(redis: services.Redis, queue: broker.Publisher) -> None:
    for name in (QUEUE, "any"):
        queue.publish("job", name)
    kept = {bytes(name).decode() for name in redis.client().scan_iter()}
    assert {QUEUE, "any"} <= kept
    assert all(name in (QUEUE, "any") or name.startswith("_kombu.binding.") for name in kept), kept


def test_a_publisher_goes_on_when_its_broker_was_restarted() -> None:
    with services.folder() as folder, services.running(server := services.Redis(folder=folder / "redis")):
        queue = publisher(server.address)
        queue.publish("one", QUEUE)
        server.stop()
        many = lambda: list(queue.publish_all([("two", QUEUE)]))  # noqa: E731
        for act in (queue.ping, lambda: queue.publish("two", QUEUE), many, lambda: queue.waiting(QUEUE)):
            began = time.monotonic()
            with pytest.raises(errors.Unreachable, match="does not answer"):
                act()
            assert time.monotonic() - began < 5
        server.start()
        queue.publish("three", QUEUE)
        queue.ping()
        assert queue.waiting(QUEUE) == 2  # the append-only file kept the first
        server.kill()
        server.forget()
        server.start()
        assert queue.waiting(QUEUE) == 0
        queue.close()


def test_a_broker_that_hangs_is_unreachable_after_a_while() -> None:
    with services.folder() as folder, services.running(server := services.Redis(folder=folder / "redis")):
        queue = publisher(server.address)
        server.pause()
        began = time.monotonic()
        with pytest.raises(errors.Unreachable, match="does not answer"):
            queue.ping()
        assert time.monotonic() - began < 3 * broker.PING_S
        server.resume()
        queue.ping()
        queue.close()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{password}", "wrong", "refuses the password"),
        (":{password}@", "", "wants a password"),
        ("://:", "://stranger:", "refuses the password"),
        ("redis://", "rediss://", "does not speak TLS there; write redis:// instead of rediss://"),
        ("/0", "/99", "has no database of that number"),
    ],
)
def test_what_only_a_person_can_mend_is_no_matter_of_time(
    redis: services.Redis, old: str, new: str, message: str
) -> None:
    address = redis.address.replace(old.format(password=redis.password), new)
    assert address != redis.address
    with contextlib.closing(publisher(address)) as queue:
        acts: list[Callable[[], object]] = [
            queue.ping,
            lambda: queue.publish("job", QUEUE),
            lambda: queue.waiting(QUEUE),
            lambda: list(queue.publish_all([("job", QUEUE)])),
            lambda: queue.empty([QUEUE]),
        ]
        for act in acts[: 1 if "TLS" in message else None]:  # only a ping finds out: Redis is silent to who speaks TLS
            with pytest.raises(errors.SettingsError, match=message) as caught:
                act()
            said = str(caught.value)
            assert str(redis.port) in said
            assert not any(secret in said for secret in (services.PASSWORD, redis.password, "s3cret"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("amqp://me:geheim@host/0", r"begins with amqp://; expected redis://:PASSWORD@HOST:6379/0, or rediss://"),
        ("reddis://:geheim@host/0", r"begins with reddis://; did you mean 'redis://'\?"),
        ("redis:geheim@host", r"cannot be read; expected redis://"),
        ("geheim", r"cannot be read; expected redis://"),
        ("redis://:geheim/0@host:6379/0", r"cannot be read.*odd characters of a password are written %XX"),
        ("redis://:geheim#1@host/0", r"cannot be read.*# as %23"),
        ("redis://:geheim@host:port/0", r"cannot be read"),
        ("redis://:geheim@/0", r"cannot be read"),
        ("redis://:geheim@host/fast", r"names a database that is no number; write /0 at its end"),
        ("redis://:geheim@host/0?timeout=3", r"has an unknown parameter 'timeout'"),
        (
            "rediss://:geheim@host/0?ssl_ca_cert=x",
            r"has an unknown parameter 'ssl_ca_cert'; did you mean 'ssl_ca_certs'\?",
        ),
        ("rediss://host/0?ssl_password=ge&geheim&ssl_ca=1", r"has an unknown parameter 'ssl_ca'"),
        ("redis://:geheim@host/0?ssl_ca_certs=/ca.pem", r"sets ssl_ca_certs, which needs rediss://"),
        ("rediss://:geheim@host/0?ssl_ca_certs=/no/ca.pem", r"names ssl_ca_certs=/no/ca.pem, which is no file"),
        ("rediss://:geheim@host/0?ssl_cert_reqs=maybe", r"expected ssl_cert_reqs=required or none"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_before_anything_is_sent(address: str, message: str) -> None:
    with pytest.raises(errors.SettingsError, match=message) as caught:
        publisher(address)
    assert "geheim" not in str(caught.value)


def test_a_host_that_does_not_exist_is_unreachable() -> None:
    queue = publisher("redis://:geheim@no-such-host.invalid:6379/0")
    with pytest.raises(errors.Unreachable, match="does not answer") as caught:
        queue.ping()
    assert "geheim" not in str(caught.value)


def test_odd_characters_of_a_password_are_understood_when_they_are_encoded(queue: broker.Publisher) -> None:
    assert set(services.PASSWORD) & set("/:@"), "the servers of the tests have an odd password on purpose"
    queue.ping()
