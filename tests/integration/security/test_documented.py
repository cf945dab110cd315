"""What docs/security.md tells people to type works as it stands there."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import broker, database, errors, hosts, leadership, lifecycle, outbox, queries, records, settings, tables
from storage.database import Database
from tests import builders, services
from tests.integration.storage import fleet

DOCUMENT = Path(__file__).parents[3] / "docs" / "security.md"
ROLES = ("reader", "worker", "planner")


def block(language: str, containing: str) -> str:
    """The one code block of a language with some text in it."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    (text,) = [each for each in found if containing in each]
    return str(text)


# an authority of one's own


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """The folder in which the documented commands were typed."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    with services.folder() as folder:
        commands = block("sh", "openssl req")
        assert len(commands.replace("\\\n", "").strip().splitlines()) == 5
        done = subprocess.run(["sh", "-ec", commands], cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "server.pem: OK"), done.stderr
        yield folder


def test_the_documented_certificates_serve_both_links(
    made: Path, redis_server: services.Redis, postgres_over_tcp: services.Postgres
) -> None:
    certificate = services.Certificate(file=made / "server.pem", key=made / "server.key")
    with services.TlsEnd(redis_server, certificate.context()) as end:
        address = f"rediss://:{redis_server.password}@{end.host}:{end.port}/0?ssl_ca_certs={made / 'ca.pem'}"
        with contextlib.closing(broker.Publisher(settings.Settings(broker=address))) as publisher:
            publisher.ping()
    with services.TlsEnd(postgres_over_tcp, certificate.context(), postgres=True) as end:
        query = {"sslmode": "verify-full", "sslrootcert": str(made / "ca.pem")}
        address = postgres_over_tcp.address_of("postgres", **query).replace(str(postgres_over_tcp.port), str(end.port))
        assert database.check(address).current is None


def test_the_documented_certificates_satisfy_a_strict_reader(made: Path, redis_server: services.Redis) -> None:
    certificate = services.Certificate(file=made / "server.pem", key=made / "server.key")
    strict = ssl.create_default_context(cafile=made / "ca.pem")
    strict.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 does by itself
    with (
        services.TlsEnd(redis_server, certificate.context()) as end,
        socket.create_connection((end.host, end.port), 5) as plain,
    ):
        strict.wrap_socket(plain, server_hostname="127.0.0.1").close()


# roles with fewer rights


@pytest.fixture(scope="module")
def address(postgres_over_tcp: services.Postgres) -> str:
    """The owner's address of a database whose roles have the documented rights."""
    owner = postgres_over_tcp.make_database("rights")
    database.upgrade(owner)
    postgres_over_tcp.execute(*(f"CREATE ROLE quantfleet_{role} LOGIN PASSWORD '{role}'" for role in ROLES))
    engine = sa.create_engine(database.parse(owner))
    with engine.begin() as connection:
        connection.exec_driver_sql(block("sql", "GRANT"))
    engine.dispose()
    return owner


@contextlib.contextmanager
def as_role(address: str, role: str) -> Iterator[Database]:
    user = f"quantfleet_{role}:{role}@"
    with Database.open(re.sub(r"//.*@", f"//{user}", address)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def emptied(request: pytest.FixtureRequest) -> None:
    """Nothing of another test in the shared database."""
    if "address" in request.fixturenames:
        with Database.open(str(request.getfixturevalue("address"))) as db, db.transaction() as connection:
            for table in reversed(tables.metadata.sorted_tables):
                connection.execute(sa.delete(table))


def test_a_worker_needs_no_more_than_its_role_may(address: str) -> None:
    with as_role(address, "planner") as planner, as_role(address, "worker") as db:
        fleet.register(db)
        kinds = [fleet.planned("A", replica=n) for n in range(7)]
        accuracy = builders.planned(builders.case("accuracy"), fleet.key("A"))
        done, failed, released, late, expired, *_, right = fleet.submit(planner, *kinds, accuracy)
        (anywhere,) = fleet.submit(planner, fleet.planned(fleet.ANY))

        mine = fleet.claim(db, done)
        lifecycle.renew(db, mine, lease=60, progress={"pair": 1})
        assert lifecycle.finish(db, mine, builders.latency(), [builders.leg()])
        assert lifecycle.finish(db, fleet.claim(db, right), builders.accuracy())
        assert lifecycle.fail(db, fleet.claim(db, failed), records.Failure(reason="crash", message="why")) == "queued"
        assert lifecycle.release(db, fleet.claim(db, released)) == "queued"
        assert lifecycle.decline(db, fleet.claim(db, anywhere), "cannot") == "queued"
        slow = fleet.claim(db, late)
        assert lifecycle.adopt(db, "a1") == [late]
        fleet.claim(db, late, "a2")
        assert not lifecycle.finish(db, slow, builders.latency())
        fleet.claim(db, expired, lease=0)
        assert lifecycle.expire(db) == [expired]
        assert outbox.tick(db, fleet.Queues(), "a1", settings.Settings())
        leadership.resign(db, "a1")
        hosts.seen(db, "a1")
        hosts.goodbye(db, "a1")
        assert len(queries.results(db, states="done")) == 2


def test_a_planner_submits_cancels_retries_and_forgets(address: str) -> None:
    with as_role(address, "worker") as worker, as_role(address, "planner") as db:
        fleet.register(worker)
        jobs = [fleet.planned("A"), fleet.planned("B")]
        ids = fleet.submit(db, *jobs)
        assert fleet.submit(db, *jobs) == []
        assert outbox.publish(db, fleet.Queues()) == 2
        assert lifecycle.cancel(db, ids) == 2
        assert lifecycle.retry(db, ids) == 2
        assert hosts.forget(db, "c1")
        assert queries.studies(db)[0].jobs == 2


@pytest.mark.parametrize("role", ROLES)
def test_every_role_reads_everything_and_the_views(address: str, role: str) -> None:
    with as_role(address, role) as db, db.read() as connection:
        for name in [*tables.metadata.tables, "v_result", "v_gain", "v_host"]:
            connection.execute(sa.text(f"SELECT * FROM {name}"))  # noqa: S608


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("worker", "INSERT INTO study (id, name, digest, text, submitted_at) VALUES ('x', 'x', 'x', 'x', 0)"),
        ("worker", "INSERT INTO job SELECT * FROM job WHERE false"),
        ("worker", "DELETE FROM result"),
        ("worker", "UPDATE result SET gain = 100"),
        ("worker", "ALTER TABLE job ADD COLUMN x integer"),
        ("worker", "DROP TABLE sample"),
        ("planner", "INSERT INTO result SELECT * FROM result WHERE false"),
        ("planner", "UPDATE result SET gain = 100"),
        ("reader", "UPDATE job SET state = 'queued'"),
        ("reader", "CREATE TABLE public.mine (x integer)"),
    ],
)
def test_no_role_may_do_more(address: str, role: str, statement: str) -> None:
    with (
        as_role(address, role) as db,
        pytest.raises(errors.DatabaseReadOnly, match="refuses this user the right to do that"),
        db.transaction() as connection,
    ):
        connection.execute(sa.text(statement))


def test_an_upgrade_without_the_right_says_so_and_changes_nothing(address: str) -> None:
    user = re.sub(r"//.*@", "//quantfleet_worker:worker@", address)
    assert database.upgrade(user).fits  # nothing to do, and nothing was asked for that the role lacks
    with as_role(address, "reader") as db, pytest.raises(errors.DatabaseReadOnly, match="the right to do that"):
        fleet.register(db)
