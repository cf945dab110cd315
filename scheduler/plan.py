"""A resolved study on some targets: which jobs there are, what is done, what cannot run and why. Pure."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scheduler import cases, preparing, resolve
from scheduler.resolve import Resolved
from scheduler.targets import Target
from storage import keys, operations, records, strategies

PLANNED = "planned"
"""State of an entry that is not in the database yet."""

IMPOSSIBLE = "impossible"
"""State of an entry that its target cannot run; `Entry.reason` says why."""

Known = Callable[[Iterable[str]], Mapping[str, str]]
"""Asks the database: the states of those jobs among the keys that exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One case on one target, whatever becomes of it."""

    key: str  # job key
    case: records.Case
    target: Target
    replica: int
    state: str  # "planned", "impossible", or the job's state in the database
    reason: str | None = None  # why it is impossible
    caution: str | None = None  # what a person should know before it runs
    after: tuple[str, ...] = ()  # keys of the preparations that it waits for

    @property
    def platform_key(self) -> str:
        """What the job is for, or records.ANY_PLATFORM."""
        return self.target.platform_key

    @property
    def wanted_host(self) -> str | None:
        """The one host that the job is for."""
        return self.target.host


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Every entry of a study, in the order in which it should run."""

    entries: tuple[Entry, ...]
    budget: records.Budget

    @property
    def keys(self) -> tuple[str, ...]:
        """Job keys of everything that can run: what to ask the database about."""
        return tuple(entry.key for entry in self.entries if entry.state != IMPOSSIBLE)

    @property
    def jobs(self) -> tuple[records.PlannedJob, ...]:
        """The new jobs: possible, and not in the database yet."""
        return self._jobs(entry for entry in self.entries if entry.state == PLANNED)

    @property
    def all_jobs(self) -> tuple[records.PlannedJob, ...]:
        """Every job of the study that can run, known to the database or not."""
        return self._jobs(entry for entry in self.entries if entry.state != IMPOSSIBLE)

    @property
    def every_job(self) -> tuple[records.PlannedJob, ...]:
        """Every entry as a job, impossible ones too: submitted, they become results that say why not."""
        return self._jobs(self.entries)

    def against(self, existing: Mapping[str, str]) -> Plan:
        """The same plan, with the states (by job key) that the database has."""
        entries = (
            entry
            if entry.state in (IMPOSSIBLE, state := existing.get(entry.key, PLANNED))
            else dataclasses.replace(entry, state=state)
            for entry in self.entries
        )
        return dataclasses.replace(self, entries=tuple(entries))

    def by_target(self) -> Iterator[tuple[Target, list[Entry]]]:
        """Each target with its entries."""
        for _, found in itertools.groupby(self.entries, key=lambda entry: entry.target.route):
            entries = list(found)
            yield entries[0].target, entries

    def counts(self) -> dict[str, int]:
        """How many entries are in each state."""
        return dict(Counter(entry.state for entry in self.entries))

    def _jobs(self, entries: Iterable[Entry]) -> tuple[records.PlannedJob, ...]:
        # Two names for one model give one key, and one job.
        return tuple({entry.key: self._job(entry) for entry in entries}.values())

    def _job(self, entry: Entry) -> records.PlannedJob:
        return records.PlannedJob(
            key=entry.key,
            case=entry.case,
            platform_key=entry.platform_key,
            replica=entry.replica,
            budget=self.budget,
            wanted_host=entry.wanted_host,
            after=entry.after,
        )


def plan(resolved: Resolved, targets: Sequence[Target], existing: Mapping[str, str] | None = None) -> Plan:
    """Every case on every target, each `replicas` times.

    The order is the same each time: what is prepared first, then target, replica, model, then the latency cases by
    input and threads (so that strategies that share a baseline run in a row), the other kinds, the accuracy cases
    last. Threads that merge on a platform (`1` and `physical` on one core) make one case. `existing` holds job states
    by key.
    """
    places = list({target.route: target for target in targets}.values())
    judge = _Judge(resolved, preparing.place(places))
    entries: list[Entry] = []
    first: dict[str, Entry] = {}
    for target in places:
        once = [judge.entry(case, target) for case in cases.cases(resolved, _hardware(target))]
        first |= _preparations(once, judge)
        entries += _replicas(once, resolved.study.spec.replicas)
    return Plan(entries=(*first.values(), *entries), budget=budget(resolved)).against(existing or {})


def fresh(resolved: Resolved, targets: Sequence[Target], known: Known) -> Plan:
    """The same cases as replicas that do not exist yet: each has its own next number, whoever measured it before.

    What cannot run is not asked for again, and what is prepared stays as it is.
    """
    planned = plan(resolved, targets)
    possible = (entry for entry in planned.entries if entry.state != IMPOSSIBLE and entry.case.kind != "prepare")
    numbers = _free({_key(entry, 0): entry for entry in possible}, resolved.study.spec.replicas, known)
    entries = (_renumbered(entry, numbers.get(_key(entry, 0))) for entry in planned.entries)
    return dataclasses.replace(planned, entries=tuple(entries))


def _free(firsts: Mapping[str, Entry], count: int, known: Known) -> dict[str, list[int]]:
    """The lowest replica numbers that no job has, so many for each case, by the key of its first replica."""
    found: dict[str, list[int]] = {first: [] for first in firsts}
    number = 0
    while asked := {first: _key(entry, number) for first, entry in firsts.items() if len(found[first]) < count}:
        there = known(asked.values())
        for first, key in asked.items():
            if key not in there:
                found[first].append(number)
        number += 1
    return found


def _renumbered(entry: Entry, numbers: Sequence[int] | None) -> Entry:
    if numbers is None:
        return entry
    replica = numbers[entry.replica]
    return dataclasses.replace(entry, replica=replica, key=_key(entry, replica))


def _key(entry: Entry, replica: int) -> str:
    return keys.job_key(entry.case, entry.platform_key, replica, entry.wanted_host)


def budget(resolved: Resolved) -> records.Budget:
    """How precise a study wants its gains, and what that may cost."""
    spec = resolved.study.spec
    return records.Budget(precision=spec.precision, max_seconds=spec.max_seconds, min_pairs=spec.min_pairs)


def _hardware(target: Target) -> records.Hardware | None:
    return None if target.platform_key == records.ANY_PLATFORM else target.platforms[0].hardware


def _replicas(once: Sequence[Entry], count: int) -> Iterator[Entry]:
    """Each entry so many times, every case before the next replica of any."""
    yield from once
    if count == 1:
        return
    identities = [keys.job_identity(entry.case, entry.platform_key, entry.wanted_host) for entry in once]
    for replica in range(1, count):
        for entry, identity in zip(once, identities, strict=True):
            yield dataclasses.replace(entry, replica=replica, key=keys.replica_key(identity, replica))


def _preparations(entries: Sequence[Entry], judge: _Judge) -> dict[str, Entry]:
    """The `prepare` jobs of everything that can run, by their keys, in the order in which they must run."""
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.state == IMPOSSIBLE:
            continue
        for one in judge.before(entry.case):
            if one.key not in found:
                found[one.key] = judge.entry(one.case, judge.where, one.after)
    return found


class _Judge:
    """Makes entries for a study's cases; what many cases have in common is found out once.

    Cases that differ in input and threads alone have the same strategies, data and preparations.
    """

    def __init__(self, resolved: Resolved, where: Target) -> None:
        self.where = where  # of the preparations
        self._models = {model.ref.name: model for model in resolved.models}
        self._before: dict[Hashable, tuple[preparing.Preparation, ...]] = {}
        self._awaited: dict[Hashable, tuple[str, ...]] = {}
        self._reasons: dict[Hashable, str | None] = {}
        self._cautions: dict[Hashable, str | None] = {}

    def entry(self, case: records.Case, target: Target, after: tuple[str, ...] | None = None) -> Entry:
        """A case on a target, its first replica; it waits for what its strategies need unless told otherwise."""
        reason = _everywhere(target, lambda platform: self._impossible(case, platform))
        caution = None if reason else _everywhere(target, lambda platform: self._caution(case, platform))
        return Entry(
            key=keys.job_key(case, target.platform_key, 0, target.host),
            case=case,
            target=target,
            replica=0,
            state=IMPOSSIBLE if reason else PLANNED,
            reason=reason,
            caution=caution,
            after=self._after(case) if after is None else after,
        )

    def before(self, case: records.Case) -> tuple[preparing.Preparation, ...]:
        """The preparations that a case needs."""
        key = _strategies(case)
        if key not in self._before:
            self._before[key] = tuple(preparing.before(case, self.where))
        return self._before[key]

    def _after(self, case: records.Case) -> tuple[str, ...]:
        key = _strategies(case)
        if key not in self._awaited:
            self._awaited[key] = preparing.awaited(case, self.where)
        return self._awaited[key]

    def _impossible(self, case: records.Case, platform: records.Platform) -> str | None:
        reason = _too_wide(case, platform.hardware.logical_cores)
        if reason:
            return reason
        if case.input is not None:
            reason = resolve.impossible_input(self._models[case.model.name], case.input)
            if reason:
                return reason
        key = (platform.key, *_strategies(case))
        if key not in self._reasons:
            self._reasons[key] = _sides_impossible(case, platform)
        return self._reasons[key]

    def _caution(self, case: records.Case, platform: records.Platform) -> str | None:
        quota = platform.hardware.quota_cores
        if case.cores is not None and quota is not None and case.cores > quota:
            return f"{case.cores} threads share {quota:g} cores: a CPU quota holds this host back"
        key = (platform.key, case.kind, case.strategy)
        if key not in self._cautions:
            self._cautions[key] = _caution(case, platform.hardware)
        return self._cautions[key]


def _strategies(case: records.Case) -> tuple[str, ...]:
    """What a case's data and preparations follow from within one study."""
    return case.kind, case.model.name, case.strategy, case.baseline


def _everywhere(target: Target, about: Callable[[records.Platform], str | None]) -> str | None:
    """What holds on every platform that may run a case, in the words of the first one; None if not on all."""
    found = [about(platform) for platform in target.platforms]
    return found[0] if all(found) else None


def _too_wide(case: records.Case, cores: int) -> str | None:
    if case.cores is None or case.cores <= cores:
        return None
    worst = max((case.layout(side) for side in ("strategy", "baseline")), key=math.prod)
    what = f"{case.threads} threads" if case.instances is None else "{} × {} threads".format(*worst)
    return f"{what} are more than this machine's {cores} logical cores"


def _sides_impossible(case: records.Case, platform: records.Platform) -> str | None:
    if case.kind == "tensor":
        return _operation_impossible(case, platform)
    reason = _strategy_impossible(case, case.strategy, platform)
    if reason or case.kind not in records.PAIRED:
        return reason
    reason = _strategy_impossible(case, case.baseline, platform)
    return f"its baseline cannot run: {reason}" if reason else None


def _operation_impossible(case: records.Case, platform: records.Platform) -> str | None:
    found = (
        operations.unsupported(operations.parse(name), platform.hardware, platform.environment) for name in case.sides
    )
    return next((reason for reason in found if reason), None)


def _strategy_impossible(case: records.Case, text: str, platform: records.Platform) -> str | None:
    strategy = strategies.parse(text)
    for name in strategy.datasets:
        if case.model.source == "random":
            return f"{text} reads data={name}, and random weights have no tokenizer to read texts with"
        if name not in case.data:
            return f"{text} reads data={name}, and there is no dataset for this model"
    return strategies.unsupported(strategy, platform.hardware, platform.environment)


def _caution(case: records.Case, hardware: records.Hardware) -> str | None:
    if case.kind == "tensor":
        return operations.caution(operations.parse(case.strategy), hardware)
    return strategies.caution(strategies.parse(case.strategy), hardware)
