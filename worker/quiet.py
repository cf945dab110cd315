"""What disturbed one leg, and whether a process is at rest: cheap reads of /proc around each leg.

The supervisor takes a `Snapshot` before and after a leg, while the child sleeps in a blocking read, and `judge`
turns the two into `LegConditions`. Clocks that the scheduler keeps in nanoseconds (a process's CPU clock, schedstat,
the cpuacct group of cgroup v1) are preferred; `/proc/stat` counts whole ticks, and nothing is blamed on others
that the rounding of a tick can explain.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from worker import energy, procfs

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
"""Nanoseconds of one count in /proc/stat (10 ms nearly everywhere)."""

ROUNDING_TICKS = 2
"""Counts by which a difference of /proc/stat may be wrong: `user` and `system` are each cut to a whole tick, and
the kernel samples who runs instead of timing it. Seen here: up to 2 ticks on legs of 100 ms."""

ACCOUNTED_ROUNDING_NS = 1_000_000
"""What a leg of 100 ms on an idle machine shows in the exact account beside the child: the kernel's own threads,
and reading the snapshots."""

WAIT_SHARE = 0.02
"""Share of its time that a child may wait for a CPU: below the ±3 % that a study asks for by default; an idle
machine's kernel threads cost a few tenths of a percent."""

FOREIGN_SHARE = 0.05
"""Share of the host's CPU time that others may use: a tenth of a core on two cores. Daemons stay under 1 %; a busy
process on another core moves times through shared caches, memory bandwidth and turbo without any waiting."""

STEAL_SHARE = 0.01
"""Share of CPU time that the hypervisor may give to other machines; a quiet virtual machine shows none."""

STILL_SHARE = {1: 0.05, 2: 0.25}
"""Share of a leg in which the busiest thread may neither run nor want to, for one thread and for several. One thread
rests for 0.4 % of its legs, 3 % at most on a busy machine; the busiest of several also waits for the others, up to
10 % seen there. Beyond that somebody stopped the process, or it waits for a disk."""

BURNING_SHARE = 0.05
"""A thread burns CPU when it ran at least this share of what the busiest thread ran: workers of a pool run within
a factor of two of one another (spinning counts), helpers such as a reader of a pipe run under a percent."""

IDLE_WINDOW_S = 0.002
"""Time over which a process must not run to count as idle: a spinning pool cannot hide for 2 ms, and at two looks
a round it costs nothing."""

IDLE_SHARE = 0.01
"""CPU share under which a process is idle: a helper thread that wakes for some µs is no spinning pool."""

_PROC = Path("/proc")
_CPUS = Path("/sys/devices/system/cpu")
_ACCOUNTS = tuple(Path("/sys/fs/cgroup") / name / "cpuacct.usage" for name in ("cpuacct", "cpu,cpuacct"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Counters of the host and of one child, or several at once, at one moment; only differences mean anything."""

    at_ns: int  # monotonic clock
    busy_ns: int  # CPU time of everything on this host's CPUs, in whole ticks
    steal_ns: int  # CPU time given to other virtual machines, in whole ticks
    accounted_ns: int | None  # CPU time of everything in this cgroup tree, exact; None where nothing tells
    rounding_ns: int  # what a difference of busy_ns may be wrong by
    ignored_ns: int  # CPU time of the supervisor and the other processes that do not count
    child_ns: int  # CPU time of the child, all threads, ended ones too
    threads: Mapping[int, tuple[int, int]]  # thread id → (ran, waited for a CPU) in ns
    swapped_pages: int  # in and out, host-wide
    throttled: int  # times that a cgroup quota stopped us
    heated: int  # times that a CPU package throttled itself for its temperature
    energy: energy.Reading | None = None  # the packages' counters, where the machine tells them


@dataclass(frozen=True, kw_only=True, slots=True)
class LegConditions:
    """Under what conditions a leg ran."""

    wall_ns: int
    cpu_ns: int  # CPU time of the child
    run_delay_ns: int  # time its threads waited for a CPU, summed
    foreign_share: float  # CPU time of everything else ÷ (wall × cores)
    steal_share: float  # time the hypervisor gave to others ÷ (wall × cores)
    threads_burning: int  # threads that used CPU, see BURNING_SHARE; 0 where the kernel does not tell
    disturbed: tuple[str, ...]  # reasons for people; empty for a good leg


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidentMemory:
    """Resident memory of a process in bytes, as `resident` explains."""

    now: int
    peak: int


class Observer:
    """Takes snapshots; made once for a job.

    `ignore`: process ids whose CPU time is the tool's own (nursery, launcher); this process is always ignored.
    """

    def __init__(self, ignore: Collection[int] = ()) -> None:
        self._ignore = frozenset(ignore) | {os.getpid()}
        self._some_cpus = _subset_of_cpus()
        self._rounding_ns = ROUNDING_TICKS * TICK_NS * math.isqrt(len(self._some_cpus) or 1)
        self._accounted = next((p for p in _ACCOUNTS if p.is_file()), None)
        self._quotas = tuple(group / "cpu.stat" for group in procfs.quota_groups())
        self._heat = tuple(_heat_counters())
        self.meter = energy.Meter()
        self._swaps = len(procfs.lines(_PROC / "swaps")) > 1

    def snapshot(self, *children: int) -> Snapshot:
        """Counters now, of processes that are measured together; about 0.1 ms plus 10 µs for each of their threads.

        Raises ProcessLookupError when one of them is gone.
        """
        busy_ticks, steal_ticks = self._ticks()
        ignored = sum(_cpu_clock_or_zero(pid) for pid in self._ignore)
        return Snapshot(
            at_ns=time.monotonic_ns(),
            busy_ns=busy_ticks * TICK_NS,
            steal_ns=steal_ticks * TICK_NS,
            accounted_ns=None if self._accounted is None else procfs.number(self._accounted),
            rounding_ns=self._rounding_ns,
            ignored_ns=ignored,
            child_ns=sum(cpu_clock_ns(pid) for pid in children),
            threads={thread: times for pid in children for thread, times in _threads(pid).items()},
            swapped_pages=_swapped_pages() if self._swaps else 0,
            throttled=sum(procfs.field(path, "nr_throttled") for path in self._quotas),
            heated=sum(procfs.number(path) for path in self._heat),
            energy=self.meter.read(),
        )

    def joules(self, before: Snapshot, after: Snapshot) -> float | None:
        """Energy of the whole machine between two snapshots; None where it does not tell."""
        if before.energy is None or after.energy is None:
            return None
        return sum(self.meter.joules(before.energy, after.energy).values())

    def _ticks(self) -> tuple[int, int]:
        """Busy and stolen ticks of the CPUs that this process may use."""
        lines = procfs.read(_PROC / "stat").split("\nintr", 1)[0].splitlines()
        wanted = [line for line in lines if line.split(" ", 1)[0] in self._some_cpus] or lines[:1]
        counts = [[int(word) for word in line.split()[1:]] for line in wanted]
        busy = sum(sum(row[:3]) + sum(row[5:7]) for row in counts)  # user nice system, irq softirq; guest is in user
        return busy, sum(row[7] for row in counts)


def judge(before: Snapshot, after: Snapshot, *, cores: int, threads: int, own_cpu_ns: int = 0) -> LegConditions:
    """The conditions between two snapshots of one child.

    `cores`: logical cores that this host's processes may use; `threads`: what the child was asked to use;
    `own_cpu_ns`: CPU time of the tool that no ignored process shows (an ended helper, for instance).
    """
    wall = max(1, after.at_ns - before.at_ns)
    cpu, ran, delay = after.child_ns - before.child_ns, *_ran_and_waited(before, after)
    burning = _burning(ran)
    own = cpu + after.ignored_ns - before.ignored_ns + own_cpu_ns
    foreign, certain = _foreign(before, after, own)
    steal = after.steal_ns - before.steal_ns
    capacity = wall * cores
    # threads of one pool also wait for one another: with several, no more is blamed on others than they ran
    blamed = delay if max(threads, burning) == 1 else min(delay, max(0, certain))
    reasons = (
        _waited(blamed, cpu + delay),
        _stood_still(before, after, wall, threads),
        _crowded(certain, wall, capacity),
        _stolen(steal, capacity),
        *_events(before, after),
    )
    return LegConditions(
        wall_ns=wall,
        cpu_ns=cpu,
        run_delay_ns=delay,
        foreign_share=foreign / capacity,
        steal_share=steal / capacity,
        threads_burning=burning,
        disturbed=tuple(filter(None, reasons)),
    )


def cpu_clock_ns(pid: int) -> int:
    """CPU time of a process in ns up to this moment, running threads and ended ones included.

    Raises ProcessLookupError when there is no such process.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)  # the kernel's MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
    except OSError as exc:
        raise ProcessLookupError(f"no process {pid}") from exc


def idle(pid: int) -> bool:
    """Whether a process used no CPU over `IDLE_WINDOW_S` and wants none; a pool that spins does.

    A process that is gone is idle.
    """
    try:
        start, began = cpu_clock_ns(pid), time.monotonic_ns()
        time.sleep(IDLE_WINDOW_S)
        used, window = cpu_clock_ns(pid) - start, time.monotonic_ns() - began
    except ProcessLookupError:
        return True
    return used <= IDLE_SHARE * window and not _runnable(pid)


def wait_idle(pid: int, timeout_s: float) -> float:
    """Seconds until the process was idle; a result of `timeout_s` or more means that it still runs."""
    began = time.monotonic()
    while not idle(pid):
        if time.monotonic() - began >= timeout_s:
            return max(timeout_s, time.monotonic() - began)
    return min(time.monotonic() - began, math.nextafter(timeout_s, 0))


def resident(pid: int) -> ResidentMemory:
    """VmRSS and VmHWM: pages that the process maps and that are in memory.

    A forked process shares its parent's pages until one of them writes: they count here in full, as they would in a
    process that had imported everything by itself; files' pages (code of libraries) count only once the process has
    touched them. The peak starts at the parent's size at the fork. `private` gives what is the process's own.
    Raises ProcessLookupError when the process is gone.
    """
    fields = procfs.sizes(_PROC / str(pid) / "status")
    if "VmRSS" not in fields:
        raise ProcessLookupError(f"no process {pid}")
    return ResidentMemory(now=fields["VmRSS"], peak=fields["VmHWM"])


def private(pid: int) -> int:
    """Bytes of memory that no other process shares (exact, some ms for a large process); 0 where nothing tells."""
    fields = procfs.sizes(_PROC / str(pid) / "smaps_rollup")
    return fields.get("Private_Clean", 0) + fields.get("Private_Dirty", 0)


def _ran_and_waited(before: Snapshot, after: Snapshot) -> tuple[list[int], int]:
    """How long each thread ran, and the sum of their waits, in ns; a thread that is new counts from its start."""
    changes = [_since(before, thread, now) for thread, now in after.threads.items()]
    return [run for run, _ in changes], sum(wait for _, wait in changes)


def _since(before: Snapshot, thread: int, now: tuple[int, int]) -> tuple[int, int]:
    """How long a thread ran and waited since a snapshot."""
    run, wait = before.threads.get(thread, (0, 0))
    return now[0] - run, now[1] - wait


def _burning(ran: list[int]) -> int:
    busiest = max(ran, default=0)
    return sum(run >= BURNING_SHARE * busiest for run in ran) if busiest > 0 else 0


def _foreign(before: Snapshot, after: Snapshot, own_ns: int) -> tuple[int, int]:
    """CPU time of others in ns: the best estimate, and what remains of it after all rounding.

    The exact account sees this cgroup tree only (in a container the neighbours are missing), the ticks see all:
    each is a lower bound once its own rounding is taken off.
    """
    ticked = after.busy_ns - before.busy_ns - own_ns
    certain = ticked - before.rounding_ns
    if before.accounted_ns is None or after.accounted_ns is None:
        return max(0, ticked), certain
    accounted = after.accounted_ns - before.accounted_ns - own_ns
    return max(0, accounted, certain), max(accounted - ACCOUNTED_ROUNDING_NS, certain)


def _waited(blamed_ns: int, wanted_ns: int) -> str:
    share = blamed_ns / max(1, wanted_ns)
    return f"waited {100 * share:.0f} % of the time for a CPU that others used" if share > WAIT_SHARE else ""


def _stood_still(before: Snapshot, after: Snapshot, wall_ns: int, threads: int) -> str:
    if not after.threads:
        return ""
    still = wall_ns - max(sum(_since(before, thread, now)) for thread, now in after.threads.items())
    if still <= STILL_SHARE[min(threads, 2)] * wall_ns:
        return ""
    return f"stood still for {still / 1e9:.2g} of {wall_ns / 1e9:.2g} s"


def _crowded(certain_ns: int, wall_ns: int, capacity_ns: int) -> str:
    if certain_ns <= FOREIGN_SHARE * capacity_ns:
        return ""
    return f"other processes used {certain_ns / wall_ns:.1f} cores"


def _stolen(steal_ns: int, capacity_ns: int) -> str:
    certain = steal_ns - TICK_NS  # one field, cut to a whole tick
    return f"steal {100 * steal_ns / capacity_ns:.0f} %" if certain > STEAL_SHARE * capacity_ns else ""


def _events(before: Snapshot, after: Snapshot) -> list[str]:
    pages = after.swapped_pages - before.swapped_pages
    throttled = after.throttled - before.throttled
    return [
        f"swapped {pages} pages" if pages > 0 else "",
        f"throttled by the cgroup quota {throttled} times" if throttled > 0 else "",
        "temperature: a CPU throttled itself" if after.heated > before.heated else "",
    ]


def _subset_of_cpus() -> frozenset[str]:
    """Names in /proc/stat of the CPUs that we may use; empty when these are all (their sum is rounded once)."""
    allowed = os.sched_getaffinity(0)
    online = sum(line.startswith("cpu") for line in procfs.lines(_PROC / "stat")) - 1
    return frozenset() if len(allowed) >= online else frozenset(f"cpu{number}" for number in allowed)


def _heat_counters() -> list[Path]:
    """One counter for each CPU package, where the CPU tells (Intel does)."""
    seen: dict[str, Path] = {}
    for counter in sorted(_CPUS.glob("cpu[0-9]*/thermal_throttle/package_throttle_count")):
        seen.setdefault(procfs.read(counter.parents[1] / "topology/physical_package_id"), counter)
    return list(seen.values())


def _threads(pid: int) -> dict[int, tuple[int, int]]:
    """Thread id → ns that it ran and ns that it waited for a CPU."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        words = procfs.read(task / "schedstat").split()
        if words:  # empty: the thread ended meanwhile
            found[int(task.name)] = (int(words[0]), int(words[1]))
    return found


def _runnable(pid: int) -> bool:
    """Whether a thread runs or waits for a CPU: on a crowded host a spinning one may get none for a while."""
    states = (procfs.read(task / "stat").rpartition(")")[2].split() for task in Path(f"/proc/{pid}/task").glob("*"))
    return any(words[:1] == ["R"] for words in states)


def _cpu_clock_or_zero(pid: int) -> int:
    try:
        return cpu_clock_ns(pid)
    except ProcessLookupError:
        return 0


def _swapped_pages() -> int:
    return procfs.field(_PROC / "vmstat", "pswpin") + procfs.field(_PROC / "vmstat", "pswpout")
