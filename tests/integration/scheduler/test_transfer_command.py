from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from scheduler.cli import transfer
from storage import errors, hosts, lifecycle, records
from storage.database import Database
from tests import builders, fleets

app = typer.Typer()
app.command()(transfer.transfer)

DOCS = Path(__file__).parents[3] / "docs"

GAINS = {
    "torch/bf16": (1.5, 1.7, 0.5, 0.4),
    "torch/int8-dynamic": (2.4, 2.6, 1.9, 1.8),
    "onnxruntime/fp32": (2.0, 2.1, 1.9, 1.8),
    "onnxruntime/int8-dynamic": (4.9, 5.5, 3.0, 2.8),
    "openvino/fp32": (1.9, 1.8, 1.7, 1.6),
}
"""Strategy → its gains on four machines."""

MACHINES = (fleets.EPYC, fleets.XEON, fleets.OLD, fleets.platform("AMD EPYC 7551"))


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def measure(
    db: Database, platform: records.Platform, gain: float, *, flags: tuple[str, ...] = (), **changes: Any
) -> None:
    hosts.register(db, name=f"host-{platform.key[:4]}", platform=platform)
    jobs = [builders.planned(builders.case(**changes), platform.key)]
    (job_id,) = lifecycle.submit(db, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=jobs).new
    held = lifecycle.claim(db, job_id, host=f"host-{platform.key[:4]}", platform_key=platform.key, lease=60)
    assert held is not None
    interval = records.Interval(value=gain, low=gain * 0.95, high=gain * 1.05)
    lifecycle.finish(db, held, builders.latency(gain=interval, flags=flags), [])


@pytest.fixture
def fleet(address: str) -> str:
    """Address of a database in which four machines measured five strategies; each kind of database."""
    with Database.open(address) as db:
        for strategy, gains in GAINS.items():
            for machine, gain in zip(MACHINES, gains, strict=True):
                measure(db, machine, gain, strategy=strategy)
    return address


def test_pairs_flips_and_what_to_measure_first_are_told(fleet: str) -> None:
    result = call("--database", fleet, "--first", "2")
    assert result.exit_code == 0, result.output
    for part in (
        "4 platforms, 5 cases on two or more",
        "↔ Xeon 8581C",
        "torch/bf16: ×1.50 to ×1.70 on EPYC 9B14, Xeon 8581C",
    ):
        assert part in result.output
    assert "a new host: what to measure first" in result.output
    assert "leaving each of 4 hardware out" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_json_holds_the_same_and_every_field_is_described(fleet: str) -> None:
    document = json.loads(call("--database", fleet, "--new-host", "--json").output)
    assert [one["label"] for one in document["platforms"]] == [
        "EPYC 7551", "EPYC 9B14", "Xeon 8581C", "Xeon E5-2686 v4",
    ]  # fmt: skip
    assert len(document["pairs"]) == 6
    (pair,) = (one for one in document["pairs"] if {one["one"], one["other"]} == {fleets.EPYC.key, fleets.OLD.key})
    assert pair["worst"]["strategy"] == "torch/bf16"
    assert math.isclose(pair["worst_error"], 3.0)
    assert (pair["there"]["gains"], pair["there"]["held"], pair["there"]["lost"]) == (5, 4, 1)
    (flip,) = document["flips"]
    assert sorted(row["gain"] for row in flip["slower"]) == [0.4, 0.5]
    assert len(document["first"]) == 5
    assert [one["count"] for one in document["check"]] == [1, 2, 3, 5]
    text = (DOCS / "transfer.md").read_text()
    named = {name for part in ("pairs", "flips", "first", "check") for row in document[part] for name in row}
    assert not {name for name in named if f"`{name}`" not in text}


def test_without_new_host_nothing_is_chosen(fleet: str) -> None:
    document = json.loads(call("--database", fleet, "--json").output)
    assert (document["first"], document["check"]) == ([], [])
    assert "a new host" not in call("--database", fleet).output


@pytest.mark.parametrize(
    ("machines", "changes", "options", "message"),
    [
        (MACHINES[:1], {}, (), "results of one platform only (EPYC 9B14)"),
        (MACHINES[:2], {"threads": True}, (), "no two platforms measured the same case"),
        (MACHINES[:2], {"flags": ("disturbed",)}, (), "every result was disturbed"),
        (MACHINES[:2], {}, ("--new-host",), "learnt from 3 hardware or more"),
        (MACHINES[:2], {}, ("--kind", "latensy"), "did you mean 'latency'?"),
        (MACHINES[:2], {}, ("--study", "dmeo"), "did you mean 'demo'?"),
        (MACHINES[:2], {}, ("--strategy", "torch/int9"), "did you mean 'torch/int8-dynamic'?"),
    ],
)
def test_what_cannot_be_told_says_what_is_missing(
    sqlite: str,
    machines: tuple[records.Platform, ...],
    changes: dict[str, Any],
    options: tuple[str, ...],
    message: str,
) -> None:
    with Database.open(sqlite) as db:
        for number, machine in enumerate(machines, 1):
            own = {"threads": number} if "threads" in changes else changes
            measure(db, machine, 2.0, **own)
    error = call("--database", sqlite, *options).exception
    assert isinstance(error, errors.QueryError)
    assert message in str(error)


def test_a_database_without_results_says_what_to_do(sqlite: str) -> None:
    empty = call("--database", sqlite)
    assert (empty.exit_code, "`quantfleet run STUDY` measures a study" in empty.output) == (0, True)
    document = json.loads(call("--database", sqlite, "--json").output)
    assert document == {"schema": 1, "platforms": [], "pairs": [], "flips": [], "first": [], "check": []}
