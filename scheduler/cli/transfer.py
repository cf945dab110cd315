"""The command `transfer`: does a gain measured there hold here, and what to measure first on a new host."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from scheduler import across, placing
from scheduler import transfer as moving
from scheduler.cli import across_export, export, gains, results, transfer_tables
from scheduler.cli.options import DatabaseOption
from scheduler.cli.transfer_tables import First
from scheduler.compare import Comparison, case_order
from scheduler.filters import Filter, choice
from scheduler.transfer import Case, Flip, Gains, Held, Pair
from storage import errors, metrics, queries, settings
from storage.database import Database

KINDS = ("latency", "throughput", "server", "tensor")

FEW = 5
"""Cases for a new host, unless `--first` says otherwise."""

NewHostOption = Annotated[
    bool, typer.Option("--new-host", help=f"Also the {FEW} cases worth measuring first on a host of new hardware")
]
FirstOption = Annotated[
    int | None, typer.Option("--first", metavar="N", min=1, max=50, help="The same with N cases", show_default=False)
]


def transfer(
    *,
    database: DatabaseOption = None,
    study: results.StudyOption = None,
    model: results.ModelOption = None,
    strategy: results.StrategyOption = None,
    threads: results.ThreadsOption = None,
    kind: Annotated[str | None, typer.Option("--kind", help=f"Only this kind: {', '.join(KINDS)}")] = None,
    new_host: NewHostOption = False,
    first: FirstOption = None,
    include_disturbed: results.DisturbedOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on standard output; fields in docs/transfer.md")
    ] = False,
) -> None:
    """Does a gain measured there hold here? Each two machines over the cases that both measured.

    Rank correlation of their gains, the error of taking one for the other, gains that hold, and signs that flip.
    For a new host: the few cases that tell most about all others, checked by leaving known machines out.

    Examples:

    \b
      quantfleet transfer
      quantfleet transfer --strategy 'torch/*' --threads 1
      quantfleet transfer --first 3
      quantfleet transfer --json | jq '.pairs[] | select(.correlation < 0.8)'
    """
    choice("kind", kind, KINDS)
    wanted = Filter(model=model, strategy=strategy, threads=threads)
    with Database.open(settings.load(database=database).database, readonly=True) as db:
        kinds = KINDS if kind is None else (kind,)
        rows = gains.comparisons(db, study, kinds, include_disturbed=include_disturbed)
        known = _known(db, wanted.select(rows)) if rows else None
        nothing = gains.nothing(db)
    count = first or (FEW if new_host else 0)
    told = First() if known is None or not count else _first(known, count)
    if as_json:
        sys.stdout.write(_json(known, told) + "\n")
    elif known is None:
        sys.stdout.write(nothing)
    else:
        console = Console(highlight=False)
        told_pairs, told_flips = moving.pairs(known), moving.flips(known)
        console.print(transfer_tables.render(known, told_pairs, told_flips, told, console.width))


def _known(db: Database, rows: Sequence[Comparison]) -> Gains:
    """Comparable gains of at least two platforms; QueryError where there are none, with what is missing."""
    gains.check(rows)
    beside = across.across(sorted(rows, key=case_order), queries.platforms(db).values())
    known = moving.gains(beside)
    if len(beside.columns) < 2:
        names = ", ".join(column.name for column in beside.columns)
        raise errors.QueryError(
            f"there are results of one platform only ({names}): whether a gain holds elsewhere takes another one that "
            "measured it too; measure the same study on a second machine (`quantfleet worker` joins one to a fleet)"
        )
    if not any(len(found) > 1 for found in known.rows.values()):
        raise errors.QueryError(_nothing_common(known))
    return known


def _nothing_common(known: Gains) -> str:
    counts = (f"{column.name} {metrics.counted(len(known.cases(column)), 'case')}" for column in known.columns)
    other = f"; {metrics.counted(known.left_out, 'gain')} on other content do not count" if known.left_out else ""
    return (
        f"no two platforms measured the same case ({', '.join(counts)}{other}): model, input, threads, baseline and "
        "strategy must be the same; measure one study on both"
    )


def _first(known: Gains, count: int) -> First:
    """What to measure first, or QueryError with how many machines that needs."""
    hardware = placing.hardware(known)
    if hardware < placing.HOSTS:
        raise errors.QueryError(
            f"--new-host: what tells most of a new host is learnt from {placing.HOSTS} hardware or more that measured "
            f"the same cases, there {'is' if hardware == 1 else 'are'} {hardware}"
        )
    chosen = placing.first(known, count)
    counts = sorted({1, *(number for number in (2, 3, 5, 10, 20) if number < len(chosen)), len(chosen)} - {0})
    return First(wanted=True, choices=tuple(chosen), checks=tuple(placing.check(known, counts)), hardware=hardware)


def _json(known: Gains | None, told: First) -> str:
    return export.as_json(
        platforms=[] if known is None else map(across_export.column_document, known.columns),
        pairs=[] if known is None else map(_pair, moving.pairs(known)),
        flips=[] if known is None else map(_flip, moving.flips(known)),
        first=[_case(one.case) | _fields(one, "case") for one in told.choices],
        check=[dataclasses.asdict(one) for one in told.checks],
    )


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "one": pair.one.platform.key,
        "other": pair.other.platform.key,
        "same_hardware": pair.same_hardware,
        **_fields(pair, "one", "other", "worst", "there", "back", "flips"),
        "worst": None if pair.worst is None else _case(pair.worst),
        "there": _held(pair.there),
        "back": _held(pair.back),
        "flips": [_case(case) for case in pair.flips],
    }


def _flip(flip: Flip) -> dict[str, Any]:
    sides = {"faster": flip.faster, "slower": flip.slower}
    return _case(flip.case) | {
        side: [{"label": name, "gain": row.gain, "gain_low": row.gain_low, "gain_high": row.gain_high}
               for name, row in found.items()]
        for side, found in sides.items()
    }  # fmt: skip


def _case(case: Case) -> dict[str, Any]:
    return dataclasses.asdict(case)


def _held(held: Held) -> dict[str, Any]:
    return dataclasses.asdict(held)


def _fields(record: Any, *without: str) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(record) if field.name not in without)
    return {name: getattr(record, name) for name in names}
