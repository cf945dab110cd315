from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from scheduler import worker_process
from scheduler.cli import machine
from storage import records

HASWELL = records.Hardware(
    cpu="Intel(R) Xeon(R) CPU E5-2680 v3 @ 2.50GHz",
    vendor="GenuineIntel",
    family=6,
    model=63,
    stepping=2,
    architecture="x86_64",
    isa=("avx", "avx2", "f16c", "fma", "sse4_1"),
    caps=(),
    physical_cores=12,
    logical_cores=24,
    cache_bytes={"l1d": 384 << 10, "l3": 30 << 20},
    memory_gib=64,
)
TORCH_ONLY = records.Environment(
    python="3.11.7", packages={"torch": "2.13.0", "transformers": "5.23.0"}, kernel="6.1", settings={"OMP_X": "[red]"}
)


def invoke(monkeypatch: pytest.MonkeyPatch, answer: Mapping[str, Any], *words: str) -> Result:
    asked: list[tuple[str, Mapping[str, Any]]] = []

    def ask(command: str, options: Mapping[str, Any], on_event: object = None) -> Mapping[str, Any]:
        asked.append((command, options))
        return answer

    monkeypatch.setattr(worker_process, "ask", ask)
    monkeypatch.setenv("COLUMNS", "90")
    app = typer.Typer()
    for command in (machine.hardware, machine.doctor, machine.strategies):
        app.command()(command)
    result = CliRunner().invoke(app, list(words))
    assert len(asked) == 1
    return result


def probed(hardware: records.Hardware = HASWELL) -> dict[str, Any]:
    documents = {"hardware": records.to_document(hardware), "environment": records.to_document(TORCH_ONLY)}
    return {**documents, "hardware_key": "h" * 16, "environment_key": "e" * 16, "platform_key": "p" * 16}


def findings(*levels: str) -> dict[str, Any]:
    advice = "pip install 'quantfleet[worker]'"
    return {"findings": [{"check": "x", "level": level, "seen": "torch missing", "advice": advice} for level in levels]}


def test_hardware_shows_keys_and_facts_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = invoke(monkeypatch, probed(), "hardware")
    assert shown.exit_code == 0
    for text in ("E5-2680 v3", "avx2", "24 logical", "L3 30,720 KiB", "torch 2.13.0", "OMP_X=[red]", "p" * 16):
        assert text in shown.stdout
    assert max(len(line) for line in shown.stdout.splitlines()) <= 90


def test_hardware_as_json_is_what_the_worker_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(invoke(monkeypatch, probed(), "hardware", "--json").stdout) == probed()


def test_doctor_fails_only_on_what_is_bad_and_keeps_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = invoke(monkeypatch, findings("ok", "warn"), "doctor")
    assert fine.exit_code == 0
    assert "pip install 'quantfleet[worker]'" in fine.stdout
    assert invoke(monkeypatch, findings("ok", "bad"), "doctor").exit_code == 1
    as_json = invoke(monkeypatch, findings("bad"), "doctor", "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (1, findings("bad"))


def test_strategies_say_what_runs_here_and_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = json.loads(invoke(monkeypatch, probed(), "strategies", "--json").stdout)
    here = {row["name"]: (row["here"], row["why"]) for row in rows}
    assert here["torch/fp32"] == ("yes", None)
    assert here["torch/bf16"][0] == "slow"
    assert here["onnxruntime/fp32"][0] == "no"
    assert "pip install 'quantfleet[onnxruntime]'" in here["onnxruntime/fp32"][1]

    table = invoke(monkeypatch, probed(), "strategies").stdout
    assert all(name in table for name in here)
    assert "quantfleet[onnxruntime]" in "".join(table.split())


def test_strategies_name_the_option_values_that_this_cpu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    old = records.from_document(records.Hardware, {**records.to_document(HASWELL), "isa": ["avx", "sse4_1"]})
    rows = json.loads(invoke(monkeypatch, probed(old), "strategies", "--json").stdout)
    (dynamic,) = [row for row in rows if row["name"] == "torch/int8-dynamic"]
    (engine,) = [option for option in dynamic["options"] if option["name"] == "engine"]
    assert set(engine["not_here"]) == {"x86", "fbgemm"}
