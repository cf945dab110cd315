"""The steps of a study's chain, where nobody named them: from its baseline to its fastest case (pure).

The end is the case with the largest mean log gain over the machines, of those that most machines have; being the
largest of several, it is flattered a little by chance. The way there changes one thing after the other: the model (its
transforms), the padding, the runtime, the precision, the layout of processes and threads. An intermediate case that
nobody measured is not made up: its step becomes one with the next. Where another order has more measured cases on its
way, that order is taken; the factors of steps depend on the order, their product does not.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from scheduler import shapes, steps
from scheduler.shapes import Shape
from scheduler.steps import Point, Step
from scheduler.waterfall import Cell, Start
from storage import errors, records, strategies
from storage.views import JobView

AXES = ("model", "padding", "runtime", "precision", "layout")
"""What a step changes, in the order that is tried first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Starts that differ by machine alone: their chains have the same steps."""

    starts: tuple[Start, ...]

    @property
    def model(self) -> str:
        """Its model's name."""
        return self.starts[0].model

    @property
    def point(self) -> Point:
        """Where the first of its machines begins."""
        return self.starts[0].point


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """Recognised steps."""

    steps: tuple[Step, ...]
    ends: int  # cases that the end is the fastest of


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """A configuration as a study names it, the same on every machine."""

    transforms: tuple[str, ...]
    padding: str
    runtime: str
    precision: str  # with its options
    layout: tuple[str, str] | None  # threads and instances in a study's words; None: the baseline's own

    @property
    def strategy(self) -> str:
        """Its normal form."""
        return "+".join([*self.transforms, f"{self.runtime}/{self.precision}"])


def families(starts: Iterable[Start]) -> list[Family]:
    """Starts by model, kind, baseline and input; by processes and threads too, where no gain is over others."""
    alike: dict[Hashable, list[Start]] = {}
    for start in starts:
        shape = start.point.shape
        what = (start.model, start.point.kind, start.point.strategy, shape.batch, shape.length, shape.padding)
        alike.setdefault((*what, shape.serving), []).append(start)
    return [Family(starts=tuple(part)) for group in alike.values() for part in _by_layout(group)]


def _by_layout(group: Sequence[Start]) -> list[list[Start]]:
    """Starts of one layout together, and all those that other layouts are compared with.

    On one core every layout is the same: such a machine's only start stands with those of larger ones.
    """
    counts = Counter(start.column for start in group)
    move = any(map(_moves, group))
    found: dict[Hashable, list[Start]] = {}
    for start in group:
        with_others = _moves(start) or (move and counts[start.column] == 1)
        found.setdefault(None if with_others else start.point.shape.layout, []).append(start)
    return list(found.values())


def _moves(start: Start) -> bool:
    return any(cell.own.layout != cell.base.layout for cell in start.own)


def recognise(family: Family, jobs: Iterable[JobView] = ()) -> Chain | None:
    """The chain to the family's fastest case; None where nothing but its baseline was measured.

    `jobs`: those that still wait; the way leads over their cases too, as it will when they are done.
    """
    gains = _gains(family)
    begin = _begin(family)
    ends = {place: found for place, found in gains.items() if place != begin}
    if begin is None or not ends:
        return None
    end = max(ends, key=lambda place: (len(ends[place]), math.fsum(ends[place]) / len(ends[place])))
    known = {*gains, *_planned(family, jobs)}
    return Chain(steps=tuple(_steps(begin, _way(begin, end, known))), ends=len(ends))


def _gains(family: Family) -> dict[_Place, list[float]]:
    """Every place that has a gain, with its log gain on each machine that has it."""
    places = [place for start in family.starts for cell in start.own if (place := _place(cell, start)) is not None]
    found: dict[_Place, list[float]] = {}
    for place in dict.fromkeys(places):
        logs = [math.log(gain) for start in family.starts if (gain := _gain(place, start)) is not None]
        found |= {place: logs} if logs else {}
    return found


def _gain(place: _Place, start: Start) -> float | None:
    """The gain of a place on a machine."""
    point = _point(place, start)
    return next((cell.row.gain for cell in start.own if cell.row.gain and cell.point == point), None)


def _point(place: _Place, start: Start) -> Point:
    changes = {"strategy": place.strategy, "padding": place.padding}
    if place.layout is not None:
        changes |= {"threads": place.layout[0], "instances": place.layout[1]}
    return steps.applied(Step(name="", changes=changes), start.point, start.hardware)


def _begin(family: Family) -> _Place | None:
    try:
        parsed = strategies.parse(family.point.strategy)
    except errors.StrategyError:
        return None
    return _of(parsed, family.point.shape.padding, None)


def _planned(family: Family, jobs: Iterable[JobView]) -> Iterator[_Place]:
    """The places of jobs whose gains will be over one of the family's baselines."""
    for job in jobs:
        found = shapes.read(job.input, job.threads)
        if found is not None and job.model == family.model:
            over = Point(kind=job.kind, strategy=job.baseline, shape=found[1])
            for start in family.starts:
                if start.point == over and job.platform_key in (start.column.platform.key, records.ANY_PLATFORM):
                    place = _named(job.strategy, *found, start.hardware)
                    yield from [] if place is None else [place]


def _place(cell: Cell, start: Start) -> _Place | None:
    return _named(cell.row.strategy, cell.own, cell.base, start.hardware)


def _named(strategy: str, own: Shape, base: Shape, hardware: records.Hardware) -> _Place | None:
    """None for a strategy that this installation does not know."""
    try:
        parsed = strategies.parse(strategy)
    except errors.StrategyError:
        return None
    return _of(parsed, own.padding, None if own.layout == base.layout else _words(own, hardware))


def _of(parsed: strategies.Strategy, padding: str, layout: tuple[str, str] | None) -> _Place:
    runtime, _, precision = str(parsed.untransformed).partition("/")
    transforms = tuple(map(str, parsed.steps))
    return _Place(transforms=transforms, padding=padding, runtime=runtime, precision=precision, layout=layout)


def _words(shape: Shape, hardware: records.Hardware) -> tuple[str, str]:
    threads, instances, cores = shape.threads, shape.instances, hardware.physical_cores
    return (
        "physical" if threads == cores else str(threads),
        "auto" if instances == max(1, cores // threads) else str(instances),
    )


def _way(begin: _Place, end: _Place, known: Collection[_Place]) -> list[_Place]:
    """The measured places from begin to end, the end last: of all orders of the axes the first with the most."""
    axes = [axis for axis in AXES if _set(begin, end, axis) != begin]
    ways = ([*_places(begin, end, order)] for order in itertools.permutations(axes))
    return max(([place for place in way if place in known or place == end] for way in ways), key=len)


def _places(begin: _Place, end: _Place, order: Sequence[str]) -> Iterator[_Place]:
    at = begin
    for axis in order:
        if axis == "model":
            for count in range(1, len(end.transforms)):
                yield replace(at, transforms=end.transforms[:count])
        at = _set(at, end, axis)
        yield at


def _set(place: _Place, end: _Place, axis: str) -> _Place:
    """A place with one thing as at the end."""
    if axis == "model":
        return replace(place, transforms=end.transforms)
    if axis == "padding":
        return replace(place, padding=end.padding)
    if axis == "runtime":
        return replace(place, runtime=end.runtime)
    if axis == "precision":
        return replace(place, precision=end.precision)
    return replace(place, layout=end.layout)


def _steps(begin: _Place, way: Iterable[_Place]) -> Iterator[Step]:
    at = begin
    for place in way:
        changes = {} if place.strategy == at.strategy else {"strategy": place.strategy}
        changes |= {} if place.padding == at.padding else {"padding": place.padding}
        if place.layout != at.layout and place.layout is not None:
            changes |= {"threads": place.layout[0], "instances": place.layout[1]}
        yield Step(name=" + ".join(_names(at, place)), changes=changes)
        at = place


def _names(at: _Place, place: _Place) -> Iterator[str]:
    """What a step changes, in a word each."""
    if place.transforms != at.transforms:
        kept = len(at.transforms) if place.transforms[: len(at.transforms)] == at.transforms else 0
        yield from map(_words_of, place.transforms[kept:] or ("the whole model",))
    if place.padding != at.padding:
        yield f"padding {place.padding}"
    if place.runtime != at.runtime and place.precision != at.precision:
        yield _words_of(f"{place.runtime}/{place.precision}")
    elif place.runtime != at.runtime:
        yield place.runtime
    elif place.precision != at.precision:
        yield _words_of(place.precision)
    if place.layout != at.layout:
        yield "instances × threads"


def _words_of(part: str) -> str:
    """`distil (layers 3)`: a name that can stand before the `=` of a step."""
    name, _, options = part.partition(":")
    return f"{name} ({options.replace('=', ' ').replace(',', ', ')})" if options else name
