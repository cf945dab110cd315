"""The command `waterfall`: named steps from a baseline to a configuration, each with its own factor."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from scheduler import recognise, steps
from scheduler import waterfall as falling
from scheduler.cli import export, gains, results, waterfall_tables
from scheduler.cli.across_export import place_document
from scheduler.cli.options import DatabaseOption
from scheduler.cli.waterfall_tables import Told
from scheduler.compare import Comparison
from scheduler.filters import Filter, choice
from scheduler.recognise import Family
from scheduler.steps import Step
from scheduler.waterfall import Bar, Chart, Start
from storage import errors, queries, records, settings
from storage.database import Database

KINDS = (*steps.KINDS, "accuracy")

StepOption = Annotated[
    list[str] | None,
    typer.Option("--step", metavar="NAME=WHAT", help="A step, in order; WHAT as below. Repeatable."),
]
FileOption = Annotated[
    Path | None,
    typer.Option("--steps", metavar="FILE", help="YAML file with the steps: `waterfall: {NAME: WHAT, …}`"),
]
FromOption = Annotated[
    str | None,
    typer.Option("--from", metavar="WHAT", help="Only charts that begin so, such as 'threads=1 length=128'"),
]


def waterfall(
    *,
    database: DatabaseOption = None,
    study: results.StudyOption = None,
    step: StepOption = None,
    file: FileOption = None,
    begin: FromOption = None,
    model: results.ModelOption = None,
    hardware: results.HardwareOption = None,
    kind: Annotated[str | None, typer.Option("--kind", help=f"Only charts of {', '.join(steps.KINDS)}")] = None,
    include_disturbed: results.DisturbedOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on standard output; fields in docs/waterfall.md")
    ] = False,
) -> None:
    """Show step by step where a gain comes from: each step's own factor and the product, with 95 % intervals.

    WHAT is a strategy, or words such as padding=longest, threads=1, instances=auto, kind=throughput.
    What a step does not name stays as before it; a strategy that begins with + keeps the transforms so far.
    Without steps they are recognised: the way from the baseline to the fastest case, one change after the other.
    A step without a number says which job would give it.

    Examples:

    \b
      quantfleet waterfall --study roblox
      quantfleet waterfall --step distilled=distil:layers=3+torch/fp32 \\
        --step 'dynamic shapes=padding=longest' \\
        --step int8=+onnxruntime/int8-dynamic \\
        --step 'processes=threads=1 instances=auto'
      quantfleet waterfall --kind latency --from 'threads=1 length=16' --json
    """
    named = _named(step, file)
    started = None if begin is None else Step(name="--from", changes=steps.changes(begin, "--from"))
    choice("kind", kind, steps.KINDS)
    wanted = Filter(model=model, hardware=hardware)
    with Database.open(settings.load(database=database).database, readonly=True) as db:
        rows = gains.comparisons(db, study, KINDS, include_disturbed=include_disturbed)
        told = _told(db, wanted.select(rows), named, started, kind) if rows else []
        nothing = "" if rows else gains.nothing(db)
    if as_json:
        sys.stdout.write(export.as_json(waterfalls=map(_document, told)) + "\n")
    elif told:
        console = Console(highlight=False)
        console.print(waterfall_tables.render(told, console.width))
    else:
        sys.stdout.write(nothing)


def _named(given: Sequence[str] | None, file: Path | None) -> list[Step]:
    """The steps that a person named; none: they are to be recognised."""
    if given and file:
        raise errors.QueryError("--step and --steps exclude one another")
    found = steps.read(file) if file else [steps.parse(text) for text in given or ()]
    steps.check(found)
    return found


def _told(
    db: Database, rows: Sequence[Comparison], named: Sequence[Step], begin: Step | None, kind: str | None
) -> list[Told]:
    gains.check(row for row in rows if kind in (None, row.kind))
    found = falling.starts(rows, queries.platforms(db).values())
    chosen = [start for start in found if kind in (None, start.point.kind) and _begins(start, begin)]
    if not chosen:
        raise errors.QueryError(f"--from: no chart begins so; {_begins_with(found)}")
    jobs = queries.jobs(db, states=records.OPEN)
    told = [one for family in recognise.families(chosen) if (one := _family(family, named, jobs)) is not None]
    if not told:
        raise errors.QueryError(
            "only baselines were measured against themselves: there is no step to show; measure a strategy"
        )
    # of named steps, the baselines that none of them was measured over say nothing
    return [one for one in told if any(chart.measured for chart in one.charts)] or told


def _family(family: Family, named: Sequence[Step], jobs: Sequence[queries.JobView]) -> Told | None:
    chain = None if named else recognise.recognise(family, jobs)
    if not named and chain is None:
        return None
    wanted = tuple(named) if chain is None else chain.steps
    charts = tuple(falling.chart(start, wanted, jobs) for start in family.starts)
    return Told(family=family, steps=wanted, charts=charts, ends=None if chain is None else chain.ends)


def _begins(start: Start, begin: Step | None) -> bool:
    """Whether a start is what `--from` asks for: asking for it changes nothing."""
    return begin is None or steps.applied(begin, start.point, start.hardware) == start.point


def _begins_with(found: Iterable[Start]) -> str:
    points = dict.fromkeys(f"{start.point.strategy}, {start.point.shape.text(start.point.kind)}" for start in found)
    return f"there are {'; '.join(list(points)[:6])}{'; …' if len(points) > 6 else ''}"


def _document(told: Told) -> dict[str, Any]:
    return {
        "model": told.family.model,
        "kind": told.family.point.kind,
        "recognised": told.ends is not None,
        "ends": told.ends,
        "steps": [{"name": step.name, "what": step.text} for step in told.steps],
        "charts": [_chart(chart) for chart in told.charts],
    }


def _chart(chart: Chart) -> dict[str, Any]:
    return {
        **place_document(chart.start.column),
        "left_out": chart.start.dropped,
        "bars": [_bar(bar) for bar in chart.bars],
    }


def _bar(bar: Bar) -> dict[str, Any]:
    row = bar.found
    accuracy = None if row is None else row.accuracy
    return {
        "name": bar.name,
        "state": bar.state,
        "reason": bar.reason,
        "kind": bar.point.kind,
        "strategy": bar.point.strategy,
        **dataclasses.asdict(bar.point.shape),
        **gains.interval("factor", bar.factor),
        "significant": None if bar.factor is None else bar.factor.excludes_1,
        "since": bar.since,
        "through": bar.through,
        **gains.interval("product", bar.total),
        "rate_per_s": bar.rate_per_s,
        "accuracy": None if accuracy is None else accuracy.accuracy,
        "accuracy_difference": None if accuracy is None else accuracy.difference,
        "verdict": None if accuracy is None else accuracy.verdict,
        "job_ids": [] if row is None else list(row.job_ids),
    }
