from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import typer
from typer.testing import Result

from scheduler.cli import machine
from tests.unit.scheduler import probed as machines
from tests.unit.scheduler.probed import probed


def invoke(monkeypatch: pytest.MonkeyPatch, answer: Mapping[str, Any], *words: str) -> Result:
    app = typer.Typer()
    for command in (machine.hardware, machine.doctor):
        app.command()(command)
    result, asked = machines.invoke(monkeypatch, app, answer, *words)
    assert len(asked) == 1
    return result


def findings(*levels: str) -> dict[str, Any]:
    advice = "pip install 'quantfleet[worker]'"
    return {"findings": [{"check": "x", "level": level, "seen": "torch missing", "advice": advice} for level in levels]}


def test_hardware_shows_keys_and_facts_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = invoke(monkeypatch, probed(), "hardware")
    assert shown.exit_code == 0
    for text in ("E5-2680 v3", "avx2", "24 logical", "L3 30,720 KiB", "torch 2.13.0", "OMP_X=[red]", "p" * 16):
        assert text in shown.stdout
    assert max(len(line) for line in shown.stdout.splitlines()) <= 80


def test_hardware_as_json_is_what_the_worker_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(invoke(monkeypatch, probed(), "hardware", "--json").stdout) == probed()


def test_doctor_fails_only_on_what_is_bad_and_keeps_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = invoke(monkeypatch, findings("ok", "warn"), "doctor")
    assert fine.exit_code == 0
    assert "pip install 'quantfleet[worker]'" in fine.stdout
    assert invoke(monkeypatch, findings("ok", "bad"), "doctor").exit_code == 1
    as_json = invoke(monkeypatch, findings("bad"), "doctor", "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (1, findings("bad"))
