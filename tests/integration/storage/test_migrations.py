"""A database of the first version, with what a user measured in it, brought to today's schema."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from storage import database, errors, hosts, leadership, lifecycle, outbox, plain, queries, records, sql_views
from storage.database import Database
from storage.migrations import runner
from tests import builders
from tests.integration.storage import fleet

PLATFORM = fleet.PLATFORMS["A"]
STATES = ("done", "queued", "running", "unsupported", "failed")


@pytest.fixture(params=["sqlite", "postgres"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a database at revision 0001 with a study in it."""
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path / 'old.db'}"
        engine = sa.create_engine(address)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    else:
        address = str(request.getfixturevalue("empty_postgres"))
        engine = sa.create_engine(database.parse(address))
    with engine.begin() as connection:
        runner.upgrade(connection, "0001")
        fill(connection)
    engine.dispose()
    return address


def put(connection: sa.Connection, table: str, **values: Any) -> None:
    """One row by plain SQL: today's tables know columns that were not there."""
    names, places = ", ".join(f'"{name}"' for name in values), ", ".join(f":{name}" for name in values)
    row = {name: json.dumps(value) if isinstance(value, (Mapping, list)) else value for name, value in values.items()}
    connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({places})"), row)  # noqa: S608


def fill(connection: sa.Connection) -> None:
    hardware, environment = PLATFORM.hardware, PLATFORM.environment
    what: dict[str, Any] = {
        "cpu": hardware.cpu,
        "architecture": "x86_64",
        "physical_cores": 1,
        "logical_cores": 2,
        "memory_gib": 8,
    }
    document = records.to_document(hardware)
    put(connection, "hardware", key=PLATFORM.hardware_key, **what, isa="avx2", caps="", document=document)
    document = records.to_document(environment)
    put(connection, "environment", key=PLATFORM.environment_key, python="3.11", kernel="6.1", document=document)
    keys = {"hardware_key": PLATFORM.hardware_key, "environment_key": PLATFORM.environment_key}
    put(connection, "platform", key=PLATFORM.key, **keys)
    seen = {"first_seen_at": 1000.0, "last_seen_at": 2000.0}
    put(connection, "host", name="a1", platform_key=PLATFORM.key, labels={"region": "eu"}, **seen)
    put(connection, "study", id="s1", name="study", digest="d1", text="name: study", submitted_at=1500.0)
    model = {"name": "minilm", "source": "local", "location": "/models/minilm", "digest": "m1"}
    put(connection, "model", key="mk", **model, document={})
    for position, state in enumerate(STATES):
        put_job(connection, state, position)
    put_result(connection)


def put_job(connection: sa.Connection, state: str, position: int) -> None:
    planned = fleet.planned("A", replica=position)
    what: dict[str, Any] = {"kind": "latency", "model_key": "mk", "model": "minilm", "strategy": planned.case.strategy}
    what |= {"baseline": planned.case.baseline, "threads": 1, "batch": 1, "length": 16, "input": "b1×l16"}
    documents = {
        "case_document": records.to_document(planned.case),
        "budget_document": records.to_document(planned.budget),
    }
    times = {"created_at": 1500.0, "not_before_at": 1500.0, "published_at": 1501.0}
    times |= {} if state == "queued" else {"claimed_at": 1502.0}
    times |= {"finished_at": 1600.0} if state in records.TERMINAL else {}
    times |= {"lease_until_at": 1700.0} if state == "running" else {}
    tried = 0 if state == "queued" else 1
    counts = {"token": tried, "attempts": tried, "host": "a1" if tried else None, "replica": position}
    counts |= {"message": "why" if state in ("unsupported", "failed") else None}
    where = {"id": f"j{position}", "key": planned.key, "platform_key": PLATFORM.key, "position": position}
    put(connection, "job", **where, state=state, **what, **documents, **times, **counts)
    put(connection, "study_job", study_id="s1", job_id=f"j{position}")
    if tried:
        who = {"token": 1, "number": 1, "host": "a1", "platform_key": PLATFORM.key, "started_at": 1502.0}
        put(connection, "attempt", job_id=f"j{position}", **who, state=state if state != "failed" else "error")


def put_result(connection: sa.Connection) -> None:
    measurement = records.to_document(builders.latency())
    numbers = {"gain": 2.5, "gain_low": 2.4, "gain_high": 2.6, "latency_p50_s": 0.004, "pairs": 5}
    who = {"job_id": "j0", "token": 1, "host": "a1", "platform_key": PLATFORM.key, "finished_at": 1600.0}
    put(connection, "result", **who, **numbers, flags=["disturbed"], notes=[], document=measurement)
    leg = {"pair": 0, "round": 0, "position": 0, "side": "baseline", "items": 1, "count": 2, "started_at": 1550.0}
    facts = {"cpu_ns": 1, "run_delay_ns": 2, "foreign_share": 0.0, "steal_share": 0.0, "threads_burning": 1}
    samples = plain.pack((10, 20), "<i8")
    put(connection, "sample", job_id="j0", number=0, **leg, **facts, preemptions=0, samples=samples, disturbed=[])


def test_an_old_database_is_refused_until_it_is_upgraded(old: str) -> None:
    with pytest.raises(errors.SchemaMismatch, match=r"schema 0001 of an older version.*run `quantfleet db upgrade`"):
        Database.open(old)
    assert database.upgrade(old).fits
    Database.open(old).close()


def test_what_was_measured_before_is_read_as_it_was(old: str) -> None:
    database.upgrade(old)
    with Database.open(old) as db:
        (done,) = queries.results(db, states="done")
        assert (done.gain, done.gain_low, done.latency_p50_s, done.flags) == (2.5, 2.4, 0.004, ("disturbed",))
        assert (done.host, done.cpu, done.finished_at) == ("a1", "CPU A", 1600.0)
        assert done.measurement() == builders.latency()
        assert [leg.samples_ns for leg in queries.legs(db, "j0")] == [(10, 20)]
        assert [(job.state, job.wanted_host, job.studies) for job in queries.jobs(db)] == [
            (state, None, ("study",)) for state in STATES
        ]
        (study,) = queries.studies(db)
        assert (study.name, study.text, study.document, study.jobs) == ("study", "name: study", None, 5)
        (host,) = queries.hosts(db)
        assert (host.name, host.labels, host.stopped_at, host.standing) == ("a1", {"region": "eu"}, None, "away")
        assert host.platform == PLATFORM


def test_the_views_of_people_read_it_too(old: str) -> None:
    database.upgrade(old)
    with Database.open(old) as db, db.read() as connection:
        gain = connection.execute(sa.text("SELECT gain, host FROM v_gain")).one()
        host = connection.execute(sa.text("SELECT host, stopped_at, running, results FROM v_host")).one()
        ended = connection.execute(sa.text("SELECT state FROM v_result ORDER BY state")).scalars().all()
    assert (tuple(gain), tuple(host)) == ((2.5, "a1"), ("a1", None, 1, 1))
    assert ended == ["done", "failed", "unsupported"]


def test_who_might_read_the_views_may_read_them_still(empty_postgres: str) -> None:
    engine, role = sa.create_engine(database.parse(empty_postgres)), f"reader_{uuid.uuid4().hex}"
    with engine.begin() as connection:
        runner.upgrade(connection, "0004")
        connection.exec_driver_sql(f"CREATE ROLE {role}")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        runner.upgrade(connection)
        for view in sql_views.VIEWS:
            may = sa.func.has_table_privilege(role, view, "SELECT")
            assert connection.execute(sa.select(may)).scalar_one(), view
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
    engine.dispose()


def test_what_was_waiting_goes_on(old: str) -> None:
    database.upgrade(old)
    with Database.open(old) as db:
        hosts.register(db, name="a1", platform=PLATFORM)
        queue = fleet.Queues()
        assert outbox.reconcile(db, queue, older_than=outbox.LOST_S) == 1
        assert queue.contents == {f"platform.{PLATFORM.key}": ["j1"]}
        assert lifecycle.finish(db, fleet.claim(db, "j1"), builders.latency())
        assert lifecycle.adopt(db, "a1") == ["j2"]
        assert lifecycle.finish(db, fleet.claim(db, "j2"), builders.latency())
        assert lifecycle.retry(db, ["j3", "j4"]) == 2
        assert leadership.hold(db, "a1", every=15.0) is not None


def test_the_same_study_submitted_again_finds_its_jobs(old: str) -> None:
    database.upgrade(old)
    with Database.open(old) as db:
        again = [fleet.planned("A", replica=n) for n in range(len(STATES) + 1)]
        study = lifecycle.StudyText(name="study", text="name: study", document={"fields": 1})
        submitted = lifecycle.submit(db, study=study, jobs=again)
        assert (len(submitted.new), submitted.existing) == (1, len(STATES))


def test_an_upgrade_that_fails_leaves_the_old_database_whole(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = runner.upgrade

    def broken(connection: sa.Connection, revision: str = "head") -> None:
        upgrade(connection, revision)
        raise RuntimeError("the power failed")

    monkeypatch.setattr(runner, "upgrade", broken)
    with pytest.raises(RuntimeError):
        database.upgrade(old)
    monkeypatch.undo()
    assert database.check(old).current == "0001"
    assert database.upgrade(old).fits
    with Database.open(old) as db:
        assert len(queries.jobs(db)) == len(STATES)
