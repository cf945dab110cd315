from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scheduler import worker_process
from storage import errors

INTERPRETER = sys.executable
CHATTER = "import json, sys, os, time, signal\nprint('a library says hello')\nprint('[1, 2]')\n"


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the worker's side: the interpreter runs the script that a test writes here."""
    script = tmp_path / "tool.py"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 3\nexec {sys.executable} {script} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    return script


def test_the_answer_comes_back_and_progress_on_the_way_and_chatter_is_passed_over(tool: Path) -> None:
    tool.write_text(
        CHATTER + "print(json.dumps({'event': 'progress', 'step': 1}))\n"
        "print(json.dumps({'event': 'done', 'result': {'argv': sys.argv[1:]}}))\n"
    )
    seen: list[Mapping[str, Any]] = []

    answer = worker_process.ask("train", {"x": "ü", "n": None}, seen.append)

    assert answer == {"argv": ["train", "--json-options", '{"x": "\\u00fc", "n": null}']}
    assert seen == [{"event": "progress", "step": 1}]


def test_an_error_that_the_user_can_mend_is_a_user_error_with_the_workers_words(tool: Path) -> None:
    tool.write_text(
        CHATTER + "print(json.dumps({'event': 'error', 'message': 'no column', 'user': True})); sys.exit(2)"
    )

    with pytest.raises(errors.UserError, match=r"^no column$"):
        worker_process.ask("train", {})


def test_an_error_of_the_worker_itself_is_a_failed_child_with_its_trace(tool: Path) -> None:
    tool.write_text(CHATTER + "print(json.dumps({'event': 'error', 'message': 'boom', 'user': False, 'trace': 'T'}))")

    with pytest.raises(errors.ChildFailed, match="boom") as caught:
        worker_process.ask("probe", {})
    assert caught.value.trace == "T"


@pytest.mark.parametrize(
    "script",
    [
        "raise ModuleNotFoundError(\"No module named 'torch'\")",
        "print(json.dumps({'event': 'error', 'message': \"No module named 'tokenizers.x'\", 'user': False}))",
    ],
)
def test_a_missing_worker_extra_says_what_to_install(tool: Path, script: str) -> None:
    tool.write_text(CHATTER + script)

    with pytest.raises(errors.UserError, match=r"pip install 'quantfleet\[worker\]'"):
        worker_process.ask("train", {})


def test_a_killed_child_is_reported_with_its_signal_and_last_words(tool: Path) -> None:
    tool.write_text(CHATTER + "print('last words', file=sys.stderr, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")

    with pytest.raises(errors.ChildDied, match=r"signal 9.*last words") as caught:
        worker_process.ask("train", {})
    assert caught.value.signal == signal.SIGKILL


def test_ctrl_c_ends_the_child(tool: Path, tmp_path: Path) -> None:
    tool.write_text(
        CHATTER + "print(json.dumps({'event': 'progress', 'pid': os.getpid()}), flush=True)\ntime.sleep(60)"
    )
    asking = tmp_path / "asking.py"
    asking.write_text(
        "import sys\nfrom scheduler import worker_process\n"
        f"sys.executable = {sys.executable!r}\n"
        "worker_process.ask('train', {}, lambda event: print(event['pid'], flush=True))\n"
    )
    # a process of its own: an interrupt of this one may reach the test runner instead
    line = [INTERPRETER, str(asking)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        pid = int(waiting.stdout.readline())
        began = time.monotonic()
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=30)

    assert waiting.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
