"""The best configuration on each platform under limits, and what ties with it or comes near (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scheduler import demands, points
from scheduler.across import Where
from scheduler.demands import Judged, Limit
from scheduler.measures import Objective, ranks_before
from scheduler.points import Point, Workload

NEAREST = 5
"""Configurations that are shown where none keeps all limits."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Choice:
    """What is best for one workload on one platform."""

    workload: Workload
    where: Where
    ranked: tuple[Judged, ...]  # that keep all limits, the best estimate first
    ties: tuple[Judged, ...]  # of them, not shown to be worse than the first
    unshown: tuple[Judged, ...]  # better by estimate than the best, not shown to keep the limits
    nearest: tuple[Judged, ...]  # where none keeps all limits: the nearest first
    missed: int  # how many configurations do not keep all limits

    @property
    def best(self) -> Judged | None:
        """The first; None where nothing keeps all limits."""
        return self.ranked[0] if self.ranked else None


def choose(found: Iterable[Point], objective: Objective, limits: Sequence[Limit]) -> list[Choice]:
    """A choice for each workload and platform on which anything has a measure of the objective."""
    choices = []
    for workload, platforms in points.workloads(found).items():
        for where, own in platforms.items():
            candidates = points.ranked(own, objective)
            if candidates:
                choices.append(_choice(workload, where, demands.judge(candidates, limits), objective))
    return choices


def _choice(workload: Workload, where: Where, judged: Sequence[Judged], objective: Objective) -> Choice:
    met = [one for one in judged if one.state == "met"]
    return Choice(
        workload=workload,
        where=where,
        ranked=tuple(met),
        ties=tuple(_ties(met, objective)),
        unshown=tuple(one for one in judged if one.state == "not shown" and _ahead(one, met, objective)),
        nearest=() if met else tuple(sorted(judged, key=lambda one: one.distance)[:NEAREST]),
        missed=len(judged) - len(met),
    )


def _ties(met: Sequence[Judged], objective: Objective) -> list[Judged]:
    if not met:
        return []
    first, *rest = met
    tied = {id(point) for point in points.ties(first.point, [one.point for one in rest], objective)}
    return [one for one in rest if id(one.point) in tied]


def _ahead(one: Judged, met: Sequence[Judged], objective: Objective) -> bool:
    """Whether it would be the best; true where there is none."""
    if not met:
        return False  # it stands among the nearest
    own, best = (each.point.measures[objective.name].value for each in (one, met[0]))
    return ranks_before(own, best, objective.better)
