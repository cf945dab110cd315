"""The commands `best` and `pareto`: from stored comparisons to a choice, as tables or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from scheduler import choose, fleet_choice, machines, measures, points, prices, quantities, stored
from scheduler import compare as comparing
from scheduler.across import Where
from scheduler.cli import decide_tables, paging
from scheduler.cli.common import print_json
from scheduler.cli.options import DatabaseOption
from scheduler.cli.results import (
    DisturbedOption,
    HardwareOption,
    ModelOption,
    StrategyOption,
    StudyOption,
    ThreadsOption,
)
from scheduler.demands import Limit
from scheduler.filters import Filter, choice
from scheduler.machines import Machine
from scheduler.points import Plot
from storage import errors, metrics, queries, settings
from storage.database import Database

GOALS = ("latency", "throughput", "cost")
"""What `best` can be for."""

KINDS = (*points.KINDS, "accuracy")
"""Kinds of jobs that a choice is made from."""

TOP, TOP_OF_MANY = 5, 2
"""Configurations shown for each machine; of more than `decide_tables.MANY` machines."""

CHOICES = 40
"""Workloads on machines whose choice is shown; `--json` has all."""

NOTHING_FOUND = 1
"""Exit code where nothing keeps the limits, or nothing was measured that could."""

GoalOption = Annotated[
    str | None, typer.Option("--for", help=f"What is to be best: {', '.join(GOALS)}; latency unless given")
]
P50Option = Annotated[str | None, typer.Option("--max-latency-p50", metavar="TIME", help="Such as 20ms")]
P90Option = Annotated[str | None, typer.Option("--max-latency-p90", metavar="TIME", help="Such as 20ms")]
P95Option = Annotated[str | None, typer.Option("--max-latency-p95", metavar="TIME", help="Such as 20ms")]
LossOption = Annotated[
    str | None,
    typer.Option("--max-accuracy-loss", metavar="POINTS", help="Such as 0.5pt; the interval must be within it"),
]
MemoryOption = Annotated[
    str | None, typer.Option("--max-memory", metavar="SIZE", help="Peak of all instances, such as 1GiB")
]
SizeOption = Annotated[str | None, typer.Option("--max-size", metavar="SIZE", help="On disk, such as 100MB")]
LoadOption = Annotated[
    str | None, typer.Option("--load", metavar="RATE", help="Which machines carry so many rows, such as 500/s")
]
ExtrapolateOption = Annotated[
    bool, typer.Option("--extrapolate", help="With --load: also rates that nobody measured, from latencies; marked")
]
PriceOption = Annotated[
    list[str] | None,
    typer.Option("--price", metavar="HOST=PRICE", help="Of an hour, instead of the host's label; repeatable, globs"),
]
LengthOption = Annotated[str | None, typer.Option("--length", metavar="TOKENS", help="Only this length, or dataset")]
LayoutOption = Annotated[
    bool, typer.Option("--free-layout", help="One strategy for the fleet, threads and instances each machine's best")
]
TopOption = Annotated[
    int | None,
    typer.Option(
        "--top",
        min=1,
        help="Configurations shown for each machine",
        show_default=f"{TOP}; {TOP_OF_MANY} of many machines",
    ),
]
OverOption = Annotated[
    str | None, typer.Option("--over", metavar="NAMES", help=f"Objectives: {', '.join(measures.OBJECTIVES)}")
]
AllOption = Annotated[bool, typer.Option("--all", help="Also what is off the front, and what dominates it")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output; fields in docs/decide.md")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What the database has for a choice."""

    plot: Plot
    machines: dict[Where, Machine]
    disturbed: int  # results left out
    address: str


def best(
    *,
    database: DatabaseOption = None,
    goal: GoalOption = None,
    max_latency_p50: P50Option = None,
    max_latency_p90: P90Option = None,
    max_latency_p95: P95Option = None,
    max_accuracy_loss: LossOption = None,
    max_memory: MemoryOption = None,
    max_size: SizeOption = None,
    load: LoadOption = None,
    extrapolate: ExtrapolateOption = False,
    price: PriceOption = None,
    free_layout: LayoutOption = False,
    study: StudyOption = None,
    model: ModelOption = None,
    strategy: StrategyOption = None,
    hardware: HardwareOption = None,
    threads: ThreadsOption = None,
    length: LengthOption = None,
    include_disturbed: DisturbedOption = False,
    top: TopOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose: the best configuration under limits on each machine and for the whole fleet, or what to rent for a load.

    Configurations whose intervals do not separate from the best are ties. A limit on the loss of accuracy is kept
    where the whole interval is within it. Where nothing keeps the limits, the nearest are shown (exit code 1).

    Examples:

    \b
      quantfleet best
      quantfleet best --max-latency-p95 20ms --max-accuracy-loss 0.5pt --max-memory 1GiB
      quantfleet best --for cost --model minilm --length 16
      quantfleet best --free-layout --strategy 'onnxruntime/*'
      quantfleet best --load 500/s --max-latency-p95 20ms --price 'big*=0.34'
    """
    choice("for", goal, GOALS)
    given = {"latency_p50": max_latency_p50, "latency_p90": max_latency_p90, "latency_p95": max_latency_p95}
    limits = _limits({**given, "accuracy_loss": max_accuracy_loss, "memory": max_memory, "size": max_size})
    wanted = None if load is None else quantities.rate("--load", load)
    _check(goal, wanted, extrapolate, free_layout)
    asked = Filter(model=model, strategy=strategy, hardware=hardware, threads=threads)
    # of percentiles the intervals of those that are limited count; JSON shows all
    intervals = [q for q in comparing.SHOWN if as_json or given[f"latency_p{q}"] is not None]
    found = _read(database, study, asked, length, price or [], include_disturbed=include_disturbed, intervals=intervals)
    if wanted is not None:
        _rent(found, wanted, limits, extrapolate=extrapolate, as_json=as_json)
    else:
        objective = measures.OBJECTIVES[goal or "latency"]
        _choose(found, objective, limits, free_layout=free_layout, top=top, as_json=as_json)


def show_pareto(
    *,
    database: DatabaseOption = None,
    over: OverOption = None,
    everything: AllOption = False,
    price: PriceOption = None,
    study: StudyOption = None,
    model: ModelOption = None,
    strategy: StrategyOption = None,
    hardware: HardwareOption = None,
    threads: ThreadsOption = None,
    length: LengthOption = None,
    include_disturbed: DisturbedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the Pareto front of each machine: what no other configuration beats, over latency, accuracy, size, memory.

    In an objective one configuration beats another only where their intervals do not touch. Throughput and cost take
    their place where they were measured.

    Examples:

    \b
      quantfleet pareto
      quantfleet pareto --over latency,accuracy --length 16
      quantfleet pareto --strategy 'openvino/*' --all
      quantfleet pareto --json | jq '.fronts[].points[].strategy'
    """
    from scheduler import pareto
    from scheduler.cli import front_table

    objectives = _objectives(over)
    asked = Filter(model=model, strategy=strategy, hardware=hardware, threads=threads)
    found = _read(
        database,
        study,
        asked,
        length,
        price or [],
        include_disturbed=include_disturbed,
        intervals=comparing.SHOWN if as_json else (),
    )
    fronts = pareto.fronts(found.plot.points, objectives)
    if as_json:
        from scheduler.cli import decide_export

        print_json(fronts=[decide_export.front(one, found.machines) for one in fronts])
    else:
        width = _console().width
        _print(front_table.render(fronts, found.machines, width, everything=everything, asked=over is not None))
        _mention(found, nothing=None if fronts else _no_front(found, objectives))
    raise typer.Exit(0 if fronts else NOTHING_FOUND)


def _choose(
    found: Found,
    objective: measures.Objective,
    limits: Sequence[Limit],
    *,
    free_layout: bool,
    top: int | None,
    as_json: bool,
) -> None:
    choices = choose.choose(found.plot.points, objective, limits)
    hosts = {where: machine.hosts for where, machine in found.machines.items()}
    fleet = fleet_choice.choose(choices, objective, hosts, free_layout=free_layout)
    if as_json:
        from scheduler.cli import decide_export

        print_json(
            objective=objective.name,
            limits=[decide_export.limit(one) for one in limits],
            choices=[decide_export.choice(one, objective, found.machines) for one in choices],
            fleet=[decide_export.fleet(one, objective, found.machines) for one in fleet],
        )
    else:
        width = _console().width
        shown = choices[:CHOICES]
        few = top or (TOP if len({one.where for one in shown}) <= decide_tables.MANY else TOP_OF_MANY)
        _print(decide_tables.choices(shown, objective, limits, found.machines, width, top=few))
        _print(decide_tables.fleet(fleet, objective, found.machines, width, top=top or TOP))
        _mention(found, nothing=None if choices else _no_measure(found, objective), left=len(choices) - CHOICES)
    raise typer.Exit(0 if any(one.best for one in choices) else NOTHING_FOUND)


def _rent(found: Found, load: float, limits: Sequence[Limit], *, extrapolate: bool, as_json: bool) -> None:
    from scheduler import capacity

    answers = capacity.capacity(found.plot.points, load, limits, found.machines, extrapolate=extrapolate)
    if as_json:
        from scheduler.cli import decide_export

        print_json(
            load_per_s=load,
            limits=[decide_export.limit(one) for one in limits],
            capacity=[decide_export.capacity(one, found.machines) for one in answers],
        )
    else:
        from scheduler.cli import capacity_table

        _print(capacity_table.render(answers, limits, found.machines, _console().width, extrapolate=extrapolate))
        _mention(found, nothing=None if answers else _no_measure(found, measures.OBJECTIVES["throughput"]))
    raise typer.Exit(0 if any(one.offers for one in answers) else NOTHING_FOUND)


def _read(
    database: str | None,
    study: str | None,
    wanted: Filter,
    length: str | None,
    price: list[str],
    *,
    include_disturbed: bool,
    intervals: Sequence[int],
) -> Found:
    given = quantities.prices("--price", price)
    with Database.open(settings.load(database=database).database, readonly=True) as db:
        scoped = paging.scoped(db, study)
        every = stored.compared(
            db, study=scoped, kinds=KINDS, include_disturbed=include_disturbed, intervals=intervals, floors=False
        )
        ours = comparing.of_ours(every.rows)
        rows = _of_length([row for row in wanted.select(ours) if row.kind in points.KINDS], length)
        hosts = queries.hosts(db)
        priced = machines.repriced(prices.prices(hosts), given, [host.name for host in hosts])
        there = machines.machines(rows, queries.platforms(db).values(), hosts, priced)
        address = str(db.address)
    placed = [row for row in rows if (row.hardware_key, row.environment_key) in there]
    return Found(
        plot=points.plot(placed, machines.hourly(there)), machines=there, disturbed=every.disturbed, address=address
    )


def _of_length(rows: list[Any], length: str | None) -> list[Any]:
    """Rows of a length; QueryError when there are rows and none has it."""
    if length is None or not rows:
        return rows
    choice("length", length, sorted({str(row.length) for row in rows}))
    return [row for row in rows if str(row.length) == length]


def _limits(given: dict[str, str | None]) -> list[Limit]:
    readers = {"accuracy_loss": quantities.points, "memory": quantities.size, "size": quantities.size}
    return [
        Limit(
            name=name, most=readers.get(name, quantities.seconds)(f"--max-{name.replace('_', '-')}", text), given=text
        )
        for name, text in given.items()
        if text is not None
    ]


def _check(goal: str | None, load: float | None, extrapolate: bool, free_layout: bool) -> None:
    if load is None and extrapolate:
        raise errors.QueryError("--extrapolate belongs to --load: it says which rates may count")
    if load is not None and (goal or free_layout):
        raise errors.QueryError("--load asks for machines, --for and --free-layout for configurations: leave one out")


def _objectives(over: str | None) -> list[measures.Objective]:
    from scheduler import pareto

    names = [name.strip() for name in over.split(",")] if over else list(pareto.DEFAULT)
    for name in names:
        choice("over", name, tuple(measures.OBJECTIVES))
    if len(set(names)) < 2:
        raise errors.QueryError("--over: a front needs at least two objectives, such as --over latency,accuracy")
    return [measures.OBJECTIVES[name] for name in dict.fromkeys(names)]


def _mention(found: Found, nothing: str | None, left: int = 0) -> None:
    """What the answer leaves out, and why there is none; `left`: choices that were not shown."""
    lines = [] if nothing is None else [nothing]
    more = paging.more(left, "choice", "narrow with --hardware, --model, --strategy or --length; --json has all")
    lines += [] if more is None else [more]
    if found.disturbed:
        one = found.disturbed == 1
        what = "1 disturbed result is" if one else f"{found.disturbed} disturbed results are"
        lines.append(f"{what} left out; --include-disturbed counts {'it' if one else 'them'}.")
    if found.plot.ambiguous:
        rows = metrics.counted(found.plot.ambiguous, "row")
        lines.append(f"{rows} left out whose name stands for several contents; --study picks one.")
    _print(decide_tables.sentences(lines))


def _no_measure(found: Found, objective: measures.Objective) -> str:
    if not found.plot.points:
        return _no_results(found)
    kinds = {
        "latency": "kind: latency",
        "throughput": "kind: throughput, or kind: server with a bound",
        "cost": "kind: throughput, on hosts with a price (`--label price=0.34`, or --price)",
    }
    return f"Nothing was measured that has a {objective.name}: it takes a study of {kinds[objective.name]}."


def _no_front(found: Found, objectives: Iterable[measures.Objective]) -> str:
    if not found.plot.points:
        return _no_results(found)
    names = ", ".join(objective.name for objective in objectives)
    return f"No front: fewer than two of {names} are measured together."


def _no_results(found: Found) -> str:
    states: dict[str, int] = {}
    for row in found.plot.without:
        states[row.state] = states.get(row.state, 0) + 1
    if not states:
        return f"{found.address} holds no results to choose from yet: `quantfleet run STUDY` measures a study."
    ends = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"No case has a number to choose by ({ends}): `quantfleet compare` says why."


def _console() -> Console:
    return Console(highlight=False)


def _print(what: RenderableType | None) -> None:
    if what is not None:
        _console().print(what)
