"""Is this host fit to measure now? What `quantfleet doctor` looks at, finding by finding.

Nothing here stops a measurement: a busy or shared machine gives wider intervals, not wrong ones, and each leg is
watched by `worker.quiet` while it runs.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from storage import metrics, settings
from worker import energy, environment, hardware, procfs, quiet, services
from worker.finding import Finding

SAMPLE_S = 1.0
"""How long the load is watched: a hundred ticks of /proc/stat."""

BUSY_BAD = 0.25
"""Share of this host's CPU time used by others from which legs will hardly ever be undisturbed."""

MEMORY_BAD, MEMORY_WARN = 1 << 30, 3 << 30
"""Bytes available: a nursery with torch and a small model in two children take about 1 GiB, exports double it."""

DISK_BAD, DISK_WARN = 1 << 30, 5 << 30
"""Bytes free for prepared models: each is a tenth of a GB to a GB, and an export writes twice before it is done."""

TIMER_WARN_NS = 1_000
"""Step of the clock: single calls take some 100 µs and more, a µs is a percent of that."""

_CPU = Path("sys/devices/system/cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What happened on this host's CPUs over a sample, this process apart."""

    cores: float  # cores that other processes used
    steal_share: float  # of the CPU time, given to other virtual machines
    swapped_pages: int
    busiest: tuple[tuple[str, float], ...] = ()  # program's name (never its arguments) and cores, most first


def fitness(config: settings.Settings, environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Every check of this host and of what it must reach; takes about `SAMPLE_S` seconds and raises nothing."""
    load = sample(SAMPLE_S)
    cores = len(os.sched_getaffinity(0))
    return [
        cores_finding(cores, os.cpu_count() or cores, hardware.quota()),
        load_finding(load, cores),
        steal_finding(load),
        clock_finding(procfs.ROOT),
        swap_finding(load),
        memory_finding(psutil.virtual_memory().available),
        disk_finding(config.cache),
        timer_finding(),
        huge_pages_finding(procfs.ROOT),
        energy_finding(procfs.ROOT),
        *services.runtimes(environment.versions()),
        services.measuring_lock(config.lock),
        services.neighbours(),
        services.database_finding(config),
        services.broker_finding(config),
        services.store_finding(config),
    ]


def sample(seconds: float) -> Load:
    """Watch this host's CPUs for so many seconds."""
    observer, times = quiet.Observer(), _process_seconds()
    before = observer.snapshot(os.getpid())
    time.sleep(seconds)
    after = observer.snapshot(os.getpid())
    used = {pid: (name, spent - times.get(pid, ("", spent))[1]) for pid, (name, spent) in _process_seconds().items()}
    used.pop(os.getpid(), None)
    wall = (after.at_ns - before.at_ns) / 1e9
    busiest = sorted(
        ((name, spent / wall) for name, spent in used.values() if spent > 0.05 * wall), key=lambda row: -row[1]
    )
    cores = len(os.sched_getaffinity(0))
    own = after.child_ns - before.child_ns
    return Load(
        cores=max(0.0, (after.busy_ns - before.busy_ns - own) / 1e9 / wall),
        steal_share=(after.steal_ns - before.steal_ns) / 1e9 / wall / cores,
        swapped_pages=after.swapped_pages - before.swapped_pages,
        busiest=tuple(busiest[:3]),
    )


def cores_finding(allowed: int, present: int, quota: float | None) -> Finding:
    """How many cores this process may use."""
    seen = f"{allowed} logical cores" + (f" of {present} (affinity or cpuset)" if allowed < present else "")
    if quota is not None:
        return Finding(
            check="cores",
            level="warn",
            seen=f"{seen}, and a cgroup quota of {quota:.2g} cores",
            advice="a quota stops threads in the middle of a call: pin whole CPUs instead (cpuset, taskset)",
        )
    if allowed == 1:
        advice = "with one core everything else on this machine runs in the way of what is measured"
        return Finding(check="cores", level="warn", seen=seen, advice=advice)
    return Finding(check="cores", level="ok", seen=seen)


def load_finding(load: Load, cores: int) -> Finding:
    """What other processes use now, with the busiest of them."""
    share = load.cores / cores
    names = ", ".join(f"{name} {used:.1f}" for name, used in load.busiest)
    seen = f"other processes use {load.cores:.1f} of {cores} cores" + (f" ({names})" if names else "")
    level: Literal["ok", "warn", "bad"] = (
        "ok" if share <= quiet.FOREIGN_SHARE else "warn" if share <= BUSY_BAD else "bad"
    )
    advice = "" if level == "ok" else "stop them, or expect disturbed legs, repeats and wide intervals"
    return Finding(check="load", level=level, seen=seen, advice=advice)


def steal_finding(load: Load) -> Finding:
    """CPU time that the hypervisor gives to other machines."""
    seen = f"{metrics.percent(load.steal_share)} of the CPU time goes to other virtual machines"
    if load.steal_share <= quiet.STEAL_SHARE:
        return Finding(check="steal", level="ok", seen=seen)
    return Finding(check="steal", level="warn", seen=seen, advice="measure on a dedicated or less crowded host")


def clock_finding(root: Path) -> Finding:
    """Frequency governor and turbo, where the machine shows them."""
    governors = {procfs.read(path) for path in (root / _CPU).glob("cpu[0-9]*/cpufreq/scaling_governor")} - {""}
    boost = procfs.read(root / _CPU / "cpufreq/boost")
    no_turbo = procfs.read(root / _CPU / "intel_pstate/no_turbo")
    turbo = {"1": "turbo on", "0": "turbo off"}.get(boost) or {"0": "turbo on", "1": "turbo off"}.get(no_turbo)
    if not governors:
        seen = "not shown here (usual in a virtual machine)" + (f", {turbo}" if turbo else "")
        return Finding(check="clock", level="ok", seen=seen)
    seen = f"governor {', '.join(sorted(governors))}" + (f", {turbo}" if turbo else "")
    if governors <= {"performance"}:
        return Finding(check="clock", level="ok", seen=seen)
    return Finding(check="clock", level="warn", seen=seen, advice="cpupower frequency-set -g performance")


def swap_finding(load: Load) -> Finding:
    """Whether pages move to or from the disk now."""
    if load.swapped_pages == 0:
        return Finding(check="swap", level="ok", seen="no page moved")
    seen = f"{load.swapped_pages} pages moved in {SAMPLE_S:.0f} s"
    return Finding(check="swap", level="bad", seen=seen, advice="free memory: what waits for the disk measures it")


def memory_finding(available: int) -> Finding:
    """Memory that a measured process may still take."""
    level: Literal["ok", "warn", "bad"] = (
        "bad" if available < MEMORY_BAD else "warn" if available < MEMORY_WARN else "ok"
    )
    advice = "" if level == "ok" else "baseline and strategy are in memory together: free some, or take a small model"
    return Finding(check="memory", level=level, seen=f"{metrics.bytes_(available)} available", advice=advice)


def disk_finding(cache: Path) -> Finding:
    """Room and rights in the cache folder, or in the folder where it will be made."""
    folder = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    free = psutil.disk_usage(str(folder)).free
    seen = f"{metrics.bytes_(free)} free in the cache folder {cache}"
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        advice = "set QUANTFLEET_CACHE to a folder that can be written"
        return Finding(check="cache", level="bad", seen=f"cannot write {folder}", advice=advice)
    level: Literal["ok", "warn", "bad"] = "bad" if free < DISK_BAD else "warn" if free < DISK_WARN else "ok"
    advice = "" if level == "ok" else "free some, or set QUANTFLEET_CACHE to a larger disk"
    return Finding(check="cache", level=level, seen=seen, advice=advice)


def timer_finding() -> Finding:
    """The smallest step that the clock of the measurements makes."""
    step = min(_steps(2_000), default=TIMER_WARN_NS)
    level: Literal["ok", "warn"] = "ok" if step < TIMER_WARN_NS else "warn"
    advice = "" if level == "ok" else "times of short calls are coarse; see the kernel's clocksource"
    return Finding(check="timer", level=level, seen=f"steps of {step} ns", advice=advice)


def huge_pages_finding(root: Path) -> Finding:
    """The setting of transparent huge pages: it moves times by some percent, alike for baseline and strategy."""
    text = procfs.read(root / "sys/kernel/mm/transparent_hugepage/enabled")
    chosen = text.partition("[")[2].partition("]")[0] or "not shown here"
    return Finding(check="huge pages", level="ok", seen=chosen)


def energy_finding(root: Path) -> Finding:
    """Whether results can carry joules; without them nothing is wrong."""
    meter = energy.Meter(root)
    zones = ", ".join(zone.name for zone in meter.zones)
    return Finding(check="energy", level="ok", seen=meter.absent or f"counted for {zones}")


def _steps(looks: int) -> list[int]:
    times = [time.perf_counter_ns() for _ in range(looks)]
    return [later - earlier for earlier, later in itertools.pairwise(times) if later > earlier]


def _process_seconds() -> dict[int, tuple[str, float]]:
    """Process id → program's name and CPU seconds so far."""
    found = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        spent = process.info["cpu_times"]
        if spent is not None:
            found[process.pid] = (str(process.info["name"]), spent.user + spent.system)
    return found
