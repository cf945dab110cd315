"""What must be prepared before anything is measured with it: trainings, and everything for `prepare: once` (pure).

A training takes minutes and gives other weights each time, so it is a job of its own that runs once, on whichever of a
study's hosts comes first; what is measured with its model waits for it. With `prepare: once` the same holds for every
artifact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scheduler.targets import Target
from storage import keys, records, strategies


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """One `prepare` job."""

    key: str
    case: records.Case
    after: tuple[str, ...]  # keys of the preparations that it builds on


def place(targets: Sequence[Target]) -> Target:
    """Where a study's preparations run: on its one target, or on whichever of its hosts comes first."""
    routes = {target.route: target for target in targets}
    if len(routes) == 1:
        return targets[0]
    platforms = {platform.key: platform for target in targets for platform in target.platforms}
    hosts = tuple(dict.fromkeys(host for target in targets for host in target.hosts))
    return Target(platform_key=records.ANY_PLATFORM, platforms=tuple(platforms.values()), hosts=hosts)


def before(case: records.Case, where: Target) -> Iterator[Preparation]:
    """The preparations that a case needs, in the order in which they must run."""
    if case.kind == "tensor":
        return
    for text in case.sides:
        yield from _of_strategy(case, strategies.parse(text), where)


def awaited(case: records.Case, where: Target) -> tuple[str, ...]:
    """Keys of the preparations that a case waits for: the last one of each of its strategies."""
    last = {str(found.case.strategy): found for found in before(case, where)}
    built_on = {key for found in last.values() for key in found.after}
    return tuple(found.key for found in last.values() if found.key not in built_on)


def _of_strategy(case: records.Case, strategy: strategies.Strategy, where: Target) -> Iterator[Preparation]:
    steps = [*strategy.trained, *([strategy] if case.prepare == "once" else [])]
    previous: tuple[str, ...] = ()
    for step in dict.fromkeys(steps):
        prepared = _case(case, step)
        key = keys.job_key(prepared, where.platform_key, 0, where.host)
        yield Preparation(key=key, case=prepared, after=previous)
        previous = (key,)


def _case(case: records.Case, strategy: strategies.Strategy) -> records.Case:
    return records.Case(
        kind="prepare",
        model=case.model,
        strategy=str(strategy),
        baseline=str(strategy),
        data=strategies.data_of(strategy, case),
        prepare=case.prepare,
    )
