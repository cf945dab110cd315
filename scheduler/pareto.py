"""The Pareto front of each workload on each platform, with intervals respected (pure).

In one objective a point beats another only where their intervals do not touch; otherwise neither does. A point is
dominated by another that beats it somewhere and is beaten by it nowhere. As overlapping is not transitive, points may
dominate one another in a circle (each wins another objective by a hair); such points are kept together, so that a
front is never empty. Without intervals this is the ordinary front.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduler import points
from scheduler.across import Where
from scheduler.measures import Measure, Objective
from scheduler.points import Point, Workload

DEFAULT = ("latency", "throughput", "accuracy", "size", "memory", "cost")
"""Objectives of a front, of those that are measured."""

Matrix = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dominated:
    """A point off the front."""

    point: Point
    by: Point  # on the front where one dominates it directly, otherwise any that does
    in_: tuple[str, ...]  # objectives in which that one is shown to be better


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Front:
    """One workload on one platform."""

    workload: Workload
    where: Where
    objectives: tuple[Objective, ...]  # those that any point has
    unmeasured: tuple[str, ...]  # objectives that were asked for and that no point has
    points: tuple[Point, ...]  # on the front, the best of the first objective first
    dominated: tuple[Dominated, ...]
    unplaced: tuple[tuple[Point, tuple[str, ...]], ...]  # points that lack objectives, with which


def fronts(found: Iterable[Point], objectives: Sequence[Objective]) -> list[Front]:
    """A front for each workload and platform that has at least two measured objectives, in their order."""
    groups = points.workloads(found)
    every = [_front(workload, where, own, objectives) for workload, by in groups.items() for where, own in by.items()]
    return [front for front in every if len(front.objectives) > 1]


def dominance(found: Sequence[Point], objectives: Sequence[Objective]) -> Matrix:
    """`[i, j]`: whether point i dominates point j."""
    somewhere: Matrix = np.zeros((len(found), len(found)), dtype=bool)
    for objective in objectives:
        somewhere |= _beats(found, objective)
    dominates: Matrix = somewhere & ~somewhere.T
    return dominates


def undominated(dominates: Matrix) -> npt.NDArray[np.bool_]:
    """Which points no other dominates, those of its own circle apart."""
    reaches = dominates.copy()
    for middle in range(len(reaches)):  # Warshall (1962): which points a chain leads to
        reaches |= np.outer(reaches[:, middle], reaches[middle])
    dominated: npt.NDArray[np.bool_] = np.any(dominates & ~reaches.T, axis=0)
    return ~dominated


def _beats(found: Sequence[Point], objective: Objective) -> Matrix:
    """`[i, j]`: whether point i is shown to be better than point j (`measures.shown_better`, for all pairs at once)."""
    own = [point.measures[objective.name] for point in found]
    numbers: dict[Hashable, int] = {}
    # a measure without a yardstick shares it with nobody
    keys: list[Hashable] = [object() if one.yardstick is None else one.yardstick for one in own]
    yardsticks = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    same = yardsticks[:, None] == yardsticks
    near, wide = (_shown(_ends(own, name), objective) for name in ("near", "wide"))
    beats: Matrix = np.where(same, near, wide).reshape(len(own), len(own))
    return beats


def _ends(own: Sequence[Measure], name: str) -> npt.NDArray[np.float64]:
    """Intervals [points, 2]; NaN, which is on no side of anything, for none."""
    found = [getattr(one, name) or (np.nan, np.nan) for one in own]
    return np.array(found, dtype=np.float64).reshape(len(own), 2)


def _shown(ends: npt.NDArray[np.float64], objective: Objective) -> Matrix:
    low, high = ends[:, 0], ends[:, 1]
    shown: Matrix = high[:, None] < low if objective.better == "less" else low[:, None] > high
    return shown


def _front(workload: Workload, where: Where, own: Sequence[Point], wanted: Sequence[Objective]) -> Front:
    measured = tuple(one for one in wanted if any(one.name in point.measures for point in own))
    lacking = {point: tuple(one.name for one in measured if one.name not in point.measures) for point in own}
    placed = [point for point, names in lacking.items() if not names]
    placed = points.ranked(placed, measured[0]) if measured else []
    dominates = dominance(placed, measured)
    on = undominated(dominates)
    return Front(
        workload=workload,
        where=where,
        objectives=measured,
        unmeasured=tuple(one.name for one in wanted if one not in measured),
        points=tuple(point for point, kept in zip(placed, on, strict=True) if kept),
        dominated=tuple(_dominated(placed, number, dominates, on, measured) for number in _numbers(~on)),
        unplaced=tuple((point, names) for point, names in lacking.items() if names),
    )


def _dominated(
    placed: Sequence[Point], number: int, dominates: Matrix, on: npt.NDArray[np.bool_], objectives: Sequence[Objective]
) -> Dominated:
    owners = _numbers(dominates[:, number])
    by = placed[min(owners, key=lambda owner: (not on[owner], owner))]
    point = placed[number]
    won = tuple(one.name for one in objectives if points.shown_better(by, point, one))
    return Dominated(point=point, by=by, in_=won)


def _numbers(which: npt.NDArray[np.bool_]) -> list[int]:
    """Where it is true."""
    return [int(number) for number in np.flatnonzero(which)]
