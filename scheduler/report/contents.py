"""Comparisons and what belongs to them → everything that a report says, as frozen records (pure).

A report is made of *lines* (one comparison each) and of what is derived from them. Each line, point and table row
belongs to a *slice*: a model, an input, a number of threads and a platform. The page's filters pick slices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scheduler import across, across_notes, compare
from scheduler.across import Where
from scheduler.compare import Comparison
from scheduler.paired import Accuracy
from scheduler.report import front, noise, scaling
from scheduler.report.spread import Spread
from scheduler.report.weights import Weight
from storage import foreign, records
from storage.views import CeilingsView, StudyView

STATES = ("done", "unsupported", "failed", "dead", "cancelled", "left out")
"""States of lines, in the order in which they are counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """What the filters pick by; None fits every choice."""

    model: str
    input: str | tuple[str, ...] | None  # several: each of them fits
    threads: int | None
    place: int  # index of the platform


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A platform as the report calls it."""

    name: str  # short, and told apart from the others
    hosts: tuple[str, ...]
    platform: records.Platform
    marks: tuple[str, ...]  # "software": other versions than most platforms have


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One comparison."""

    number: int  # from 0, in the order of the report
    slice: int
    place: Place
    found: Comparison
    name: str  # the strategy, with its baseline where the case has several of them


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyLine:
    """A strategy's accuracy on a platform, once for all inputs and thread counts."""

    slice: int
    place: Place
    model: str
    strategy: str
    baseline: str
    found: Accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class Top:
    """The largest gains of a model on a platform whose intervals exclude ×1."""

    slice: int
    place: Place
    model: str
    fastest: Line | None  # of all strategies
    lossless: Line | None  # of those whose paired accuracy shows no loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One named step of a waterfall."""

    name: str
    factor: float  # what this step alone gains
    low: float | None  # 95 % interval of the factor
    high: float | None
    product: float  # of this step and all before it
    product_low: float | None = None
    product_high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Waterfall:
    """Steps from a baseline to a configuration, on one platform."""

    title: str
    model: str
    platform_key: str
    steps: tuple[Step, ...]
    slice: int = -1  # given by `report`


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """Where a report comes from."""

    title: str
    study: str | None  # None: everything that the database holds
    made_at: float  # epoch seconds
    version: str  # of quantfleet
    database: str  # its address without a password
    chosen: tuple[str, ...] = ()  # what the command line narrowed it to, in words
    include_disturbed: bool = False
    left_out: int = 0  # disturbed results that are not counted
    page: int = 1
    pages: int = 1  # that the results have
    elsewhere: int = 0  # cases on the other pages
    most_spreads: int = 0  # jobs whose raw samples were to be read
    waiting: int = 0  # jobs that have not come to their end


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that the page says."""

    about: About
    slices: tuple[Slice, ...]
    places: tuple[Place, ...]
    lines: tuple[Line, ...]
    accuracies: tuple[AccuracyLine, ...]
    tops: tuple[Top, ...]
    spreads: tuple[Spread, ...]
    scalings: tuple[scaling.Scaling, ...]
    fronts: tuple[front.Front, ...]
    waterfalls: tuple[Waterfall, ...]
    weights: tuple[Weight, ...]
    weights_left: int  # stored ones that are not shown
    noises: tuple[noise.Noise, ...]
    marks: Mapping[str, int]  # mark → lines that carry it
    states: Mapping[str, int]  # state → lines
    sentences: tuple[str, ...]  # flips, contents and software that differ
    studies: tuple[StudyView, ...]
    models: tuple[str, ...]  # names


class Slices:
    """Numbers slices as they are met."""

    def __init__(self) -> None:
        self._numbers: dict[Slice, int] = {}

    def number(self, model: str, input_: str | tuple[str, ...] | None, threads: int | None, place: int) -> int:
        """The index of a slice, a new one for one that was not met before."""
        found = Slice(model=model, input=input_, threads=threads, place=place)
        return self._numbers.setdefault(found, len(self._numbers))

    @property
    def all(self) -> tuple[Slice, ...]:
        """Every slice, in the order of its numbers."""
        return tuple(self._numbers)


def report(
    rows: Sequence[Comparison],
    platforms: Iterable[records.Platform],
    about: About,
    *,
    spreads: Mapping[str, Sequence[Spread]] | None = None,
    ceilings: Mapping[str, CeilingsView] | None = None,
    studies: Iterable[StudyView] = (),
    waterfalls: Iterable[Waterfall] = (),
    weights: Iterable[Weight] = (),
    weights_left: int = 0,
    prices: Mapping[Where, float] | None = None,
) -> Report:
    """Everything that the page says of compared rows. `spreads`: by the id of a line's newest job; `waterfalls` of
    platforms that no row is of are left out; `prices`: of an hour, by platform."""
    beside = across.across(sorted(rows, key=compare.case_order), platforms)
    places = tuple(_place(column) for column in beside.columns)
    known = {(one.platform.hardware_key, one.platform.environment_key): number for number, one in enumerate(places)}
    slices = Slices()
    placed = [row for row in rows if (row.hardware_key, row.environment_key) in known]
    lines = _lines([row for row in placed if row.kind != "accuracy"], known, places, slices)
    return Report(
        about=about,
        places=places,
        lines=lines,
        accuracies=_accuracies(placed, known, places, slices),
        tops=_tops(lines, slices, known),
        spreads=_spreads(lines, spreads or {}),
        scalings=scaling.scalings(lines, lambda line: _any_threads(line, slices, known)),
        fronts=_fronts(placed, prices or {}, known, places, slices),
        waterfalls=_waterfalls(waterfalls, places, slices),
        weights=tuple(weights),
        weights_left=weights_left,
        noises=noise.noises(places, lines, ceilings or {}),
        marks=Counter(mark for mark in compare.MARKS for line in lines if mark in line.found.marks),
        states=_states(lines),
        sentences=_sentences(beside),
        studies=tuple(studies),
        slices=slices.all,
        models=tuple(dict.fromkeys(one.model for one in slices.all)),
    )


def _place(column: across.Column) -> Place:
    return Place(name=column.name, hosts=column.hosts, platform=column.platform, marks=column.marks)


def _lines(
    rows: Iterable[Comparison], known: Mapping[Any, int], places: Sequence[Place], slices: Slices
) -> tuple[Line, ...]:
    """By model, input, threads, then platform: what is read together stands together."""
    lines, ordered = [], sorted(rows, key=_line_order)
    baselines: dict[tuple[Any, ...], set[str]] = {}
    for row in ordered:
        baselines.setdefault(_called(row), set()).add(row.baseline)
    for number, row in enumerate(ordered):
        place = known[row.hardware_key, row.environment_key]
        at = slices.number(row.model, row.input, row.threads, place)
        name = row.strategy if len(baselines[_called(row)]) == 1 else f"{row.strategy} over {row.baseline}"
        lines.append(Line(number=number, slice=at, place=places[place], found=row, name=name))
    return tuple(lines)


def _called(row: Comparison) -> tuple[Any, ...]:
    """What gains over different baselines share, wherever they were measured."""
    return row.model, row.input, row.threads, row.strategy


def _line_order(row: Comparison) -> tuple[Any, ...]:
    *shape, later, strategy = compare.case_order(row)
    return (*shape, row.cpu, row.hardware_key, row.environment_key, later, strategy)


def _any_threads(line: Line, slices: Slices, known: Mapping[Any, int]) -> int:
    """The slice of what spans all thread counts of a case."""
    row = line.found
    return slices.number(row.model, row.input, None, known[row.hardware_key, row.environment_key])


def _accuracies(
    rows: Iterable[Comparison], known: Mapping[Any, int], places: Sequence[Place], slices: Slices
) -> tuple[AccuracyLine, ...]:
    found: dict[tuple[Any, ...], AccuracyLine] = {}
    for row in rows:
        if row.accuracy is None:
            continue
        place = known[row.hardware_key, row.environment_key]
        key = (place, row.model, row.strategy, row.baseline, row.accuracy)
        found[key] = AccuracyLine(
            slice=slices.number(row.model, None, None, place),
            place=places[place],
            model=row.model,
            strategy=row.strategy,
            baseline=row.baseline,
            found=row.accuracy,
        )
    return tuple(sorted(found.values(), key=_accuracy_order))


def _accuracy_order(line: AccuracyLine) -> tuple[Any, ...]:
    return line.model, line.strategy != line.baseline, -(line.found.accuracy or 0.0), line.strategy, line.place.name


def _tops(lines: Iterable[Line], slices: Slices, known: Mapping[Any, int]) -> tuple[Top, ...]:
    groups: dict[tuple[str, int], list[Line]] = {}
    for line in lines:
        row = line.found
        groups.setdefault((row.model, known[row.hardware_key, row.environment_key]), []).append(line)
    return tuple(
        Top(
            slice=slices.number(model, None, None, place),
            place=part[0].place,
            model=model,
            fastest=_largest(part),
            lossless=_largest([line for line in part if _keeps_accuracy(line.found)]),
        )
        for (model, place), part in groups.items()
    )


def _largest(lines: Iterable[Line]) -> Line | None:
    """The largest gain of ours that is significantly above ×1 and like for like."""
    own = [line for line in lines if foreign.FLAG not in line.found.marks]
    found = [line for line in own if line.found.significant and (line.found.gain or 0.0) > 1.0]
    fair = [line for line in found if line.found.same_operation is not False]
    return max(fair, key=lambda line: line.found.gain or 0.0, default=None)


def _keeps_accuracy(row: Comparison) -> bool:
    found = row.accuracy
    return found is not None and found.p is not None and (found.p >= 0.05 or (found.difference or 0.0) > 0)


def _fronts(
    rows: Iterable[Comparison],
    prices: Mapping[Where, float],
    known: Mapping[Where, int],
    places: Sequence[Place],
    slices: Slices,
) -> tuple[front.Front, ...]:
    def number(model: str, inputs: tuple[str, ...], place: int) -> int:
        return slices.number(model, inputs[0] if len(inputs) == 1 else inputs, None, place)

    return front.fronts(rows, prices, lambda where: (known[where], places[known[where]]), number)


def _waterfalls(found: Iterable[Waterfall], places: Sequence[Place], slices: Slices) -> tuple[Waterfall, ...]:
    at = {place.platform.key: number for number, place in enumerate(places)}
    return tuple(
        replace(one, slice=slices.number(one.model, None, None, at[one.platform_key]))
        for one in found
        if one.platform_key in at
    )


def _spreads(lines: Iterable[Line], known: Mapping[str, Sequence[Spread]]) -> tuple[Spread, ...]:
    return tuple(
        spread.of(line.number, line.slice)
        for line in lines
        if line.found.state == "done" and line.found.job_ids
        for spread in known.get(line.found.job_ids[0], ())
    )


def _states(lines: Iterable[Line]) -> dict[str, int]:
    counts = Counter(line.found.state for line in lines)
    return {state: counts[state] for state in STATES if counts[state]}


def _sentences(beside: across.Across) -> tuple[str, ...]:
    found = [
        f"{model.name}: {sentence}" if len(beside.models) > 1 else sentence
        for model in beside.models
        for sentence in (*across_notes.flips(model), *across_notes.differences(model))
    ]
    several = len({column.where for column in beside.columns}) > 1
    return tuple(dict.fromkeys([*found, *(across_notes.software(beside.columns) if several else [])]))
