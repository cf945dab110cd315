"""Memory and descriptors of every long-lived process of a fleet, every few seconds."""

from __future__ import annotations

import csv
import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults import processes
from tests.faults.fleet import PlainFleet
from tests.soak.trend import Point
from worker import procfs

BACKEND = "backend"
"""What a server starts for its clients and for itself."""

SHORT_LIVED = "child"
"""Measured processes: seconds each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What one process held at one moment; bytes."""

    at_s: float  # since the soak began
    where: str  # its host, or the server that it belongs to
    role: str
    pid: int
    born: float  # seconds since the epoch: with its id it names a process
    private: int  # anonymous memory, resident or swapped: where a leak shows, and no page cache
    resident: int
    proportional: int  # PSS: shared pages divided among their users
    descriptors: int
    threads: int


@dataclass(kw_only=True)
class Sampler:
    """Looks at a fleet's processes."""

    fleet: PlainFleet
    began: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)

    def take(self) -> None:
        """One sample of every process that is there."""
        at_s = time.monotonic() - self.began
        for where, role, process in _everyone(self.fleet):
            try:
                self.samples.append(_look(process, at_s, where, role))
            except (psutil.Error, OSError):  # gone meanwhile
                continue

    def lives(self, column: str) -> dict[tuple[str, str], list[list[Point]]]:
        """Where and role → one series of a column's values for each process that had it, the oldest first."""
        found: dict[tuple[str, str], dict[tuple[float, int], list[Point]]] = {}
        for each in self.samples:
            life = found.setdefault((each.where, each.role), {}).setdefault((each.born, each.pid), [])
            life.append((each.at_s, float(getattr(each, column))))
        return {key: [lives[one] for one in sorted(lives)] for key, lives in sorted(found.items())}

    def write(self, file: Path) -> None:
        """Everything that was seen, as CSV."""
        with file.open("w", newline="") as stream:
            names = [one.name for one in dataclasses.fields(Sample)]
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(dataclasses.asdict(each) for each in self.samples)


def disk(folders: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    """Name → files below a folder and their bytes."""
    return {name: _disk(folder) for name, folder in folders.items()}


def _everyone(fleet: PlainFleet) -> Iterator[tuple[str, str, psutil.Process]]:
    marks = {host.mark: host.name for host in fleet.hosts}
    for process in psutil.process_iter():
        try:
            name = marks.get(process.environ().get(processes.MARK, ""))
            role = "" if name is None else _role(process)
        except (psutil.Error, ValueError):  # another user's, or gone
            continue
        if name is not None and role != SHORT_LIVED:
            yield name, role, process
    yield from _servers(fleet)


def _role(process: psutil.Process) -> str:
    """A host has one nursery for each runtime family."""
    role = processes.role(process)
    words = process.cmdline()
    return f"nursery {words[words.index('worker.child') + 1]}" if role == "nursery" else role


def _servers(fleet: PlainFleet) -> Iterator[tuple[str, str, psutil.Process]]:
    for server in (fleet.redis, fleet.postgres):
        if server.process is None:
            continue
        name = type(server).__name__.lower()
        mother = psutil.Process(server.process.pid)
        yield name, name, mother
        for child in mother.children():
            yield name, BACKEND, child


def _look(process: psutil.Process, at_s: float, where: str, role: str) -> Sample:
    with process.oneshot():
        memory = process.memory_full_info()
        sizes = procfs.sizes(Path(f"/proc/{process.pid}/status"))
        return Sample(
            at_s=round(at_s, 2),
            where=where,
            role=role,
            pid=process.pid,
            born=process.create_time(),
            private=sizes.get("RssAnon", 0) + sizes.get("VmSwap", 0),
            resident=memory.rss,
            proportional=memory.pss,
            descriptors=process.num_fds(),
            threads=process.num_threads(),
        )


def _disk(folder: Path) -> tuple[int, int]:
    sizes = list(_sizes(folder.rglob("*")))
    return len(sizes), sum(sizes)


def _sizes(paths: Iterable[Path]) -> Iterator[int]:
    for path in paths:
        try:
            if path.is_file():
                yield path.stat().st_size
        except OSError:  # gone meanwhile
            continue
