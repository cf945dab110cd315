"""A resolved study on some platforms: which jobs there are, what is done, what cannot run and why. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scheduler import resolve, study_spec
from scheduler import study as study_module
from scheduler.resolve import Model, Resolved
from storage import keys, records, strategies

PLANNED = "planned"
"""State of an entry that is not in the database yet."""

IMPOSSIBLE = "impossible"
"""State of an entry that its platform cannot run; `Entry.reason` says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One case on one platform, whatever becomes of it."""

    key: str  # job key
    case: records.Case
    platform_key: str
    replica: int
    state: str  # "planned", "impossible", or the job's state in the database
    reason: str | None = None  # why it is impossible
    caution: str | None = None  # what a person should know before it runs


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
            entry if entry.state == IMPOSSIBLE else dataclasses.replace(entry, state=existing.get(entry.key, PLANNED))
            for entry in self.entries
        )
        return dataclasses.replace(self, entries=tuple(entries))

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
        )


def plan(
    resolved: Resolved,
    platforms: Sequence[records.Platform],
    existing: Mapping[str, str] | None = None,
    *,
    fresh: int = 0,
) -> Plan:
    """Every case on every platform, each `replicas` times, replicas counted from `fresh`.

    The order is the same each time: platform, replica, model, then the latency cases by input and threads (so
    that strategies that share a baseline run in a row), then the accuracy cases. Threads that merge on a
    platform (`1` and `physical` on one core) make one case. `existing` holds job states by key.
    """
    entries = (
        _entry(case, platform, replica, resolved)
        for platform in {platform.key: platform for platform in platforms}.values()
        for replica in range(fresh, fresh + resolved.study.spec.replicas)
        for case in cases(resolved, platform.hardware)
    )
    spec = resolved.study.spec
    budget = records.Budget(precision=spec.precision, max_seconds=spec.max_seconds)
    return Plan(entries=tuple(entries), budget=budget).against(existing or {})


def cases(resolved: Resolved, hardware: records.Hardware) -> Iterator[records.Case]:
    """The cases of a study on one kind of machine, possible or not, without what it excludes."""
    spec = resolved.study.spec
    for model in resolved.models:
        found = [*_latency(resolved, model, hardware), *_accuracy(resolved, model)]
        for case in found:
            if not any(_excluded(entry, case, hardware) for entry in spec.exclude):
                yield case


def thread_counts(asked: Sequence[int | str], hardware: records.Hardware) -> tuple[int, ...]:
    """Thread counts on a machine, in the order asked for, duplicates merged; numbers are never clipped."""
    words: dict[int | str, list[int]] = {
        "physical": [hardware.physical_cores],
        "logical": [hardware.logical_cores],
        "all": list(range(1, hardware.logical_cores + 1)),
    }
    return tuple(
        dict.fromkeys(
            count for item in asked for count in words.get(item, [int(item)] if isinstance(item, int) else [])
        )
    )


def _latency(resolved: Resolved, model: Model, hardware: records.Hardware) -> Iterator[records.Case]:
    spec = resolved.study.spec
    if "latency" not in spec.kinds:
        return
    for asked in resolved.study.inputs:
        for threads in thread_counts(spec.threads, hardware):
            for strategy in spec.strategies:
                yield records.Case(
                    kind="latency",
                    model=model.ref,
                    strategy=strategy,
                    baseline=spec.baseline,
                    threads=threads,
                    input=asked,
                    dataset=model.dataset if asked.length == records.DATASET_LENGTH else None,
                )


def _accuracy(resolved: Resolved, model: Model) -> Iterator[records.Case]:
    spec = resolved.study.spec
    if "accuracy" not in spec.kinds or model.dataset is None:
        return
    for strategy in dict.fromkeys((spec.baseline, *spec.strategies)):
        yield records.Case(
            kind="accuracy", model=model.ref, strategy=strategy, baseline=spec.baseline, dataset=model.dataset
        )


def _excluded(entry: study_spec.Exclude, case: records.Case, hardware: records.Hardware) -> bool:
    """Whether a case matches every field that an exclude names."""
    asked = case.input
    if entry.threads is not None and case.threads not in thread_counts([entry.threads], hardware):
        return False
    if entry.model is not None and not study_module.matches(entry.model, case.model.name):
        return False
    if entry.strategy is not None and not study_module.matches(entry.strategy, case.strategy):
        return False
    return (
        entry.kind in (None, case.kind)
        and (entry.batch is None or (asked is not None and asked.batch == entry.batch))
        and (entry.length is None or (asked is not None and asked.length == entry.length))
        and (entry.padding is None or (asked is not None and asked.padding == entry.padding))
    )


def _entry(case: records.Case, platform: records.Platform, replica: int, resolved: Resolved) -> Entry:
    reason = _impossible(case, platform, resolved)
    return Entry(
        key=keys.job_key(case, platform.key, replica),
        case=case,
        platform_key=platform.key,
        replica=replica,
        state=IMPOSSIBLE if reason else PLANNED,
        reason=reason,
        caution=None if reason else _caution(case, platform.hardware),
    )


def _impossible(case: records.Case, platform: records.Platform, resolved: Resolved) -> str | None:
    cores = platform.hardware.logical_cores
    if case.threads is not None and case.threads > cores:
        return f"{case.threads} threads are more than this machine's {cores} logical cores"
    if case.input is not None:
        model = next(model for model in resolved.models if model.ref.name == case.model.name)
        reason = resolve.impossible_input(model, case.input)
        if reason:
            return reason
    reason = strategies.unsupported(strategies.parse(case.strategy), platform.hardware, platform.environment)
    if reason or case.kind == "accuracy":
        return reason
    reason = strategies.unsupported(strategies.parse(case.baseline), platform.hardware, platform.environment)
    return f"its baseline cannot run: {reason}" if reason else None


def _caution(case: records.Case, hardware: records.Hardware) -> str | None:
    quota = hardware.quota_cores
    if case.threads is not None and quota is not None and case.threads > quota:
        return f"{case.threads} threads share {quota:g} cores: a CPU quota holds this host back"
    return strategies.caution(strategies.parse(case.strategy), hardware)
