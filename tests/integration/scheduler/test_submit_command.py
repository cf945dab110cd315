"""`quantfleet submit`, `plan` and `backfill` against real Postgres and Redis, without any worker."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from storage import broker, hosts, outbox, queries, records
from storage.database import Database
from tests import builders, services
from tests.integration.scheduler.conftest import ONNX, STUDY, Bench, queue_names
from tests.unit.scheduler.study_files import model_folder


def test_each_case_is_planned_once_on_each_platform_and_every_job_is_woken(fleet: Bench) -> None:
    shared, other = fleet.join("a"), fleet.join("b", builders.platform("Intel Xeon", **ONNX))
    fleet.join("a2", shared)

    ended = fleet.good("submit", fleet.study())

    jobs = fleet.jobs()
    assert Counter(job.platform_key for job in jobs) == {shared.key: 6, other.key: 6}
    assert fleet.queues() == {f"platform.{shared.key}": 6, f"platform.{other.key}": 6}
    assert all(job.published_at is not None for job in jobs)
    assert "demo: 12 new jobs, 0 there already, 12 wake-ups sent" in ended.out
    assert "cannot run: onnxruntime/fp32 needs onnxruntime" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


def test_submitting_again_plans_nothing_new_and_wakes_nobody(fleet: Bench) -> None:
    fleet.join("a")
    fleet.good("submit", fleet.study())
    before = fleet.jobs()

    again = fleet.good("submit", fleet.study(), "--json").document

    assert (again["new"], again["existing"], again["sent"]) == (0, 6, 0)
    assert fleet.jobs() == before
    assert sum(fleet.queues().values()) == 6


def test_the_json_tells_each_target_with_what_cannot_run_there(fleet: Bench) -> None:
    fleet.join("a", region="eu")
    fleet.join("b", builders.platform("Intel Xeon"), region="us")

    document = fleet.good("submit", fleet.study(), "--where", "label.region=eu", "--json").document

    assert document["schema"] == 1
    (target,) = document["targets"]
    assert (target["host"], target["hosts"], target["jobs"], target["new"], target["cannot_run"]) == (
        "a",
        ["a"],
        6,
        4,
        2,
    )
    assert "pip install 'quantfleet[onnxruntime]'" in target["reasons"][0]
    assert document["estimate_s"] == pytest.approx(4 * 66.0)
    assert document["new"] == 6


@pytest.mark.parametrize(
    ("arguments", "queues"),
    [
        (["--target", "every-host"], {"host.a", "host.a2"}),
        (["--target", "any"], {"any"}),
        (["--where", "host=a2"], {"host.a2"}),
    ],
)
def test_wake_ups_go_where_the_targets_are(fleet: Bench, arguments: list[str], queues: set[str]) -> None:
    fleet.join("a2", fleet.join("a"))

    fleet.good("submit", fleet.study(), *arguments)

    assert set(fleet.queues()) == queue_names(fleet.jobs()) == queues
    assert sum(fleet.queues().values()) == 6 * len(queues)


def test_a_dry_run_and_a_plan_store_nothing(fleet: Bench) -> None:
    fleet.join("a")

    dry = fleet.good("submit", fleet.study(), "--dry-run", "--json").document
    planned = fleet.good("plan", fleet.study(), "--json").document
    table = fleet.good("plan", fleet.study(), "--target", "every-host").out

    assert dry["counts"] == planned["counts"] == {"planned": 4, "impossible": 2}
    assert {entry["host"] for entry in planned["entries"]} == {None}
    assert "4 planned, 2 impossible" in table
    assert (fleet.jobs(), queries.studies(fleet.db), fleet.queues()) == ([], [], {})


def test_fresh_measures_again_under_the_next_number_fleet_wide(fleet: Bench) -> None:
    fleet.join("a")
    fleet.good("submit", fleet.study())
    fleet.join("b", builders.platform("Intel Xeon", **ONNX))

    fleet.good("submit", fleet.study(), "--fresh")
    fleet.good("submit", fleet.study(), "--fresh")

    here = builders.platform().key
    found = Counter((job.platform_key == here, job.strategy, job.replica) for job in fleet.jobs() if job.threads == 1)
    fp32 = {key: count for key, count in found.items() if key[1] == "torch/fp32"}
    assert fp32 == {(True, "torch/fp32", n): 1 for n in range(3)} | {(False, "torch/fp32", n): 1 for n in range(2)}
    assert found[True, "onnxruntime/fp32", 0] == 1
    assert found[True, "onnxruntime/fp32", 1] == 0, "what cannot run is not asked for again"


def test_retry_takes_up_what_ended_without_a_result(fleet: Bench) -> None:
    fleet.join("a")
    fleet.good("submit", fleet.study())
    first, second, *_ = fleet.jobs()
    fleet.work(first, "a", failure=records.Failure(reason="error", message="broken"))
    fleet.work(second, "a")

    document = fleet.good("submit", fleet.study(), "--retry", "--json").document

    assert (document["new"], document["retried"], document["sent"]) == (0, 1, 1)
    assert {job.id: job.state for job in fleet.jobs()}[first.id] == "queued"
    assert {job.id: job.state for job in fleet.jobs()}[second.id] == "done"


def test_a_host_that_joins_gets_what_it_lacks_without_the_studys_files(fleet: Bench) -> None:
    fleet.join("a")
    path = fleet.study()
    fleet.good("submit", path)
    before = {job.id for job in fleet.jobs()}
    Path(path).unlink()
    submitted = [view.submitted_at for view in queries.studies(fleet.db)]
    nothing = fleet.good("backfill", "demo", "--json").document
    assert [view.submitted_at for view in queries.studies(fleet.db)] == submitted, "what lacks nothing is not touched"
    joined = fleet.join("b", builders.platform("Intel Xeon"))

    ended = fleet.good("backfill", "demo", "--json").document

    added = [job for job in fleet.jobs() if job.id not in before]
    assert nothing["studies"][0]["new"] == nothing["sent"] == 0
    assert (ended["studies"][0]["new"], ended["sent"]) == (6, 6)
    assert {job.platform_key for job in added} == {joined.key}
    assert {name for job in added for name in job.studies} == {"demo"}
    assert fleet.queues()[f"platform.{joined.key}"] == 6
    assert "0 new jobs" in fleet.good("backfill", "--all").out


def test_backfill_keeps_to_the_targets_that_were_asked_for_last(fleet: Bench) -> None:
    fleet.join("a", region="eu")
    fleet.good("submit", fleet.study(), "--where", "label.region=eu")
    fleet.join("b", region="us")
    fleet.join("c", region="eu")

    fleet.good("backfill", "demo")

    assert Counter(job.wanted_host for job in fleet.jobs()) == {"a": 6, "c": 6}


def test_backfill_of_all_goes_on_past_a_study_that_no_host_fits_any_more(fleet: Bench) -> None:
    fleet.join("a", region="eu")
    fleet.join("b", region="us")
    fleet.good("submit", fleet.study(), "--where", "label.region=us")
    fleet.good("submit", fleet.study(STUDY.replace("demo", "second"), "second.yaml"))
    hosts.forget(fleet.db, "b")
    fleet.join("d", builders.platform("Intel Xeon"))

    ended = fleet.good("backfill", "--all")

    assert "second (id" in ended.out
    assert "): 6 new jobs" in ended.out
    assert "note: demo: --where label.region: no host has 'us'" in " ".join(ended.err.split())
    alone = fleet.call("backfill", "demo")
    assert alone.code == 2


def test_without_a_broker_the_jobs_are_stored_and_a_workers_look_publishes_them(fleet: Bench) -> None:
    fleet.join("a")

    ended = fleet.good("submit", fleet.study(), QUANTFLEET_BROKER="")

    assert "publish them within 15 s (no broker is set here)" in ended.err
    assert fleet.queues() == {}
    _tick(fleet)
    assert sum(fleet.queues().values()) == len(fleet.jobs()) == 6


def test_a_submit_that_is_killed_between_commit_and_publish_loses_nothing(fleet: Bench) -> None:
    fleet.join("a")
    path = fleet.study()
    killed = (
        "import os, signal\nfrom storage import outbox\n"
        "outbox.publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from scheduler.cli import main\nmain.run()"
    )
    with fleet.start("submit", path, code=killed) as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert (len(fleet.jobs("queued")), fleet.queues()) == (6, {})

    _tick(fleet)

    assert sum(fleet.queues().values()) == 6


def test_a_submit_that_is_killed_before_the_commit_leaves_nothing_and_is_just_run_again(fleet: Bench) -> None:
    fleet.join("a")
    path = fleet.study()
    killed = (
        "import os, signal\nfrom storage import submission\n"
        "submission._link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from scheduler.cli import main\nmain.run()"
    )
    with fleet.start("submit", path, code=killed) as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert fleet.jobs() == []
    assert queries.studies(fleet.db) == []

    assert fleet.good("submit", path, "--json").document["new"] == 6


def test_a_broker_that_is_lost_after_the_commit_is_a_warning(fleet: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.join("a")
    monkeypatch.setattr(broker.Publisher, "ping", lambda self: None)

    ended = fleet.good("submit", fleet.study(), QUANTFLEET_BROKER=f"redis://127.0.0.1:{services.free_port()}/0")

    assert "the jobs are stored; the fleet's workers publish them within 15 s (broker redis://" in ended.err
    assert len(fleet.jobs("queued")) == 6
    _tick(fleet)
    assert sum(fleet.queues().values()) == 6


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("redis://:wrong-s3cret@{place}", 2, "refuses the password"),
        ("redis://{place}", 2, "wants a password"),
        ("redis://127.0.0.1:{closed}/0", 1, "does not answer"),
        ("rediss://:{password}@{place}", 2, "does not speak TLS"),
        ("nonsense://x", 2, "expected redis://"),
    ],
)
def test_a_wrong_broker_is_found_before_anything_is_stored(fleet: Bench, address: str, code: int, said: str) -> None:
    fleet.join("a")
    place = fleet.broker.rpartition("@")[2]
    wrong = address.format(place=place, closed=services.free_port(), password=fleet.redis.password)

    ended = fleet.call("submit", fleet.study(), QUANTFLEET_BROKER=wrong)

    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert "wrong-s3cret" not in ended.err
    assert (fleet.jobs(), queries.studies(fleet.db)) == ([], [])


@pytest.mark.parametrize("command", [["submit", "study.yaml"], ["status"], ["hosts"], ["backfill", "--all"]])
@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("postgresql://postgres:wrong-s3cret@{place}", 2, "refuses the password"),
        ("postgresql://postgres@127.0.0.1:{closed}/x", 1, "does not answer"),
        ("postgresql://postgres:{password}@{server}/nowhere", 2, "does not exist on its server"),
        ("postgresql://a:wrong-s3cret@host:nonsense/x", 2, "cannot be read"),
    ],
)
def test_a_wrong_database_is_one_message_without_its_password(
    fleet: Bench, command: list[str], address: str, code: int, said: str
) -> None:
    fleet.study()
    place = fleet.database.rpartition("@")[2]
    wrong = address.format(
        place=place, server=place.partition("/")[0], closed=services.free_port(), password=fleet.redis.password
    )

    ended = fleet.call(*command, QUANTFLEET_DATABASE=wrong)

    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert "wrong-s3cret" not in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "install the newer quantfleet"),
        ("UPDATE alembic_version SET version_num = '0001'", "run `quantfleet db upgrade`"),
        ("DROP TABLE alembic_version", "run `quantfleet db upgrade`"),
    ],
)
def test_a_schema_of_another_version_is_refused_with_what_to_do(fleet: Bench, change: str, said: str) -> None:
    fleet.join("a")
    with fleet.db.transaction() as connection:
        connection.exec_driver_sql(change)

    ended = fleet.call("submit", fleet.study())

    assert (ended.code, said in ended.err) == (2, True), ended.err


@pytest.mark.parametrize("command", [["submit", "study.yaml"], ["backfill", "--all"], ["worker"]])
def test_sqlite_is_refused_for_a_fleet_with_the_reason(fleet: Bench, command: list[str]) -> None:
    fleet.study()
    ended = fleet.call(*command, QUANTFLEET_DATABASE="sqlite:///mine.db")
    assert ended.code == 2
    assert "a fleet needs Postgres: SQLite (sqlite:///mine.db) is a file on one machine" in ended.err
    assert not (fleet.folder / "mine.db").exists()


@pytest.mark.parametrize("option", ["--database", "--broker"])
def test_an_address_with_a_password_is_refused_on_the_command_line(fleet: Bench, option: str) -> None:
    command = "worker" if option == "--broker" else "submit"
    ended = fleet.call(command, *([fleet.study()] if command == "submit" else []), option, fleet.broker)
    assert ended.code == 2
    assert f"{option}: this address holds a password" in ended.err


def test_a_plan_for_this_machine_has_no_hosts_to_choose_among(fleet: Bench) -> None:
    ended = fleet.call("plan", fleet.study(), "--where", "isa=avx2", QUANTFLEET_DATABASE="sqlite:///mine.db")
    assert ended.code == 2
    assert "--target and --where choose among a fleet's hosts" in ended.err
    here = fleet.good("plan", fleet.study(), "--json", QUANTFLEET_DATABASE="sqlite:///mine.db").document
    assert len(here["entries"]) == 6
    assert not (fleet.folder / "mine.db").exists()


def test_a_selector_that_nothing_fits_stores_nothing_and_shows_who_comes_nearest(fleet: Bench) -> None:
    fleet.join("a", region="eu")
    fleet.join("b", builders.platform("Intel Xeon"), region="us")
    text = STUDY + "targets:\n  cpu: '*EPYC*'\n  label.region: us\n"

    ended = fleet.call("submit", fleet.study(text))

    assert ended.code == 2
    assert ended.err.splitlines()[0].endswith("study.yaml:7: targets: no host fits all of this")
    assert ended.err.splitlines()[2:] == ["  a has label.region eu", "  b has cpu Intel Xeon"]
    assert (fleet.jobs(), queries.studies(fleet.db), fleet.queues()) == ([], [], {})


def test_a_fleet_without_hosts_says_how_to_start_one(fleet: Bench) -> None:
    ended = fleet.call("submit", fleet.study())
    assert ended.code == 2
    assert "no host is registered: start one with `quantfleet worker`" in ended.err


def test_an_absolute_model_path_may_be_the_hosts_own_and_a_relative_one_may_not(fleet: Bench) -> None:
    fleet.join("a")
    text = STUDY.replace("{random: bert}", "{path: /surely/nowhere}")

    ended = fleet.good("submit", fleet.study(text))

    assert "/surely/nowhere is not on this machine: each host takes its own" in ended.err
    with fleet.db.read() as connection:
        documents = connection.exec_driver_sql("SELECT case_document FROM job").scalars().all()
    assert {(one["model"]["location"], one["model"]["digest"]) for one in documents} == {("/surely/nowhere", None)}
    relative = fleet.call("submit", fleet.study(text), "--model", "r=./nowhere")
    assert (relative.code, "--model r ./nowhere: there is no such path here" in relative.err) == (2, True)


def test_a_model_that_is_here_is_known_by_its_content_on_every_host(fleet: Bench) -> None:
    fleet.join("a")
    model_folder(fleet.folder / "m")

    fleet.good("submit", fleet.study(STUDY.replace("{random: bert}", "{path: ./m}")))

    with Database.open(fleet.database) as db, db.read() as connection:
        (digest,) = set(connection.exec_driver_sql("SELECT digest FROM model").scalars())
    assert len(digest) >= 16


def test_a_study_with_errors_stores_nothing_and_names_them_all(fleet: Bench) -> None:
    fleet.join("a")
    ended = fleet.call("submit", fleet.study(STUDY + "targets: every-hots\nprecision: 0\n"))
    assert ended.code == 2
    assert [line.split(": ")[1] for line in ended.err.removeprefix("error: ").splitlines()] == ["targets", "precision"]
    assert queries.studies(fleet.db) == []


def _tick(fleet: Bench) -> None:
    """What every worker's launcher does each 15 s."""
    publisher = broker.Publisher(fleet.config())
    try:
        assert outbox.tick(fleet.db, publisher, "a worker", fleet.config())
    finally:
        publisher.close()
