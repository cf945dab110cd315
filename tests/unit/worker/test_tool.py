from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from storage import errors, keys, records
from worker import tool


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def run(monkeypatch: pytest.MonkeyPatch, command: Any, options: Mapping[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    monkeypatch.setattr(tool, "COMMANDS", {"it": command})
    stream = io.StringIO()
    return tool.answer("it", options, stream), events(stream)


def test_probe_answers_in_a_process_of_its_own_with_keys_that_fit_the_records() -> None:
    line = [sys.executable, "-P", "-m", "worker.tool", "probe", "--json-options", "{}"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    (event,) = [json.loads(text) for text in done.stdout.splitlines()]
    result = event["result"]
    platform = keys.platform(
        records.from_document(records.Hardware, result["hardware"]),
        records.from_document(records.Environment, result["environment"]),
    )
    assert event["event"] == "done"
    assert (platform.key, platform.hardware_key) == (result["platform_key"], result["hardware_key"])


def test_progress_comes_before_the_result_and_printing_stays_out_of_the_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(options: Mapping[str, Any], tell: Any) -> Mapping[str, Any]:
        print("a library's chatter")
        tell({"phase": "train", "step": 1})
        return {"doubled": 2 * options["n"]}

    code, seen = run(monkeypatch, command, {"n": 4})
    assert code == 0
    assert seen == [
        {"event": "progress", "phase": "train", "step": 1},
        {"event": "done", "result": {"doubled": 8}},
    ]
    assert "chatter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "user", "message"),
    [
        (errors.DatasetError("no column 'txt'"), 2, True, "no column 'txt'"),
        (errors.Unreachable("gone"), 1, False, "gone"),
        (ZeroDivisionError("by zero"), 1, False, "ZeroDivisionError: by zero"),
    ],
)
def test_errors_tell_whether_a_person_can_mend_them(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, user: bool, message: str
) -> None:
    def command(options: Mapping[str, Any], tell: Any) -> Mapping[str, Any]:
        raise error

    seen, (event,) = run(monkeypatch, command, {})
    assert (seen, event["event"], event["user"], event["message"]) == (code, "error", user, message)
    assert user or "Traceback" in event["trace"]


def test_an_unknown_training_option_is_named_with_the_nearest() -> None:
    stream = io.StringIO()
    assert tool.answer("train", {"epoch": 3}, stream) == 2
    (event,) = events(stream)
    assert event["user"]
    assert "did you mean 'epochs'" in event["message"]


def test_an_unknown_setting_is_the_askers_error() -> None:
    stream = io.StringIO()
    assert tool.answer("doctor", {"databas": "x"}, stream) == 2
    assert "databas" in events(stream)[0]["message"]
