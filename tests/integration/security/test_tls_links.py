"""Both links over TLS, with certificates made on the spot: what is verified by default, and what is said when not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest

from storage import broker, database, errors, settings
from storage.database import Database
from tests import services

QUEUE = "host.tls"


@pytest.fixture
def stranger() -> Iterator[services.Authority]:
    """An authority that nobody here trusts."""
    with services.folder() as folder:
        yield services.Authority(folder / "stranger")


# Redis


@contextlib.contextmanager
def over_tls(
    server: services.Redis, end: services.TlsEnd, tail: str, scheme: str = "rediss"
) -> Iterator[broker.Publisher]:
    address = f"{scheme}://:{server.password}@{end.host}:{end.port}/0{tail}"
    with end, contextlib.closing(broker.Publisher(settings.Settings(broker=address))) as publisher:
        yield publisher


def refused(act: Callable[[], object], kind: type[errors.QuantfleetError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        act()
    assert services.PASSWORD not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_message_travels_over_a_verified_link(redis_server: services.Redis, authority: services.Authority) -> None:
    end = services.TlsEnd(redis_server, authority.sign("127.0.0.1").context())
    with over_tls(redis_server, end, f"?ssl_ca_certs={authority.file}") as publisher:
        publisher.ping()
        publisher.purge(QUEUE)
        publisher.publish("job", QUEUE)
        assert publisher.waiting(QUEUE) == 1

        address = f"rediss://:{redis_server.password}@{end.host}:{end.port}/0?ssl_ca_certs={authority.file}"
        app = broker.app(settings.Settings(broker=address), queues=[QUEUE])
        bodies: list[Any] = []
        with app.connection_for_read() as connection:
            queue = app.amqp.queues[QUEUE]
            accept = app.conf.accept_content
            with kombu.Consumer(connection, [queue], callbacks=[lambda body, _: bodies.append(body)], accept=accept):
                connection.drain_events(timeout=10)
    assert [broker.job_of(body[0][0]) for body in bodies] == ["job"]


def test_a_certificate_of_an_unknown_authority_is_refused_unless_nothing_is_to_be_verified(
    redis_server: services.Redis, authority: services.Authority, stranger: services.Authority
) -> None:
    certificate = authority.sign("127.0.0.1")
    for tail in ("", f"?ssl_ca_certs={stranger.file}"):
        with over_tls(redis_server, services.TlsEnd(redis_server, certificate.context()), tail) as publisher:
            message = r"authority that is not known here; name the authority's file with \?ssl_ca_certs=FILE"
            refused(publisher.ping, errors.SettingsError, message)
            refused(lambda: publisher.publish("job", QUEUE), errors.SettingsError, message)
    with over_tls(
        redis_server, services.TlsEnd(redis_server, certificate.context()), "?ssl_cert_reqs=none"
    ) as publisher:
        publisher.ping()


def test_a_certificate_for_another_name_is_refused_unless_names_are_not_to_be_compared(
    redis_server: services.Redis, authority: services.Authority
) -> None:
    certificate, tail = authority.sign("redis.example.org"), f"?ssl_ca_certs={authority.file}"
    with over_tls(redis_server, services.TlsEnd(redis_server, certificate.context()), tail) as publisher:
        refused(publisher.ping, errors.SettingsError, r"another name than the address has .*not valid for '127.0.0.1'")
    tail += "&ssl_check_hostname=false"
    with over_tls(redis_server, services.TlsEnd(redis_server, certificate.context()), tail) as publisher:
        publisher.ping()


def test_a_certificate_that_has_expired_is_refused(redis_server: services.Redis, authority: services.Authority) -> None:
    end = services.TlsEnd(redis_server, authority.sign("127.0.0.1", expired=True).context())
    with over_tls(redis_server, end, f"?ssl_ca_certs={authority.file}") as publisher:
        refused(publisher.ping, errors.SettingsError, "a certificate that has expired")


def test_a_client_without_tls_gets_a_hint(redis_server: services.Redis, authority: services.Authority) -> None:
    end = services.TlsEnd(redis_server, authority.sign("127.0.0.1").context())
    with over_tls(redis_server, end, "", scheme="redis") as publisher:
        refused(publisher.ping, errors.QuantfleetError, "rediss://")


def test_a_client_without_a_certificate_of_its_own_gets_a_hint_where_one_is_wanted(
    redis_server: services.Redis, authority: services.Authority
) -> None:
    ours, theirs = authority.sign(client="quantfleet"), authority.sign("127.0.0.1")
    tail = f"?ssl_ca_certs={authority.file}"
    with over_tls(redis_server, services.TlsEnd(redis_server, theirs.context(authority.file)), tail) as publisher:
        refused(publisher.ping, errors.QuantfleetError, "ssl_certfile=FILE&ssl_keyfile=FILE")
    tail += f"&ssl_certfile={ours.file}&ssl_keyfile={ours.key}"
    with over_tls(redis_server, services.TlsEnd(redis_server, theirs.context(authority.file)), tail) as publisher:
        publisher.ping()


# Postgres


@pytest.fixture(scope="module")
def server(postgres_over_tcp: services.Postgres) -> services.Postgres:
    """A server with a migrated database of its own."""
    database.upgrade(postgres_over_tcp.make_database("links"))
    return postgres_over_tcp


def address(server: services.Postgres, port: int, **query: str) -> str:
    return server.address_of("links", **query).replace(f":{server.port}/", f":{port}/")


def open_over(server: services.Postgres, certificate: services.Certificate, **query: str) -> None:
    with services.TlsEnd(server, certificate.context(), postgres=True) as end:
        Database.open(address(server, end.port, **query)).close()


def test_a_database_is_opened_over_a_verified_link(server: services.Postgres, authority: services.Authority) -> None:
    with (
        services.TlsEnd(server, authority.sign("127.0.0.1").context(), postgres=True) as end,
        Database.open(address(server, end.port, sslmode="verify-full", sslrootcert=str(authority.file))) as db,
        db.read() as connection,
    ):
        driver = connection.connection.dbapi_connection
        assert driver is not None
        assert driver.pgconn.ssl_in_use


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca"])
def test_a_database_with_a_certificate_of_an_unknown_authority_is_refused(
    server: services.Postgres, authority: services.Authority, stranger: services.Authority, mode: str
) -> None:
    certificate = authority.sign("127.0.0.1")
    for file in (str(stranger.file), "system"):
        query = {"sslmode": mode if file != "system" else "verify-full", "sslrootcert": file}
        act = lambda query=query: open_over(server, certificate, **query)  # noqa: E731
        refused(act, errors.DatabaseError, "certificate that cannot be trusted.*sslrootcert=FILE.*verify failed")


def test_a_database_with_a_certificate_for_another_name_is_refused_unless_only_the_authority_counts(
    server: services.Postgres, authority: services.Authority
) -> None:
    certificate, query = authority.sign("db.example.org"), {"sslrootcert": str(authority.file)}
    act = lambda: open_over(server, certificate, sslmode="verify-full", **query)  # noqa: E731
    refused(act, errors.DatabaseError, "shows a certificate for another name than the address has")
    open_over(server, certificate, sslmode="verify-ca", **query)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"sslmode": "verify-full", "sslrootcert": "/no/ca.pem"}, "the file of sslrootcert cannot be read.*/no/ca.pem"),
        ({"sslmode": "full"}, "sslmode is verify-full, verify-ca, require, prefer or disable"),
        ({"sslmod": "require"}, 'invalid connection option "sslmod"'),
    ],
)
def test_parameters_that_cannot_be_used_are_named(
    server: services.Postgres, authority: services.Authority, query: dict[str, str], message: str
) -> None:
    refused(lambda: open_over(server, authority.sign("127.0.0.1"), **query), errors.DatabaseError, message)


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_a_database_without_tls_is_refused_when_tls_is_wanted(
    server: services.Postgres, authority: services.Authority, mode: str
) -> None:
    query = {"sslmode": mode, "sslrootcert": str(authority.file)}
    act = lambda: Database.open(address(server, server.port, **query))  # noqa: E731
    refused(act, errors.DatabaseError, "does not speak TLS there")
