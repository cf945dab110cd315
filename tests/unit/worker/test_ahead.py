"""Nurseries that import while their worker starts: taken over once, never in the way, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from storage import errors, settings
from tests import builders
from worker import ahead, nursery, station

HELLO = "import json, socket, sys; s = socket.socket(fileno=int(sys.argv[1]));"
READY = HELLO + """s.sendall(b'{"event": "ready", "threads": 1}\\n'); s.recv(1)"""
GIVES_UP = "import sys; sys.exit(3)"
HANGS = "import time; time.sleep(60)"


@pytest.fixture
def config(tmp_path: Path) -> settings.Settings:
    return settings.load(cache=tmp_path / "cache", lock=tmp_path / "lock", broker="")


def scripted(monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Nurseries that do what a script of their family says, instead of importing anything."""

    def spawn(family: str, environ: object, control: int, sink: Any) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-c", scripts[family], str(control)]
        return subprocess.Popen(line, pass_fds=[control], stderr=sink, start_new_session=True)

    monkeypatch.setattr(nursery, "_spawn", spawn)


def in_a_fork(question: Any) -> int:
    """What a question answers in a fork of this process: a number below 100, or 100 where it raised."""
    pid = os.fork()
    if pid == 0:
        answer = 100
        try:
            answer = question()
        finally:
            os._exit(answer)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_first_pool_process_takes_the_nurseries_and_a_later_one_ends_them(
    monkeypatch: pytest.MonkeyPatch, config: settings.Settings
) -> None:
    scripted(monkeypatch, torch=READY)
    begun = ahead.Ahead(["torch"], config)

    def use() -> int:
        for one in begun.take().values():
            one.settle()
        return len(begun._nurseries)

    assert in_a_fork(use) == 1, "the first one has it, ready"
    process = psutil.Process(begun._nurseries["torch"].pid)
    assert process.status() != psutil.STATUS_ZOMBIE, "it waits for its pool process's requests"
    assert in_a_fork(lambda: len(begun.take())) == 0
    assert process.status() == psutil.STATUS_ZOMBIE, "what the first one had must not live on beside the second"


def test_a_nursery_that_was_taken_over_and_gives_up_fails_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, config: settings.Settings
) -> None:
    scripted(monkeypatch, torch=GIVES_UP)
    begun = ahead.Ahead(["torch"], config)

    def use() -> int:
        try:
            begun.take()["torch"].settle()
        except errors.ChildFailed as exc:
            return 1 if "exit code 3" in str(exc) else 2
        return 0

    assert in_a_fork(use) == 1


def test_a_nursery_that_was_taken_over_and_hangs_is_killed(
    monkeypatch: pytest.MonkeyPatch, config: settings.Settings
) -> None:
    scripted(monkeypatch, torch=HANGS)
    monkeypatch.setattr(nursery, "_READY_S", 0.1)
    begun = ahead.Ahead(["torch"], config)

    def use() -> int:
        try:
            begun.take()["torch"].settle()
        except errors.ChildDied:
            return 1
        return 0

    pid = begun._nurseries["torch"].pid
    assert in_a_fork(use) == 1
    assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_nothing_is_forked_while_any_nursery_imports(
    monkeypatch: pytest.MonkeyPatch, config: settings.Settings
) -> None:
    slow = "import time; time.sleep(0.5);" + READY
    scripted(monkeypatch, torch=READY, onnxruntime=slow, openvino=GIVES_UP)
    begun = {family: nursery.of(family, config) for family in ("openvino", "onnxruntime", "torch")}
    for one in begun.values():
        one.begin()
    imports: list[bool] = []

    def fork(self: nursery.Nursery, **_: Any) -> Any:
        imports.extend(one._began is not None for one in begun.values())

    monkeypatch.setattr(nursery.Nursery, "fork", fork)
    place = station.Station(config, builders.platform(), begun)
    with place.exclusive(lambda: None):
        place.fork("torch", lambda: None)
        assert imports == [False] * 3
        assert begun["onnxruntime"].start_s >= 0.5
        assert begun["openvino"].pid is None, "it gave up, which is of no interest to a job of torch"
    place.close()


def test_the_job_that_needs_a_nursery_hears_why_it_did_not_start(
    monkeypatch: pytest.MonkeyPatch, config: settings.Settings
) -> None:
    scripted(monkeypatch, torch=GIVES_UP)
    begun = {"torch": nursery.of("torch", config)}
    begun["torch"].begin()
    place = station.Station(config, builders.platform(), begun)
    with place.exclusive(lambda: None), pytest.raises(errors.ChildFailed, match="exit code 3"):
        place.fork("torch", lambda: None)


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3])
def test_a_nursery_ends_with_the_process_that_began_it_however_early(tmp_path: Path, after_s: float) -> None:
    begin = f"""
import time
from storage import settings
from worker import ahead
begun = ahead.Ahead(["torch"], settings.load(cache={str(tmp_path)!r}, broker=""))
print(begun._nurseries["torch"].pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", begin], stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        process = psutil.Process(int(main.stdout.readline()))
        try:
            main.wait(after_s)
        except subprocess.TimeoutExpired:
            main.send_signal(signal.SIGKILL)
    assert psutil.wait_procs([process], timeout=2)[1] == []
