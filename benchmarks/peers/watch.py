"""Which threads really use CPU: the processes of a tool, looked at from outside while it runs.

Needs nothing of the tool. Two looks a second cost some milliseconds of CPU each, less than half a percent.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

STEP_S = 0.5
BURNING = 0.05
"""Share of the busiest thread's CPU time from which on a thread counts, as for our own measured processes."""

MEASURED = 0.5
"""A process without children that used at least this share of the CPU time of the busiest such one is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """CPU seconds of every thread of a tool at one moment."""

    at: float  # monotonic seconds
    cpu_s: Mapping[int, Mapping[int, float]]  # process → thread → seconds
    parents: Mapping[int, int]  # process → its parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What the looks say of the last seconds of each measured process (medians over them)."""

    threads: int  # of the measured process, that used CPU
    beside: float  # cores that the other processes used meanwhile


@dataclass(slots=True)
class Watch:
    """Looks, taken while a process runs."""

    looks: list[Look] = field(default_factory=list)

    @contextmanager
    def on(self, pid: int) -> Iterator[None]:
        """Look at a process and all that it starts, until the block ends."""
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(pid, over), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _watch(self, pid: int, over: threading.Event) -> None:
        while not over.is_set():
            with contextlib.suppress(psutil.Error):
                self.looks.append(_look(pid))
            over.wait(STEP_S)


def _look(pid: int) -> Look:
    root = psutil.Process(pid)
    cpu_s, parents = {}, {}
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            parents[process.pid] = process.ppid()
            cpu_s[process.pid] = {one.id: one.user_time + one.system_time for one in process.threads()}
    return Look(at=time.monotonic(), cpu_s=cpu_s, parents=parents)


def seen(looks: Sequence[Look], window_s: float) -> Seen | None:
    """Threads that used CPU in the last `window_s` seconds of each measured process; None without two looks at one."""
    found = [one for pid in _measured(looks) if (one := _last_seconds(looks, pid, window_s)) is not None]
    if not found:
        return None
    return Seen(
        threads=round(statistics.median(one.threads for one in found)),
        beside=statistics.median(one.beside for one in found),
    )


def _measured(looks: Sequence[Look]) -> list[int]:
    """The processes at the ends of the tree that did the work."""
    parents = {parent for look in looks for parent in look.parents.values()}
    used: dict[int, float] = {}
    for look in looks:
        used |= {pid: sum(threads.values()) for pid, threads in look.cpu_s.items() if pid not in parents}
    most = max(used.values(), default=0.0)
    return [pid for pid, cpu in used.items() if most and cpu >= MEASURED * most]


def _last_seconds(looks: Sequence[Look], pid: int, window_s: float) -> Seen | None:
    alive = [look for look in looks if pid in look.cpu_s]
    if len(alive) < 2:
        return None
    last = alive[-1]
    first = next((look for look in reversed(alive[:-1]) if last.at - look.at >= window_s), alive[0])
    ran = _between(first.cpu_s[pid], last.cpu_s[pid])
    busiest = max(ran, default=0.0)
    others = sum(sum(_between(first.cpu_s.get(other, {}), now)) for other, now in last.cpu_s.items() if other != pid)
    return Seen(
        threads=sum(cpu >= BURNING * busiest for cpu in ran if cpu),
        beside=others / max(last.at - first.at, 1e-9),
    )


def _between(before: Mapping[int, float], after: Mapping[int, float]) -> list[float]:
    return [cpu - before.get(thread, 0.0) for thread, cpu in after.items()]
