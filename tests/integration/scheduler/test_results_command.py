from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from scheduler.cli import results
from storage import errors, hosts, lifecycle, records
from storage.database import Database
from tests import builders, fleets

app = typer.Typer()
app.command()(results.compare)
app.command()(results.results)

INT8, BASELINE = "torch/int8-dynamic", "torch/fp32"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def submit(db: Database, *cases: records.Case) -> tuple[str, ...]:
    platform = builders.platform()
    hosts.register(db, name="here", platform=platform)
    jobs = [builders.planned(case, platform.key) for case in cases]
    return lifecycle.submit(db, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=jobs).new


def claim(db: Database, job_id: str) -> records.Claim:
    held = lifecycle.claim(db, job_id, host="here", platform_key=builders.platform().key, lease=60)
    assert held is not None
    return held


@pytest.fixture
def measured(sqlite: str) -> str:
    """Address of a database with a gain, two accuracies and a case that cannot run."""
    cases = (
        builders.case(),
        builders.case("accuracy"),
        builders.case("accuracy", strategy=BASELINE),
        builders.case(strategy="onnxruntime/fp32"),
    )
    with Database.open(sqlite) as db:
        latency, own, other, impossible = (claim(db, job_id) for job_id in submit(db, *cases))
        lifecycle.finish(db, latency, builders.latency(flags=()), [])
        right = [1] * 100
        lifecycle.finish(db, own, builders.accuracy([0] * 9 + [1] * 91, right), [])
        lifecycle.finish(db, other, builders.accuracy(right, right), [])
        lifecycle.fail(db, impossible, records.Failure(reason="unsupported", message="onnxruntime is not installed"))
    return sqlite


def test_compare_prints_gain_baseline_accuracy_and_what_could_not_run(measured: str) -> None:
    result = call("compare", "--database", measured)
    assert result.exit_code == 0, result.output
    assert "×2.50 [2.40, 2.60]* " in result.output
    assert "4.00 (10.0) ms" in result.output
    assert "loses 9.0 points, p < 0.01" in result.output
    assert "onnxruntime/fp32: onnxruntime is not installed" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_disturbed_results_are_left_out_and_the_person_is_told_how_to_see_them(sqlite: str) -> None:
    with Database.open(sqlite) as db:
        (job_id,) = submit(db, builders.case())
        lifecycle.finish(db, claim(db, job_id), builders.latency(flags=("disturbed",)), [])

    hidden = call("compare", "--database", sqlite).output
    shown = call("compare", "--database", sqlite, "--include-disturbed").output

    assert "1 disturbed result is left out" in hidden
    assert "×2.50" not in hidden
    assert "×2.50" in shown
    assert "left out." not in shown


def test_compare_as_json_and_csv_says_the_same(measured: str) -> None:
    document = json.loads(call("compare", "--database", measured, "--json").output)
    rows = list(csv.DictReader(io.StringIO(call("compare", "--database", measured, "--csv").output)))
    (found,) = (row for row in document["comparisons"] if row["strategy"] == INT8)
    assert (found["gain"], found["latency_p50_s"], found["size_ratio"], found["hosts"]) == (2.5, 0.004, 1.0, ["here"])
    assert (found["accuracy"], found["baseline_accuracy"], found["accuracy_rows"]) == (0.91, 1.0, 100)
    assert found["withheld"] == []  # p99 is, but a comparison has none
    assert [row["strategy"] for row in rows] == [row["strategy"] for row in document["comparisons"]]
    assert [row["gain"] for row in rows if row["strategy"] == INT8] == ["2.5"]


def test_a_strategy_filter_keeps_the_comparison_with_a_baseline_that_it_hides(measured: str) -> None:
    document = json.loads(call("compare", "--database", measured, "--strategy", "torch/int8*", "--json").output)
    assert [row["verdict"] for row in document["comparisons"]] == ["loses 9.0 points, p < 0.01"]


def test_results_lists_every_finished_job(measured: str) -> None:
    result = call("results", "--database", measured)
    assert result.exit_code == 0, result.output
    assert result.output.count(" done") == 3
    assert "unsupported" in result.output
    only = json.loads(
        call("results", "--database", measured, "--kind", "accuracy", "--sort", "accuracy", "--json").output
    )
    assert [row["accuracy"] for row in only["results"]] == [1.0, 0.91]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--strategy", "torch/int8-dynamik"), "did you mean 'torch/int8-dynamic'?"),
        (("--study", "dmeo"), "--study: nothing is called 'dmeo'; did you mean 'demo'? (there is demo)"),
        (("--kind", "latensy"), "did you mean 'latency'?"),
        (("--sort", "acuracy"), "did you mean 'accuracy'?"),
        (("--json", "--csv"), "exclude one another"),
    ],
)
def test_an_option_that_fits_nothing_says_what_would(measured: str, arguments: tuple[str, ...], message: str) -> None:
    for command in ("compare", "results"):
        error = call(command, "--database", measured, *arguments).exception
        assert isinstance(error, errors.QueryError)
        assert message in str(error)


def test_a_database_without_results_says_what_to_do(sqlite: str) -> None:
    empty = call("compare", "--database", sqlite)
    assert (empty.exit_code, "`quantfleet run STUDY` measures a study" in empty.output) == (0, True)
    with Database.open(sqlite) as db:
        submit(db, builders.case())
    assert "1 of 1 jobs wait or run" in call("results", "--database", sqlite).output
    assert json.loads(call("compare", "--database", sqlite, "--json").output) == {
        "schema": 1,
        "comparisons": [],
        "across": [],
        "platforms": [],
        "differences": [],
    }


def measure(db: Database, host: str, platform: records.Platform, gain: float, case: records.Case) -> None:
    hosts.register(db, name=host, platform=platform)
    jobs = [builders.planned(case, platform.key)]
    (job_id,) = lifecycle.submit(db, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=jobs).new
    held = lifecycle.claim(db, job_id, host=host, platform_key=platform.key, lease=60)
    assert held is not None
    interval = records.Interval(value=gain, low=gain * 0.9, high=gain * 1.1)
    lifecycle.finish(db, held, builders.latency(gain=interval, flags=()), [])


@pytest.fixture
def fleet(address: str) -> str:
    """Address of a database in which two machines measured one case, each with its own sign; each kind of database."""
    with Database.open(address) as db:
        measure(db, "big", fleets.EPYC, 1.4, builders.case())
        measure(db, "old", fleets.OLD_TORCH, 0.5, builders.case())
    return address


def test_several_machines_stand_side_by_side_and_details_come_when_asked_for(fleet: str) -> None:
    brief = call("compare", "--database", fleet)
    assert brief.exit_code == 0, brief.output
    for part in ("×0.50–×1.40 ±", "EPYC 9B14", "torch: 2.13.0 on EPYC 9B14; 2.12.1 on Xeon E5-2686 v4", "host old"):
        assert part in brief.output
    assert "4.00 (10.0) ms" not in brief.output
    assert "`--details` shows latencies" in brief.output
    assert max(map(len, brief.output.splitlines())) <= 80
    full = call("compare", "--database", fleet, "--details").output
    assert "×0.50–×1.40 ±" in full
    assert full.count("4.00 (10.0) ms") == 2


@pytest.mark.parametrize("wanted", ["Xeon E5-2686", "old", fleets.OLD_TORCH.environment_key[:6]])
def test_one_machine_alone_is_shown_with_its_latencies(fleet: str, wanted: str) -> None:
    output = call("compare", "--database", fleet, "--hardware", wanted).output
    assert "4.00 (10.0) ms" in output
    assert "EPYC" not in output
    assert "--details" not in output


def test_json_has_machines_one_by_one_and_side_by_side(fleet: str) -> None:
    document = json.loads(call("compare", "--database", fleet, "--json").output)
    assert sorted(row["gain"] for row in document["comparisons"]) == [0.5, 1.4]
    (matrix,) = document["across"]
    assert [(row["low"], row["high"], row["flips"]) for row in matrix["rows"]] == [(0.5, 1.4, True)]
    assert [found["hardware"]["cpu"] for found in document["platforms"]] == [
        fleets.EPYC.hardware.cpu,
        fleets.OLD_TORCH.hardware.cpu,
    ]


@pytest.mark.parametrize(
    ("options", "order"),
    [((), ["onnxruntime/fp32", "torch/bf16", INT8]), (("--sort", "gain"), ["torch/bf16", INT8, "onnxruntime/fp32"])],
)
def test_strategies_stand_in_one_order_whoever_measured_them(
    fleet: str, options: tuple[str, ...], order: list[str]
) -> None:
    with Database.open(fleet) as db:
        measure(db, "old", fleets.OLD_TORCH, 3.0, builders.case(strategy="torch/bf16"))
        measure(db, "old", fleets.OLD_TORCH, 1.2, builders.case(strategy="onnxruntime/fp32"))
    (matrix,) = json.loads(call("compare", "--database", fleet, "--json", *options).output)["across"]
    assert [row["strategy"] for row in matrix["rows"]] == order


def test_a_fleet_is_told_of_its_own_commands(postgres: str) -> None:
    assert "`quantfleet submit STUDY` has the hosts measure a study" in call("compare", "--database", postgres).output
    with Database.open(postgres) as db:
        first, _ = submit(db, builders.case(), builders.case(threads=2))
        nothing = " ".join(call("compare", "--database", postgres).output.split())
        assert "2 of 2 jobs wait or run; `quantfleet status` shows how far they are" in nothing
        lifecycle.finish(db, claim(db, first), builders.latency(flags=("disturbed",)), [])
    output = " ".join(call("compare", "--database", postgres).output.split())
    assert "(`quantfleet submit --fresh`)" in output
    assert "1 job still waits or runs: `quantfleet status`" in output
    assert "quantfleet run" not in output


def test_a_missing_database_is_not_made_by_looking(tmp_path: Path) -> None:
    error = call("compare", "--database", f"sqlite:///{tmp_path / 'none.db'}").exception
    assert isinstance(error, errors.DatabaseError)
    assert "quantfleet run STUDY" in str(error)
    assert list(tmp_path.iterdir()) == []
