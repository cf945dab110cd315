"""Pareto fronts for a report: those that `quantfleet pareto` shows, each with its slice (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler import compare, measures, pareto, points
from scheduler.across import Where
from scheduler.compare import Comparison
from scheduler.measures import Objective

if TYPE_CHECKING:
    from scheduler.report.contents import Place

BEATEN = 20
"""Configurations off a front that the page shows, the best of its first objective; the others are counted."""

OBJECTIVES = tuple(measures.OBJECTIVES[name] for name in pareto.DEFAULT)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Front:
    """A front as the page shows it."""

    slice: int  # of the inputs that its configurations have, and all their thread counts
    place: Place
    found: pareto.Front

    @property
    def axes(self) -> tuple[Objective, Objective]:
        """What a plot of it shows: the first objective, over it accuracy where that is measured."""
        first, *others = self.found.objectives
        return first, next((one for one in others if one.name == "accuracy"), others[0])

    @property
    def beaten(self) -> Sequence[pareto.Dominated]:
        """What the page shows of what is off the front."""
        return self.found.dominated[:BEATEN]

    @property
    def left_out(self) -> int:
        """Configurations off the front that are only counted."""
        return len(self.found.dominated) - len(self.beaten)

    @property
    def unplaced(self) -> int:
        """Configurations that lack a number of the front's objectives."""
        return len(self.found.unplaced)


def fronts(
    rows: Iterable[Comparison],
    prices: Mapping[Where, float],
    placed: Callable[[Where], tuple[int, Place]],
    number: Callable[[str, tuple[str, ...], int], int],
) -> tuple[Front, ...]:
    """The fronts of rows that our own workers measured.

    `prices`: of an hour, by platform. `placed` gives a platform's number and name, `number` the slice of a model's
    inputs on it.
    """
    found = []
    for one in pareto.fronts(points.plot(answers(rows), prices).points, OBJECTIVES):
        at, place = placed(one.where)
        found.append(Front(slice=number(one.workload.model, _inputs(one), at), place=place, found=one))
    return tuple(found)


def answers(rows: Iterable[Comparison]) -> list[Comparison]:
    """Rows that a choice is made from: our own, of calls and servers."""
    return [row for row in compare.of_ours(rows) if row.kind in points.KINDS]


def objectives(found: Iterable[Front]) -> tuple[Objective, ...]:
    """Those that any of the fronts is over, in their usual order."""
    names = {objective.name for front in found for objective in front.found.objectives}
    return tuple(one for one in OBJECTIVES if one.name in names)


def _inputs(front: pareto.Front) -> tuple[str, ...]:
    """Labels of what the front's configurations were asked: paddings and instances make several of one workload."""
    every: Sequence[points.Point] = (*front.points, *(one.point for one in front.dominated))
    return tuple(dict.fromkeys(point.row.input or "" for point in every))
