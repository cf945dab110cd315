"""What a Postgres server answers before or instead of a session, as errors that say who can mend it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from storage import database, errors
from storage.database import Database
from tests import services


@pytest.fixture(scope="module")
def server(postgres_over_tcp: services.Postgres) -> services.Postgres:
    postgres_over_tcp.execute(
        "CREATE DATABASE closed ALLOW_CONNECTIONS false",
        "CREATE DATABASE private",
        "REVOKE CONNECT ON DATABASE private FROM PUBLIC",
        "CREATE ROLE guest LOGIN PASSWORD 'guest'",
        "CREATE ROLE nologin PASSWORD 'guest'",
        "CREATE ROLE limited LOGIN PASSWORD 'guest' CONNECTION LIMIT 0",
    )
    database.upgrade(postgres_over_tcp.make_database("errors"))
    return postgres_over_tcp


def as_guest(server: services.Postgres, user: str = "guest", name: str = "errors") -> str:
    return f"postgresql://{user}:guest@{server.host}:{server.port}/{name}"


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        (lambda s: s.address_of("errors").replace(s.password, "wrong"), errors.DatabaseError, "refuses the password"),
        (
            lambda s: s.address_of("errors").replace("postgres:", "nobody:"),
            errors.DatabaseError,
            "does not know the user",
        ),
        (lambda s: s.address_of("errors").replace(f":{s.password}", ""), errors.DatabaseError, "wants a password"),
        (lambda s: s.address_of("gone"), errors.DatabaseError, "does not exist on its server"),
        (lambda s: as_guest(s, name="private"), errors.DatabaseError, "refuses this user the right to connect"),
        (lambda s: as_guest(s, "nologin"), errors.DatabaseError, "refuses this user the right to log in"),
        (lambda s: as_guest(s, "limited"), errors.Unreachable, 'too many connections for role "limited"'),
        (lambda s: s.address_of("closed"), errors.Unreachable, "is not currently accepting connections"),
        (as_guest, errors.DatabaseReadOnly, "refuses this user the right to do that"),
    ],
)
def test_who_is_refused_learns_why(
    server: services.Postgres, address: Callable[[services.Postgres], str], kind: type[Exception], message: str
) -> None:
    with pytest.raises(errors.QuantfleetError, match=message) as caught:
        Database.open(address(server))
    assert type(caught.value) is kind
    said = str(caught.value)
    assert not any(secret in said for secret in (services.PASSWORD, server.password, "s3cret", ":wrong", ":guest"))
    assert f"@{server.host}:{server.port}/" in said


@pytest.mark.parametrize("address", ["postgresql://me:ge@heim@host/db", "postgresql://me:geheim@host:port/db"])
def test_an_address_whose_password_spoils_it_shows_nothing_of_it(address: str) -> None:
    with pytest.raises(errors.SettingsError, match="cannot be read") as caught:
        Database.open(address)
    assert "heim" not in str(caught.value)


def test_a_password_in_the_parameters_is_hidden_too(server: services.Postgres) -> None:
    address = f"postgresql://guest@{server.host}:{server.port}/errors?password=geheim"
    with pytest.raises(errors.DatabaseError, match="refuses the password") as caught:
        Database.open(address)
    assert "geheim" not in str(caught.value)
    assert "password=***" in str(caught.value)
    with Database.open(f"postgresql://postgres@{server.host}:{server.port}/errors?password={server.password}") as db:
        assert db.address.endswith("?password=***")


# servers that are only not there now


@pytest.fixture
def own() -> Iterator[services.Postgres]:
    """A server for one test, to be stopped, with a migrated database."""
    settings = {"max_connections": "4", "superuser_reserved_connections": "0", "max_wal_senders": "0"}
    with services.folder() as folder:
        server = services.Postgres(folder=folder / "postgres", settings={**settings, "reserved_connections": "0"})
        with services.running(server):
            database.upgrade(server.address)
            yield server


def test_a_server_with_too_many_guests_is_unreachable_for_a_while(own: services.Postgres) -> None:
    guests = [psycopg.connect(own.address) for _ in range(4)]
    with pytest.raises(errors.Unreachable, match="too many clients already"):
        Database.open(own.address)
    guests.pop().close()
    services.wait_for(lambda: opens(own), 10, "a free place")
    for guest in guests:
        guest.close()


def opens(server: services.Postgres) -> bool:
    try:
        Database.open(server.address).close()
    except errors.Unreachable:
        return False
    return True


def test_a_server_that_stops_and_starts_is_unreachable_meanwhile_and_nothing_else(own: services.Postgres) -> None:
    said: list[str] = []
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            try:
                Database.open(own.address).close()
            except errors.Unreachable as exc:
                said.append(str(exc))
            except Exception as exc:  # whatever else comes is what this test is about
                said.append(f"another error: {type(exc).__name__}: {exc}")
            time.sleep(0.002)

    visitor = threading.Thread(target=visit)
    visitor.start()
    waiting = psycopg.connect(own.address)  # "smart" shutdown waits for it, and turns others away
    assert own.process is not None
    own.process.send_signal(signal.SIGTERM)
    services.wait_for(lambda: any("shutting down" in each for each in said), 10, "a server that shuts down")
    waiting.close()
    own.stop()
    for _ in range(3):  # after a crash it recovers for a moment: "the database system is starting up"
        own.start()
        own.kill()
        time.sleep(0.2)
    own.start()
    over.set()
    visitor.join()
    assert not [each for each in said if each.startswith("another error")]
    assert any("refused" in each for each in said)


def test_a_server_that_does_not_listen_is_unreachable() -> None:
    address = f"postgresql://me:geheim@127.0.0.1:{services.free_port()}/db"
    with pytest.raises(errors.Unreachable, match=r"does not answer: .*refused") as caught:
        Database.open(address)
    assert "geheim" not in str(caught.value)
