"""`quantfleet hardware` over a database: what is planned for a fleet, and what is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from scheduler import local
from scheduler.cli import hardware, results
from storage import errors, hosts, lifecycle, queries, records
from storage.database import Database
from tests import builders
from tests.integration.scheduler.conftest import Bench

EPYC, XEON = builders.platform("AMD EPYC 9B14"), builders.platform("Intel(R) Xeon(R) CPU E5-2680 v3")

app = typer.Typer()
app.add_typer(hardware.app, name="hardware")
app.command()(results.compare)
app.command()(results.results)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def calibrated(db: Database, platform: records.Platform = EPYC, host: str = "here") -> None:
    from scheduler import calibration

    hosts.register(db, name=host, platform=platform)
    (job_id,) = lifecycle.add(db, calibration.jobs([platform], lambda _: {}))
    claim = lifecycle.claim(db, job_id, host=host, platform_key=platform.key, lease=60)
    assert claim is not None
    lifecycle.finish(db, claim, builders.measured_ceilings())


def measured(db: Database, work: Mapping[str, Any]) -> None:
    """A latency job whose both sides have that work to do."""
    jobs = [builders.planned(builders.case(), EPYC.key)]
    (job_id,) = lifecycle.submit(db, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=jobs).new
    claim = lifecycle.claim(db, job_id, host="here", platform_key=EPYC.key, lease=60)
    assert claim is not None
    sides = {
        "strategy": builders.side(facts={"work": work}),
        "baseline": builders.side("torch/fp32", 0.010, facts={"work": {**work, "arithmetic": "fp32"}}),
    }
    lifecycle.finish(db, claim, builders.latency(flags=(), **sides), [])


WORK = {"arithmetic": "int8", "ops": 1e8, "bytes": 1e6, "ops_mean": 1e8, "bytes_mean": 1e6}


def test_results_and_comparisons_say_what_share_of_the_limit_they_reach(sqlite: str) -> None:
    with Database.open(sqlite) as db:
        calibrated(db)
        measured(db, WORK)

    (row,) = json.loads(call("results", "--database", sqlite, "--json").stdout)["results"]
    (compared,) = json.loads(call("compare", "--database", sqlite, "--json").stdout)["comparisons"]
    table = call("compare", "--database", sqlite).stdout

    for found in (row, compared):  # 0.1 GOP at 200 GOP/s against 4 ms, at 100 GFLOP/s against 10 ms
        assert found["floor_s"] == pytest.approx(0.0005)
        assert found["limit_share"] == pytest.approx(0.125)
        assert found["bound"] == "compute"
        assert found["baseline_limit_share"] == pytest.approx(0.1)
    assert "12 (10) %" in table and "of limit" in table
    assert "12 %" in call("results", "--database", sqlite).stdout
    assert max(map(len, table.splitlines())) <= 80


def test_without_ceilings_there_is_no_column_and_no_number(sqlite: str) -> None:
    with Database.open(sqlite) as db:
        hosts.register(db, name="here", platform=EPYC)
        measured(db, WORK)

    assert "of limit" not in call("compare", "--database", sqlite).stdout
    (row,) = json.loads(call("results", "--database", sqlite, "--json").stdout)["results"]
    assert (row["floor_s"], row["limit_share"], row["bound"]) == (None, None, None)


def test_ceilings_are_no_result_of_a_study(sqlite: str) -> None:
    with Database.open(sqlite) as db:
        calibrated(db)

    assert json.loads(call("results", "--database", sqlite, "--json").stdout)["results"] == []
    assert "holds no results yet" in call("results", "--database", sqlite).stdout


def test_list_and_show_print_every_hardware_in_80_columns(sqlite: str) -> None:
    with Database.open(sqlite) as db:
        calibrated(db)
        hosts.register(db, name="there", platform=XEON)

    listed = call("hardware", "list", "--database", sqlite).stdout
    shown = call("hardware", "show", "epyc", "--database", sqlite).stdout

    for text in (EPYC.hardware_key[:8], "100 / 200", "10.0 / 15.0", "32 MiB", "not measured"):
        assert text in listed
    for text in ("100 (90.0)", "400 (360)", "256 MiB", "resolution 20 ns", "1.2 %", "write-allocate"):
        assert text in shown
    assert XEON.hardware.cpu not in shown
    assert max(map(len, (listed + shown).splitlines())) <= 80


def test_json_has_every_number_and_null_where_nothing_was_measured(sqlite: str) -> None:
    with Database.open(sqlite) as db:
        calibrated(db)
        hosts.register(db, name="there", platform=XEON)

    found = json.loads(call("hardware", "list", "--database", sqlite, "--json").stdout)["hardware"]

    by_key = {one["hardware_key"]: one for one in found}
    assert by_key[XEON.hardware_key]["ceilings"] is None
    assert by_key[EPYC.hardware_key]["ceilings"]["products"][0]["ops_per_s"] == 100e9
    assert by_key[EPYC.hardware_key]["state"] == "done"


def test_a_hardware_that_does_not_exist_is_answered_with_the_nearest(sqlite: str) -> None:
    with Database.open(sqlite) as db:
        calibrated(db)

    ended = call("hardware", "show", EPYC.hardware_key[:-1] + "x", "--database", sqlite)

    assert isinstance(ended.exception, errors.QueryError)
    assert EPYC.hardware_key in str(ended.exception)


def test_without_the_worker_s_libraries_calibrate_says_what_to_install(
    sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = records.Environment(python="3.11", packages={}, kernel="6.1")
    from storage import keys

    monkeypatch.setattr(local, "probe", lambda: keys.platform(EPYC.hardware, bare))

    ended = call("hardware", "calibrate", "--database", sqlite)

    assert isinstance(ended.exception, errors.UserError)
    assert "pip install 'quantfleet[worker]'" in str(ended.exception)
    with Database.open(sqlite) as db:
        assert queries.jobs(db) == []


def test_a_fleet_s_calibration_is_one_job_for_each_platform_once(fleet: Bench) -> None:
    fleet.join("a", EPYC)
    fleet.join("b", EPYC)
    fleet.join("c", XEON)

    first = fleet.good("hardware", "calibrate", "--json").document

    assert {job.platform_key for job in fleet.jobs()} == {EPYC.key, XEON.key}
    assert sum(fleet.queues().values()) == 2
    assert {one["state"] for one in first["hardware"]} == {"queued"}
    assert "0 new jobs, 2 there already" in fleet.good("hardware", "calibrate").err
    fleet.good("hardware", "calibrate", "EPYC", "--fresh")
    assert sorted((job.platform_key == EPYC.key, job.replica) for job in fleet.jobs()) == [
        (False, 0),
        (True, 0),
        (True, 1),
    ]


def test_a_fleet_without_hosts_has_nobody_to_calibrate(fleet: Bench) -> None:
    ended = fleet.call("hardware", "calibrate")

    assert ended.code == 2
    assert "quantfleet worker" in ended.err


def test_a_hardware_that_no_host_has_any_more_is_not_planned_for(fleet: Bench) -> None:
    fleet.join("a", XEON)
    fleet.join("a", EPYC)

    ended = fleet.call("hardware", "calibrate", XEON.hardware_key)

    assert ended.code == 2
    assert "no host of" in ended.err
    assert fleet.jobs() == []


def test_who_waits_for_a_worker_that_is_stopped_is_told(fleet: Bench) -> None:
    fleet.join("a", EPYC)
    hosts.goodbye(fleet.db, "a")

    assert "a is stopped" in fleet.good("hardware", "calibrate").err
