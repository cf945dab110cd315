"""What Redis, OpenSSL and kombu say, as errors that tell who can mend it: what no test server can be made to say."""

from __future__ import annotations

import kombu.exceptions
import pytest
import redis

from storage import broker, errors

ADDRESS = "rediss://:geheim@host:6379/0"


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (redis.ConnectionError("tlsv13 alert certificate required"), errors.SettingsError, "ssl_certfile=FILE"),
        (redis.ConnectionError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), errors.SettingsError, "speak TLS"),
        (redis.ConnectionError("[SSL] record layer failure"), errors.SettingsError, "does not speak TLS there"),
        (redis.InvalidResponse("Protocol Error: b'\\x15\\x03'"), errors.SettingsError, "for TLS write rediss://"),
        (redis.ResponseError("NOPERM this user has no permissions"), errors.SettingsError, "refuses this user"),
        (
            redis.BusyLoadingError("Redis is loading the dataset in memory"),
            errors.Unreachable,
            "does not answer: Redis is l",
        ),
        (redis.OutOfMemoryError("OOM command not allowed"), errors.Unreachable, "does not answer: OOM"),
        (redis.TimeoutError("Timeout reading from socket"), errors.Unreachable, "does not answer: Timeout"),
        (kombu.exceptions.OperationalError("no AUTH geheim"), errors.Unreachable, r"does not answer: no AUTH \*\*\*"),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            errors.Unreachable,
            "does it want a certificate of ours",
        ),
        (OSError(113, "No route to host"), errors.Unreachable, "No route to host"),
        (errors.Unreachable("as it was"), errors.Unreachable, "^as it was$"),
    ],
)
def test_it_is_said_who_can_mend_it(raised: Exception, kind: type[Exception], message: str) -> None:
    with pytest.raises(errors.QuantfleetError, match=message) as caught, broker.translated(ADDRESS):
        raise raised
    assert type(caught.value) is kind
    assert "geheim" not in str(caught.value)


def test_a_slip_of_ours_stays_one() -> None:
    with pytest.raises(ZeroDivisionError), broker.translated(ADDRESS):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("platform_key", "host", "queue"),
    [("0123", None, "platform.0123"), ("0123", "one", "host.one"), ("any", "one", "host.one"), ("any", None, "any")],
)
def test_queues_are_named_after_whom_a_job_is_for(platform_key: str, host: str | None, queue: str) -> None:
    assert broker.queue_of(platform_key, host) == queue
    assert queue in broker.queues_of("0123", "one")
