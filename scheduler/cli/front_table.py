"""Pareto fronts for people: a table for each, and what is off it or could not be placed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from scheduler.cli import tables
from scheduler.cli.decide_tables import Machines, dim, layout_cell, strategy_cell, title, value_cell
from scheduler.measures import Objective
from scheduler.pareto import Front
from scheduler.points import Point
from storage import metrics

SHOWN = 12
"""Lines of a list, at most."""


def render(found: Sequence[Front], machines: Machines, width: int, *, everything: bool, asked: bool) -> RenderableType:
    """A table for each front, and what is off it; `asked`: objectives were named, so that a missing one is said."""
    parts: list[RenderableType] = []
    for front in found:
        over = ", ".join(objective.name for objective in front.objectives)
        where = f" on {machines[front.where].name}"
        parts += [title(front.workload, [one.workload for one in found], f"front over {over}", (), where)]
        parts += [*_front(front, width, everything)]
        parts += [dim(f"{name} is not measured here, and left out") for name in _unmeasured(front, asked)]
        parts.append(Text())
    if found:
        parts.append(dim("off the front: another is shown to be better in something, and worse in nothing"))
        parts.append(dim("where intervals touch, neither is better; points: accuracy against the baseline's"))
    return Group(*parts)


def _front(front: Front, width: int, everything: bool) -> Iterator[RenderableType]:
    def column(objective: Objective) -> tables.Column[Point]:
        return tables.Column(title=objective.label, cell=lambda point: value_cell(point, objective), left=True)

    yield from tables.folded(_POINT, [column(one) for one in front.objectives], [("", front.points)], width)
    lines = [f"{point.configuration.name}: no {', '.join(names)}" for point, names in front.unplaced]
    yield from tables.listed("not placed", _shortened(lines))
    if everything:
        lines = [
            f"{one.point.configuration.name}: {one.by.configuration.name} is better in {', '.join(one.in_)}"
            for one in front.dominated
        ]
        yield from tables.listed("off the front", lines)
    elif front.dominated:
        yield Text(f"{metrics.counted(len(front.dominated), 'configuration')} off the front (--all).")


def _unmeasured(front: Front, asked: bool) -> list[str]:
    """Of the usual objectives only accuracy is missed; a study measures latencies or rates."""
    return [name for name in front.unmeasured if asked or name == "accuracy"]


def _shortened(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"and {more} more"] if more > 0 else list(lines)


_POINT: tuple[tables.Column[Point], ...] = (
    tables.Column(title="strategy", cell=lambda one: strategy_cell(one.configuration), left=True),
    tables.Column(title="layout", cell=lambda one: layout_cell(one.configuration), left=True),
)
