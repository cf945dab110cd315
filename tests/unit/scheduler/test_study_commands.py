from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from scheduler import study
from scheduler.cli.study import app
from storage import errors
from tests.unit.scheduler.study_files import MINIMAL, model_folder, write


def test_the_schema_command_prints_and_writes_the_schema(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["schema"])
    assert json.loads(printed.stdout) == study.schema()
    written = CliRunner().invoke(app, ["schema", "-o", str(tmp_path / "s.json")])
    assert written.exit_code == 0
    assert (tmp_path / "s.json").read_text("utf-8") == printed.stdout
    failed = CliRunner().invoke(app, ["schema", "-o", str(tmp_path / "no" / "s.json")])
    assert isinstance(failed.exception, errors.SettingsError)


def test_check_says_what_a_study_holds(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    text = MINIMAL.replace("{random: bert}", "{hub: a/b}\n  r: {random: bert}")
    path = str(write(tmp_path, text))
    result = CliRunner().invoke(app, ["check", path, "--model", f"m={folder}", "--json"])
    facts = json.loads(result.stdout)
    assert facts["models"][0].startswith(f"m: {folder} (digest ")
    assert facts["models"][1] == "r: bert (random)"
    plain = CliRunner().invoke(app, ["check", path]).stdout
    assert "strategies  torch/fp32" in plain
    assert "targets     every-platform" in plain
    selected = str(write(tmp_path, text + "targets: {isa: [avx2, fma], min_cores: 4, label.region: eu}\n"))
    assert "isa avx2, fma; min_cores 4; label.region eu" in CliRunner().invoke(app, ["check", selected]).stdout


def test_check_of_a_wrong_study_raises_what_the_program_turns_into_exit_code_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(write(tmp_path, MINIMAL + "threads: [0]\n"))])
    assert isinstance(result.exception, errors.UserError)
    assert result.stdout == ""
