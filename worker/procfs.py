"""Reads of /proc and /sys that never fail: what a kernel does not tell is empty.

Every function that looks at more than one given file takes the root folder, so that recorded hosts can be read.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")


def read(path: Path) -> str:
    """A file of the kernel without surrounding space; empty where it does not exist or may not be read."""
    try:
        with path.open(errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def lines(path: Path) -> list[str]:
    """The file's lines; none where it does not exist."""
    return read(path).splitlines()


def number(path: Path) -> int:
    """A file that holds one number, 0 where it holds none."""
    text = read(path)
    return int(text) if text.lstrip("-").isdigit() else 0


def field(path: Path, name: str) -> int:
    """The number behind `name` in a file of `name number` lines (vmstat, cpu.stat); 0 where it is missing."""
    return next((int(line.split()[1]) for line in lines(path) if line.startswith(f"{name} ")), 0)


def sizes(path: Path) -> dict[str, int]:
    """The `Name: 12 kB` lines of a file (status, meminfo, smaps_rollup) in bytes."""
    rows = (line.split() for line in lines(path))
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}


def cpu_list(text: str) -> frozenset[int]:
    """CPU numbers of the kernel's list format, e.g. `0-3,8`."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def quota_groups(root: Path = ROOT) -> list[Path]:
    """The cgroup folders of this process and above that have a CPU quota, v1 and v2, nearest first."""
    found = []
    for mount, path in _cpu_groups(root):
        inside = mount / path.lstrip("/")
        folder = inside if inside.is_dir() else mount  # in a container the host's path does not exist
        above = [group for group in (folder, *folder.parents) if group.is_relative_to(mount)]
        found += [group for group in above if quota_cores(group) is not None]
    return found


def quota_cores(group: Path) -> float | None:
    """The CPU quota of one cgroup folder in cores, None without one."""
    quota, _, period = read(group / "cpu.max").partition(" ")
    if not quota:
        quota, period = read(group / "cpu.cfs_quota_us"), read(group / "cpu.cfs_period_us")
    if not quota.isdigit() or int(quota) == 0:  # "max" (v2) and -1 (v1) mean no quota
        return None
    return int(quota) / int(period or 100_000)


def _cpu_groups(root: Path) -> list[tuple[Path, str]]:
    """Where this process's groups of the cpu controller are mounted, and their paths below."""
    base = root / "sys/fs/cgroup"
    found = []
    for line in lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            found += [(base / name, path) for name in ("cpu", "cpu,cpuacct") if (base / name).is_dir()][:1]
        elif not controllers and (base / "cgroup.controllers").is_file():
            found.append((base, path))
    return found
