"""Choices, fronts and offers for people: tables that fit the terminal, and sentences below them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from scheduler import amounts
from scheduler.across import Where
from scheduler.choose import Choice
from scheduler.cli import tables
from scheduler.demands import LABELS, LATENCIES, Judged, Limit
from scheduler.fleet_choice import Candidate, FleetChoice
from scheduler.machines import Machine
from scheduler.measures import Objective, memory
from scheduler.points import Configuration, Point, Workload
from storage import metrics

Machines = Mapping[Where, Machine]

TIED = "≈"
"""A configuration that the best is not shown to be better than."""

MANY = 12
"""With more machines than so many, what repeats for each of them is said in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A point with its place in a ranking."""

    place: str
    point: Point


def choices(
    found: Sequence[Choice], objective: Objective, limits: Sequence[Limit], machines: Machines, width: int, *, top: int
) -> RenderableType:
    """A table for each workload: the best of each machine, its ties, and what follows."""
    parts: list[RenderableType] = []
    for workload in dict.fromkeys(choice.workload for choice in found):
        own = [choice for choice in found if choice.workload == workload]
        parts += [title(workload, [one.workload for one in found], f"best {objective.name}", limits)]
        parts += [*_workload(own, _columns(objective, limits), machines, width, top), Text()]
    return Group(*parts, *(_choice_legend(found, objective) if found else ()))


def fleet(
    found: Sequence[FleetChoice], objective: Objective, machines: Machines, width: int, *, top: int
) -> RenderableType | None:
    """One configuration for all machines, for each workload; None where no workload has two machines."""
    if not found:
        return None
    parts: list[RenderableType] = []
    for one in found:
        heading = f"one configuration for all {sum(one.hosts.values())} hosts: {one.workload.name}"
        parts += [Text(), Text(tables.clean(heading), style="bold", overflow="fold")]
        parts += _fleet(one, machines, width, top)
    what = "its own ÷ the best there" if objective.better == "less" else "the best there ÷ its own"
    parts += [Text(), dim(f"regret: {what} − 1 on that machine; {TIED} the best there is not shown to be better")]
    return Group(*parts, dim("worst: the largest; mean: weighted by hosts"))


def sentences(lines: Sequence[str]) -> RenderableType | None:
    """Each on a line of its own; None without any."""
    return Group(*(Text(tables.clean(line), overflow="fold") for line in lines)) if lines else None


def title(workload: Workload, every: Sequence[Workload], what: str, limits: Sequence[Limit], where: str = "") -> Text:
    """The workload, with its model's content where the name stands for several."""
    several = len({one.model_digest for one in every if one.model == workload.model}) > 1
    content = f" (content {(workload.model_digest or 'unknown')[:8]})" if several else ""
    under = f", with {texts(limits)}" if limits else ""
    return Text(tables.clean(f"{workload.name}{content}{where}: {what}{under}"), style="bold", overflow="fold")


def texts(limits: Iterable[Limit]) -> str:
    """`p95 ≤ 20.0 ms, size ≤ 100 MB`."""
    return ", ".join(limit.text for limit in limits)


def _workload(
    found: Sequence[Choice], columns: Sequence[tables.Column[Line]], machines: Machines, width: int, top: int
) -> Iterator[RenderableType]:
    sections = [(_machine(machines[one.where]), _lines(one, top)) for one in found if one.ranked]
    if sections:
        yield from tables.folded(_KEYS, columns, sections, width)
    yield from _more(found, machines, top)
    for choice in found:
        name = machines[choice.where].name
        yield from tables.listed(
            f"better by estimate, but not shown to keep the limits on {name}", [missed(one) for one in choice.unshown]
        )
        if not choice.ranked:
            heading = f"nothing of {choice.missed} keeps all limits on {name}; the nearest:"
            yield from tables.listed(heading, [missed(one) for one in choice.nearest])


def _more(found: Sequence[Choice], machines: Machines, top: int) -> Iterator[Text]:
    """What `--top` leaves out, by machine; of many machines in one line."""
    left = [(choice, len(choice.ranked) - top) for choice in found if len(choice.ranked) > top]
    if len(left) > MANY:
        hidden = sum(_hidden(choice, top) for choice, _ in left)
        yield _left(sum(count for _, count in left), f"{len(left)} machines", hidden)
        return
    for choice, count in left:
        yield _left(count, machines[choice.where].name, _hidden(choice, top))


def _hidden(choice: Choice, top: int) -> int:
    return len([one for one in choice.ties if choice.ranked.index(one) >= top])


def _left(count: int, where: str, ties: int) -> Text:
    tied = f", {ties} of them ties" if ties else ""
    return Text(tables.clean(f"{count} more on {where}{tied} (--top)."), overflow="fold")


def _machine(machine: Machine) -> str:
    return f"{machine.name}, {metrics.counted(machine.hosts, 'host')}"


def missed(one: Judged) -> str:
    """A configuration and what it misses, in a sentence."""
    return f"{one.point.configuration.name}: {'; '.join(one.missed)}"


def _lines(choice: Choice, top: int) -> list[Line]:
    tied = {id(one) for one in choice.ties}
    return [
        Line(place=TIED if id(one) in tied else str(number), point=one.point)
        for number, one in enumerate(choice.ranked[:top], 1)
    ]


def _choice_legend(found: Sequence[Choice], objective: Objective) -> Iterator[Text]:
    if any(choice.ties for choice in found):
        yield dim(f"{TIED} tie: the intervals do not separate it from the best")
    if objective.name == "latency" and any(choice.ranked and _latency(choice.workload) for choice in found):
        yield dim("p50 [95 %]: the baseline's p50, over all jobs of its case, ÷ the gain; p95 as it was measured")
    yield dim("loss: points of accuracy below the baseline's [95 %]")


def _latency(workload: Workload) -> bool:
    return workload.kind == "latency"


def _columns(objective: Objective, limits: Sequence[Limit]) -> list[tables.Column[Line]]:
    def measure(line: Line) -> str:
        return value_cell(line.point, objective)

    ranked = tables.Column(title=f"{objective.label} [95 %]", cell=measure, left=True, always=True)
    limited = [_percentile(one.name) for one in limits if one.name in LATENCIES]
    return [ranked, _GAIN, *(limited or [_P95]), *_FACTS]


def _percentile(name: str) -> tables.Column[Line]:
    """A limited percentile, with the interval whose upper end counts."""

    def cell(line: Line) -> str:
        return percentile_cell(line.point, name)

    return tables.Column(title=f"{LABELS[name]} [95 %] (as measured)", cell=cell, left=True)


def percentile_cell(point: Point, name: str) -> str:
    """`19.2 ms [18.8, 20.1]`, as measured; without the interval where it has none."""
    value, low, high = (getattr(point.row, f"{name}{end}_s") for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return metrics.seconds(value)
    return f"{metrics.seconds(value)} {amounts.between((low, high), value, metrics.seconds)}"


def value_cell(point: Point, objective: Objective) -> str:
    """A measure with its interval: `3.07 ms [3.03, 3.11]`."""
    return amounts.text(point.measures.get(objective.name), objective)


def loss(point: Point) -> str:
    """Points of accuracy below the baseline's with their interval."""
    found = point.measures.get("accuracy")
    if found is None or found.near is None:
        return tables.NOTHING
    if found.near == (0.0, 0.0):
        return "baseline"
    low, high = found.near
    return f"{0.0 - 100 * found.value:.2f} [{0.0 - 100 * high:.2f}, {0.0 - 100 * low:.2f}]"


def _placed(line: Line) -> str:
    """The strategy behind its place, in one column: a section's heading stands in the first one."""
    first, *more = strategy_cell(line.point.configuration).split("\n")
    return "\n".join([f"{line.place:>2} {first}", *(f"   {part}" for part in more)])


_KEYS: tuple[tables.Column[Line], ...] = (
    tables.Column(title="   strategy", cell=_placed, left=True),
    tables.Column(title="layout", cell=lambda line: layout_cell(line.point.configuration), left=True),
)
_GAIN: tables.Column[Line] = tables.Column(title="gain", cell=lambda line: metrics.ratio(line.point.row.gain))
_P95: tables.Column[Line] = tables.Column(title="p95", cell=lambda one: metrics.seconds(one.point.row.latency_p95_s))
_FACTS: tuple[tables.Column[Line], ...] = (
    tables.Column(title="loss [95 %]", cell=lambda line: loss(line.point), left=True),
    tables.Column(title="peak", cell=lambda line: metrics.bytes_(memory(line.point.row))),
    tables.Column(title="size", cell=lambda line: metrics.bytes_(line.point.row.artifact_bytes)),
)


def _fleet(found: FleetChoice, machines: Machines, width: int, top: int) -> Iterator[RenderableType]:
    if found.minimax is None or found.weighted is None:
        yield Text("no configuration keeps all limits on every machine")
    else:
        yield from _answers(found.minimax, found.weighted)
        tied = {id(one) for one in found.ties}
        each = [_regrets(machines[where], where) for where in found.hosts]
        columns: list[tables.Column[Candidate]] = [
            tables.Column(title="worst", cell=lambda one: _regret(one.worst) + TIED * (id(one) in tied)),
            tables.Column(title="mean", cell=lambda one: _regret(one.mean)),
            *(each if len(each) <= MANY else [_worst_on(machines)]),
        ]
        yield from tables.folded(_CANDIDATE, columns, [("", found.candidates[:top])], width)
        if len(each) > MANY:
            yield dim(f"the regret on each of {len(each)} machines: --json")
    lines = [
        f"{one.configuration.name}: no number, or not shown to keep the limits, on "
        + ", ".join(machines[where].name for where in one.where)
        for one in found.missing
    ]
    yield from tables.listed("best of a machine, but not everywhere", lines)


def _answers(minimax: Candidate, weighted: Candidate) -> Iterator[Text]:
    least = f"least worst regret: {minimax.configuration.name} ({_regret(minimax.worst)} at worst)"
    mean = f"least mean regret: {weighted.configuration.name} ({_regret(weighted.mean)} on average)"
    yield Text(tables.clean(least), overflow="fold")
    yield Text(tables.clean(mean if weighted is not minimax else "the same has the least mean regret"), overflow="fold")


def _regret(value: float) -> str:
    return f"{100 * value:.1f} %"


def _regrets(machine: Machine, where: Where) -> tables.Column[Candidate]:
    def cell(one: Candidate) -> str:
        return _regret(one.cells[where].regret) + TIED * one.cells[where].tied

    return tables.Column(title=machine.name.replace(" (", "\n("), cell=cell)


def _worst_on(machines: Machines) -> tables.Column[Candidate]:
    def cell(one: Candidate) -> str:
        return machines[max(one.cells, key=lambda where: one.cells[where].regret)].name

    return tables.Column(title="worst on", cell=cell, left=True)


_CANDIDATE: tuple[tables.Column[Candidate], ...] = (
    tables.Column(title="strategy", cell=lambda one: strategy_cell(one.configuration), left=True),
    tables.Column(title="layout", cell=lambda one: layout_cell(one.configuration), left=True),
)


def strategy_cell(configuration: Configuration) -> str:
    """The strategy, its transforms and options on lines of their own."""
    return tables.strategy_lines(configuration.strategy)


def layout_cell(configuration: Configuration) -> str:
    """Threads, instances and the rest on lines of their own."""
    return configuration.layout.replace(", ", "\n")


def dim(text: str) -> Text:
    """A line of a legend."""
    return Text(text, style="dim", overflow="fold")
