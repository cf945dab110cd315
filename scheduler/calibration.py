"""Which `ceilings` jobs there are to plan, and what is known of each hardware (pure, apart from `look`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler.plan import Known
from storage import ceilings, errors, foreign, keys, queries, records
from storage.database import Database
from storage.views import CeilingsView, HostView, JobView

LEAST_START = 4
"""Least beginning of a hardware key that stands for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """One hardware, its newest ceilings, and what is being done about them."""

    key: str
    hardware: records.Hardware
    hosts: tuple[str, ...]  # that are of it now
    ceilings: CeilingsView | None
    job: JobView | None  # the newest `ceilings` job of any of its platforms


def look(db: Database) -> tuple[Machine, ...]:
    """Every hardware that a host ever had, by CPU name and key."""
    platforms = {key: one for key, one in queries.platforms(db).items() if not foreign.told_by(one)}
    hosts, known = queries.hosts(db), queries.ceilings(db)
    jobs = [job for job in queries.jobs(db) if job.kind == "ceilings"]
    return machines(platforms, hosts, known, jobs)


def machines(
    platforms: Mapping[str, records.Platform],
    hosts: Iterable[HostView],
    known: Mapping[str, CeilingsView],
    jobs: Iterable[JobView],
) -> tuple[Machine, ...]:
    """See `look`."""
    hardware = {one.hardware_key: one.hardware for one in platforms.values()}
    newest: dict[str, JobView] = {}
    for job in sorted(jobs, key=lambda job: job.created_at):
        if job.platform_key in platforms:
            newest[platforms[job.platform_key].hardware_key] = job
    names: dict[str, list[str]] = {}
    for host in hosts:
        names.setdefault(host.platform.hardware_key, []).append(host.name)
    found = (
        Machine(key=key, hardware=what, hosts=tuple(names.get(key, ())), ceilings=known.get(key), job=newest.get(key))
        for key, what in hardware.items()
    )
    return tuple(sorted(found, key=lambda one: (one.hardware.cpu, one.key)))


def pick(machines: Sequence[Machine], wanted: str) -> tuple[Machine, ...]:
    """The machines that a word means: the start of a key, a host's name, or a part of the CPU's name.

    Raises QueryError with the nearest of what there is.
    """
    word = wanted.lower()
    found = tuple(one for one in machines if _means(word, one))
    if found:
        return found
    names = [name for one in machines for name in (one.key, one.hardware.cpu, *one.hosts)]
    lower = {name.lower(): name for name in names}
    near = errors.nearest(word, lower)
    for small, name in lower.items():
        near = near.replace(repr(small), repr(name))
    there = ", ".join(f"{one.key[:8]} ({one.hardware.cpu})" for one in machines) or "none yet"
    raise errors.QueryError(f"no hardware is called {wanted!r}{near} (there is {there})")


def jobs(platforms: Iterable[records.Platform], known: Known, *, fresh: bool = False) -> tuple[records.PlannedJob, ...]:
    """One `ceilings` job for each platform; `fresh`: as the next replica that none has yet."""
    keys_ = dict.fromkeys(platform.key for platform in platforms)
    return tuple(_job(key, _free(key, known) if fresh else 0) for key in keys_)


def _means(word: str, machine: Machine) -> bool:
    starts = len(word) >= LEAST_START and machine.key.startswith(word)
    return starts or word in machine.hardware.cpu.lower() or word in map(str.lower, machine.hosts)


def _free(platform_key: str, known: Known) -> int:
    replica = 0
    while known([_job(platform_key, replica).key]):
        replica += 1
    return replica


def _job(platform_key: str, replica: int) -> records.PlannedJob:
    case = ceilings.case()
    key = keys.job_key(case, platform_key, replica)
    return records.PlannedJob(key=key, case=case, platform_key=platform_key, replica=replica, budget=records.Budget())
