"""The parent of a fleet's worker: what it does for its host, and that nothing ends it but a person."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import database, errors, queries, settings
from tests import services
from tests.integration.worker.fleet import LONG, Fleet
from worker import launcher

TEMPLATE = "quantfleet_template"


@pytest.fixture(scope="module")
def postgres() -> Iterator[services.Postgres]:
    with services.folder() as folder:
        server = services.Postgres(folder=folder / "postgres")
        with services.running(server):
            database.upgrade(server.make_database(TEMPLATE))
            yield server


@pytest.fixture
def redis() -> Iterator[services.Redis]:
    with services.folder() as folder:
        server = services.Redis(folder=folder / "redis")
        with services.running(server):
            yield server


@pytest.fixture
def fleet(tmp_path: Path, postgres: services.Postgres, redis: services.Redis) -> Iterator[Fleet]:
    name = f"t_{uuid.uuid4().hex}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    made = Fleet(folder=tmp_path, address=postgres.address_of(name), redis=redis)
    yield made
    made.end()


@pytest.mark.slow
def test_a_worker_asked_once_to_stop_finishes_its_job_and_says_goodbye(fleet: Fleet) -> None:
    host = fleet.host(QUANTFLEET_LABELS="region=eu").start().serving()
    fleet.submit(2)
    fleet.wait_running()
    host.ask(signal.SIGTERM)

    assert host.ended() == 0
    assert sorted(job.state for job in fleet.jobs()) == ["done", "queued"]
    assert fleet.standing() == {"one": "stopped"}
    with fleet.database() as db:
        assert queries.hosts(db)[0].labels == {"region": "eu"}


@pytest.mark.slow
def test_a_worker_asked_twice_to_stop_gives_its_job_back_in_mid_measurement(fleet: Fleet) -> None:
    host = fleet.host().start().serving()
    fleet.submit(budget=LONG)
    fleet.wait_measuring()
    host.ask(signal.SIGTERM, signal.SIGTERM)

    assert host.ended(20) == 0
    _given_back(fleet)


@pytest.mark.slow
def test_ctrl_c_gives_the_job_back_at_once(fleet: Fleet) -> None:
    host = fleet.host().start().serving()
    fleet.submit(budget=LONG)
    fleet.wait_running()
    host.ask(signal.SIGINT)  # SIGQUIT: faults/test_signals.py

    assert host.ended(20) == 0
    _given_back(fleet)


@pytest.mark.slow
def test_a_second_worker_of_a_host_is_refused_and_names_of_one_machine_take_turns(fleet: Fleet) -> None:
    hosts = [fleet.host(name).start().serving() for name in ("left", "right")]
    second = fleet.host("left").start()
    assert second.ended() == 2
    assert hosts[0].process is not None
    assert f"process {hosts[0].process.pid})" in second.log

    for host in hosts:
        fleet.submit(host=host.name)
    fleet.wait_done()

    with fleet.database() as db:
        tries = [one for job in queries.jobs(db) for one in queries.attempts(db, job.id)]
    former, latter = sorted(tries, key=lambda one: one.started_at)
    assert {former.host, latter.host} == {"left", "right"}
    assert former.ended_at is not None
    assert former.ended_at <= latter.started_at


@pytest.mark.slow
def test_a_result_survives_a_database_that_leaves_and_a_worker_that_stops(
    tmp_path: Path, redis: services.Redis
) -> None:
    with services.folder() as folder:
        server = services.Postgres(folder=folder / "postgres")
        with services.running(server):
            database.upgrade(server.address)
            fleet = Fleet(folder=tmp_path, address=server.address, redis=redis)
            host = fleet.host().start().serving()
            fleet.submit()
            fleet.wait_running()
            server.stop()
            services.wait_for(lambda: bool(host.spooled), 60, f"a spooled result:\n{host.log}")
            began = time.monotonic()
            host.ask(signal.SIGTERM)
            assert host.ended() == 0
            assert time.monotonic() - began < 20

            host.start()
            time.sleep(1)
            server.start()
            fleet.wait_done()
            services.wait_for(lambda: not host.spooled, 10, "an empty spool")
            assert fleet.tries()[0][-1] == "done"
            fleet.end()


@pytest.mark.slow
def test_a_launcher_waits_for_database_and_broker_and_is_patient_with_a_worker_that_dies(tmp_path: Path) -> None:
    with services.folder() as folder:
        postgres = services.Postgres(folder=folder / "postgres")
        redis = services.Redis(folder=folder / "redis")
        with services.running(postgres):  # only for its schema
            database.upgrade(postgres.address)
            postgres.stop()
            fleet = Fleet(folder=tmp_path, address=postgres.address, redis=redis)
            host = fleet.host().start()
            host.says("does not answer")
            time.sleep(1)
            postgres.start()
            host.says("broker")
            with services.running(redis):
                host.serving()
                assert host.log.count("trying again") == 2, "one line a change, not one a try"

                fleet.submit()
                fleet.wait_running()
                host.worker().kill()
                host.serving(2)
                assert "SIGKILL" in host.log
                fleet.wait_done()
                assert fleet.tries() == [["released", "done"]], "taken back at once, not when its lease ran out"
                fleet.end()


def test_a_fleet_wants_a_server_for_its_database_and_a_broker(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with pytest.raises(errors.SettingsError, match="SQLite serves one machine"):
        launcher.launch(settings.load(database=f"sqlite:///{tmp_path}/q.db", broker="redis://x", lock=lock))
    with pytest.raises(errors.SettingsError, match="QUANTFLEET_BROKER is not set"):
        launcher.launch(settings.load(database="postgresql://me@127.0.0.1/q", broker="", lock=lock))


def test_what_only_a_person_can_mend_ends_a_launcher_at_its_start(fleet: Fleet, postgres: services.Postgres) -> None:
    config = settings.load(database=fleet.address, broker=fleet.redis.address, lock=fleet.folder / "lock", host="x")
    wrong = {
        "refuses the password": {"database": fleet.address.replace(postgres.password, "wrong")},
        "db upgrade": {"database": postgres.address},
        "broker .* refuses the password": {"broker": fleet.redis.address.replace(fleet.redis.password, "wrong")},
    }
    for message, change in wrong.items():
        with pytest.raises(errors.UserError, match=message) as caught:
            launcher.launch(config.model_copy(update=change))
        assert services.PASSWORD not in str(caught.value)


def _given_back(fleet: Fleet) -> None:
    (job,) = fleet.jobs()
    assert (job.state, job.crashes, job.errors) == ("queued", 0, 0)
    assert fleet.tries() == [["released"]]
