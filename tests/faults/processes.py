"""Who is who among the processes of a fleet's hosts; each carries a mark in its environment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Literal, TypeVar

import psutil

MARK = "FAULT_SUITE"
"""The environment variable that marks a fleet's processes, whoever started them and whoever they belong to now."""

Role = Literal["launcher", "worker", "supervisor", "nursery", "child", "other"]

T = TypeVar("T")

DEADLY = (signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT)


def marked(mark: str) -> list[psutil.Process]:
    """Living processes with this mark; what is dead and only not yet buried does not count."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # another user's, or gone
            continue
    return found


def role(process: psutil.Process) -> Role:
    """What a process is, by its command line and its parent's."""
    try:
        own, parent = _module(process), _module(process.parent())
    except psutil.Error:
        return "other"
    if own == "worker.app":
        return "supervisor" if parent == "worker.app" else "worker"
    if own == "worker.child":
        return "child" if parent == "worker.child" else "nursery"
    return "launcher" if own == "worker.launcher" else "other"


def of(mark: str, wanted: Role) -> list[psutil.Process]:
    """The processes of a host in one role, the oldest first."""
    return sorted((each for each in marked(mark) if role(each) == wanted), key=born)


def die(process: psutil.Process, number: signal.Signals, seconds: float = 15.0) -> None:
    """Send a signal and wait until the process is gone."""
    process.send_signal(number)
    wait_gone([process], seconds)


def wait_gone(those: list[psutil.Process], seconds: float) -> None:
    """Until processes are gone, or only wait for their parent to notice."""
    left = until(lambda: [each for each in those if _lives(each)], lambda alive: not alive, seconds)
    assert not left, f"still there after {seconds:g} s: {[(each.pid, role(each)) for each in left]}"


def until(look: Callable[[], T], good: Callable[[T], bool], seconds: float) -> T:
    """What `look` sees when it is good, or in the end."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if good(seen) or time.monotonic() > deadline:
            return seen
        time.sleep(0.02)


def born(process: psutil.Process) -> float:
    """When it was forked, 0 when it is gone."""
    try:
        return float(process.create_time())
    except psutil.NoSuchProcess:
        return 0.0


def end(mark: str) -> None:
    """Kill whatever is left of a host, stopped ones too."""
    for process in marked(mark):
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _module(process: psutil.Process | None) -> str:
    line = [] if process is None else process.cmdline()
    return line[line.index("-m") + 1] if "-m" in line[:-1] else ""


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
