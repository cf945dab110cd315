from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from scheduler.cli import waterfall
from storage import errors, hosts, lifecycle, records
from storage.database import Database
from tests import builders
from tests.chains import BASELINE, DUAL, GAINS, QUAD, STUDENT

app = typer.Typer()
app.command()(waterfall.waterfall)

DOCS = Path(__file__).parents[3] / "docs"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def case(where: records.Platform, strategy: str, padding: str, spread: bool) -> records.Case:
    """A throughput case of examples/roblox.yaml on a machine."""
    cores = where.hardware.physical_cores
    instances, threads = (cores, 1) if spread else (1, cores)
    spec = records.InputSpec(
        batch=1,
        length="dataset",
        padding=padding,
        baseline_padding=None if padding == "max:128" else "max:128",
    )
    layout = None if (instances, threads) == (1, cores) else (1, cores)
    return builders.case(
        kind="throughput",
        strategy=strategy,
        baseline=BASELINE,
        threads=threads,
        instances=instances,
        baseline_layout=layout,
        input=spec,
        dataset=None,
    )


def measured(gain: float, *, flags: tuple[str, ...]) -> records.ThroughputMeasurement:
    load = records.Load(
        rate_per_s=100.0,
        each_per_s=(100.0,),
        alone_per_s=100.0,
        efficiency=records.Interval(value=1.0, low=0.9, high=1.1),
        settled_s=1.0,
        window_s=1.0,
    )
    plain = builders.latency(gain=records.Interval(value=gain, low=gain * 0.95, high=gain * 1.05), flags=flags)
    fields: dict[str, Any] = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    return records.ThroughputMeasurement(**fields, instances=1, baseline_load=load, strategy_load=load)


def measure(db: Database, where: records.Platform, host: str, *, flags: tuple[str, ...] = ()) -> None:
    """Everything of a chain but the student without padding, whose job waits."""
    hosts.register(db, name=host, platform=where)
    planned = [(builders.planned(case(where, *key), where.key), gain) for key, gain in GAINS.items()]
    study = lifecycle.StudyText(name="roblox", text="name: roblox")
    ids = lifecycle.submit(db, study=study, jobs=[job for job, _ in planned]).new
    for job_id, (job, gain) in zip(ids, planned, strict=True):
        if (job.case.strategy, job.case.label) != (STUDENT, "b1×dataset vs max:128, 1 instance"):
            held = lifecycle.claim(db, job_id, host=host, platform_key=where.key, lease=60)
            assert held is not None
            lifecycle.finish(db, held, measured(gain, flags=flags), [])


@pytest.fixture
def roblox(sqlite: str) -> str:
    with Database.open(sqlite) as db:
        measure(db, DUAL, "big")
    return sqlite


STEPS = (
    *("--step", "distilled=distil:layers=3+torch/fp32", "--step", "no padding=padding=longest"),
    *("--step", "int8=+onnxruntime/int8-dynamic", "--step", "processes=threads=1 instances=auto"),
)


def test_robloxs_chart_needs_no_option(roblox: str) -> None:
    result = call("--database", roblox, "--study", "roblox")
    assert result.exit_code == 0, result.output
    for part in ("minilm on EPYC 9B14: throughput", "padding longest", "×24.00", "instances × threads", "██"):
        assert part in result.output
    assert "steps recognised on the way to the fastest of 6 cases" in result.output
    assert "--step 'instances × threads=threads=1 instances=auto'" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_the_options_that_recognised_steps_are_told_as_give_the_same_chart(roblox: str) -> None:
    told = json.loads(call("--database", roblox, "--json").output)["waterfalls"][0]
    options = [part for step in told["steps"] for part in ("--step", f"{step['name']}={step['what']}")]
    named = json.loads(call("--database", roblox, *options, "--json").output)["waterfalls"][0]
    assert (told["recognised"], named["recognised"]) == (True, False)
    assert named["charts"] == told["charts"]


def test_named_steps_make_the_chart_and_one_that_waits_names_its_job(roblox: str) -> None:
    document = json.loads(call("--database", roblox, *STEPS, "--json").output)
    (chart,) = document["waterfalls"][0]["charts"]
    bars = {bar["name"]: bar for bar in chart["bars"]}
    assert bars["distilled"]["factor"] == pytest.approx(2.0)
    assert bars["no padding"]["factor"] is None
    assert bars["int8"]["factor"] == pytest.approx(8.0)
    assert bars["processes"]["product"] == pytest.approx(24.0)
    assert (bars["processes"]["instances"], bars["processes"]["threads"]) == (2, 1)
    assert bars["no padding"]["state"] == "missing"
    assert "is queued" in bars["no padding"]["reason"]
    assert bars["int8"]["since"] == "distilled"
    output = call("--database", roblox, *STEPS).output
    assert "no number" in output
    assert "is queued" in " ".join(output.split())


def test_every_field_is_described(roblox: str) -> None:
    document = json.loads(call("--database", roblox, "--json").output)
    (one,) = document["waterfalls"]
    names = {*one, *one["charts"][0], *(name for bar in one["charts"][0]["bars"] for name in bar), *one["steps"][0]}
    text = (DOCS / "waterfall.md").read_text()
    assert not {name for name in names if f"`{name}`" not in text}


def test_steps_from_a_file_are_those_of_the_command_line(roblox: str, tmp_path: Path) -> None:
    file = tmp_path / "chain.yaml"
    pairs = [text.partition("=") for text in STEPS[1::2]]
    file.write_text("waterfall:\n" + "".join(f"  {name}: {what}\n" for name, _, what in pairs))
    told = [call("--database", roblox, *options, "--json").output for options in (("--steps", str(file)), STEPS)]
    assert told[0] == told[1]


def test_several_machines_are_set_side_by_side(roblox: str) -> None:
    with Database.open(roblox) as db:
        measure(db, QUAD, "wide")
    output = call("--database", roblox).output
    assert output.count("instances of") == 0
    assert "each step's own factor by machine" in output
    assert max(map(len, output.splitlines())) <= 80
    alone = call("--database", roblox, "--hardware", "wide").output
    assert "EPYC" not in alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--step", "int8"), "a step is NAME=WHAT"),
        (("--step", "a=torch/int9"), "did you mean 'int8-dynamic'?"),
        (("--step", "a=paddin=longest"), "did you mean 'padding'?"),
        (("--step", "a=torch/bf16", "--step", "a=torch/fp16"), "two steps are called 'a'"),
        (("--step", "a=torch/bf16", "--steps", "x.yaml"), "exclude one another"),
        (("--from", "threads=9"), "no chart begins so; there are torch/fp32, b1×dataset/max:128"),
        (("--kind", "latency"), "there is no gain among the results"),
        (("--kind", "latensy"), "did you mean 'latency'?"),
        (("--study", "robloks"), "did you mean 'roblox'?"),
        (("--hardware", "M7i"), "nothing is called 'M7i'"),
    ],
)
def test_what_cannot_be_shown_says_what_could(roblox: str, options: tuple[str, ...], message: str) -> None:
    error = call("--database", roblox, *options).exception
    assert isinstance(error, errors.UserError)
    assert message in str(error)


def test_a_strategy_that_nobody_measured_says_which_job_would_give_it(roblox: str) -> None:
    output = " ".join(call("--database", roblox, "--step", "bf16=torch/bf16").output.split())
    assert "bf16: no such job on this machine: throughput of torch/bf16, b1×dataset/max:128, 1 instance, 2" in output


def test_disturbed_results_alone_say_how_to_count_them(sqlite: str) -> None:
    with Database.open(sqlite) as db:
        measure(db, DUAL, "big", flags=("disturbed",))
    error = call("--database", sqlite).exception
    assert isinstance(error, errors.QueryError)
    assert "--include-disturbed" in str(error)
    assert "×24.00" in call("--database", sqlite, "--include-disturbed").output


def test_a_database_without_results_says_what_to_do(sqlite: str) -> None:
    empty = call("--database", sqlite)
    assert (empty.exit_code, "`quantfleet run STUDY` measures a study" in empty.output) == (0, True)
    assert json.loads(call("--database", sqlite, "--json").output) == {"schema": 1, "waterfalls": []}
