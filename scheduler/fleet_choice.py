"""The one configuration that a whole fleet should run, by its regret on each platform (pure).

Regret is what the choice loses against the best on that platform: its latency ÷ the best latency there − 1 (of a rate:
the best ÷ its own − 1). Minimax regret (Savage 1951) takes the configuration whose worst regret is least; the other
answer weighs each platform by its hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler import points
from scheduler.across import Where
from scheduler.choose import Choice
from scheduler.measures import Objective
from scheduler.points import Configuration, Point, Workload


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cell:
    """A candidate on one platform."""

    point: Point
    regret: float  # 0.0 for the best there
    tied: bool  # the best there is not shown to be better


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidate:
    """A configuration that keeps all limits on every platform."""

    configuration: Configuration  # on the first platform, where layouts are free
    cells: Mapping[Where, Cell]
    worst: float  # largest regret
    mean: float  # weighted by hosts


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Missing:
    """A configuration that cannot be judged for the fleet, for it has no admissible number somewhere."""

    configuration: Configuration
    where: tuple[Where, ...]  # platforms on which it is missing


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FleetChoice:
    """What is best for one workload on several platforms at once."""

    workload: Workload
    hosts: Mapping[Where, int]  # weights, in the order of the platforms
    candidates: tuple[Candidate, ...]  # the least worst regret first
    weighted: Candidate | None  # the least mean regret
    ties: tuple[Candidate, ...]  # on no platform shown to be worse than the first
    missing: tuple[Missing, ...]  # the best of a platform that are no candidates

    @property
    def minimax(self) -> Candidate | None:
        """The first; None where no configuration keeps all limits everywhere."""
        return self.candidates[0] if self.candidates else None


def choose(
    choices: Iterable[Choice], objective: Objective, hosts: Mapping[Where, int], *, free_layout: bool = False
) -> list[FleetChoice]:
    """One choice for each workload that several platforms have numbers of.

    `hosts` weighs platforms (1 where a platform is missing). `free_layout`: only the strategy must be the same;
    threads, instances and the rest may be each platform's best.
    """
    groups: dict[Workload, list[Choice]] = {}
    for choice in choices:
        groups.setdefault(choice.workload, []).append(choice)
    key = _strategy if free_layout else _whole
    return [_choose(group, objective, hosts, key) for group in groups.values() if len(group) > 1]


def regret(own: float, best: float, objective: Objective) -> float:
    """What `own` loses against `best`, as a share of the best (of a rate: of its own)."""
    return max(0.0, own / best - 1 if objective.better == "less" else best / own - 1)


def _whole(configuration: Configuration) -> Hashable:
    return configuration


def _strategy(configuration: Configuration) -> Hashable:
    return configuration.strategy


def _choose(
    group: Sequence[Choice],
    objective: Objective,
    hosts: Mapping[Where, int],
    key: Callable[[Configuration], Hashable],
) -> FleetChoice:
    weights = {choice.where: hosts.get(choice.where, 1) for choice in group}
    found = _by_key(group, key)
    best = {choice.where: choice.ranked[0].point for choice in group if choice.ranked}
    whole = [cells for cells in found.values() if len(cells) == len(group)]
    candidates = [_candidate(cells, best, objective, weights) for cells in whole]
    candidates.sort(key=lambda one: (one.worst, one.mean))
    return FleetChoice(
        workload=group[0].workload,
        hosts=weights,
        candidates=tuple(candidates),
        weighted=min(candidates, key=lambda one: (one.mean, one.worst), default=None),
        ties=tuple(one for one in candidates[1:] if _tied(candidates[0], one, objective)),
        missing=_missing(best, found, weights, key),
    )


def _by_key(group: Sequence[Choice], key: Callable[[Configuration], Hashable]) -> dict[Hashable, dict[Where, Point]]:
    """The best admissible point of each key on each platform."""
    found: dict[Hashable, dict[Where, Point]] = {}
    for choice in group:
        for judged in choice.ranked:
            found.setdefault(key(judged.point.configuration), {}).setdefault(choice.where, judged.point)
    return found


def _candidate(
    cells: Mapping[Where, Point], best: Mapping[Where, Point], objective: Objective, weights: Mapping[Where, int]
) -> Candidate:
    found = {where: _cell(cells[where], best[where], objective) for where in weights}
    regrets = {where: cell.regret for where, cell in found.items()}
    total = sum(weights.values())
    return Candidate(
        configuration=next(iter(found.values())).point.configuration,
        cells=found,
        worst=max(regrets.values()),
        mean=sum(weights[where] * value for where, value in regrets.items()) / total,
    )


def _cell(point: Point, best: Point, objective: Objective) -> Cell:
    own, least = (one.measures[objective.name].value for one in (point, best))
    tied = not points.shown_better(best, point, objective)
    return Cell(point=point, regret=regret(own, least, objective), tied=tied)


def _tied(first: Candidate, other: Candidate, objective: Objective) -> bool:
    pairs = ((first.cells[where].point, other.cells[where].point) for where in first.cells)
    return not any(points.shown_better(own, point, objective) for own, point in pairs)


def _missing(
    best: Mapping[Where, Point],
    found: Mapping[Hashable, Mapping[Where, Point]],
    weights: Mapping[Where, int],
    key: Callable[[Configuration], Hashable],
) -> tuple[Missing, ...]:
    missing: dict[Hashable, Missing] = {}
    for point in best.values():
        has = found[key(point.configuration)]
        lacks = tuple(where for where in weights if where not in has)
        if lacks:
            missing[key(point.configuration)] = Missing(configuration=point.configuration, where=lacks)
    return tuple(missing.values())
