"""`quantfleet hosts`: the machines of the fleet, what they are, run and do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from scheduler import alike, labels, progress
from scheduler.cli import tables
from scheduler.cli.common import job_document, print_json
from scheduler.cli.options import DatabaseOption, JsonOption
from scheduler.cli.progress import case_name
from scheduler.cli.tables import Column, clean
from scheduler.roster import Row, rows
from storage import errors, metrics, queries, records, settings
from storage import hosts as registry
from storage.database import Database

LONG_GONE_S = 30 * 86400.0
"""Hosts unseen for so long are left out of the table, unless jobs wait for them."""

PACKAGES = ("torch", "transformers", "onnxruntime", "openvino")
"""Versions that the table shows; all of them are in the JSON."""


def hosts(
    database: DatabaseOption = None,
    every: Annotated[bool, typer.Option("--all", help="Also those unseen for 30 days.")] = False,
    forget: Annotated[
        str | None,
        typer.Option("--forget", metavar="NAME", help="Drop a host that is gone for good; its results stay."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the fleet's hosts: state, CPU, instruction sets, cores, memory, software, labels, when last seen.

    Hosts of one platform share their results: each case is measured on one of them. Below the table stands which
    hosts share theirs, and where software differs between hosts of one hardware.

    \b
    Examples:
      quantfleet hosts
      quantfleet hosts --json | jq -r '.hosts[] | select(.standing == "away") | .name'
      quantfleet hosts --forget old-laptop
    """
    config = settings.load(database=database)
    with Database.open(config.database, readonly=forget is None) as db:
        if forget is not None:
            _forget(db, forget)
            return
        found = rows(queries.hosts(db), queries.jobs(db, states="running"), queries.groups(db, states="queued"))
    if as_json:
        print_json(hosts=[document(row) for row in found])
        return
    console = Console(highlight=False)
    shown = [row for row in found if every or row.waiting or row.host.unseen_s < LONG_GONE_S]
    for part in _table(shown, console.width):
        console.print(part)
    if len(shown) < len(found):
        console.print(f"{metrics.counted(len(found) - len(shown), 'host')} unseen for 30 days left out (--all)")


def document(row: Row) -> dict[str, Any]:
    """A host as `--json` shows it."""
    host, platform = row.host, row.host.platform
    return {
        "name": host.name,
        "standing": host.standing,
        "unseen_s": host.unseen_s,
        "first_seen_at": host.first_seen_at,
        "last_seen_at": host.last_seen_at,
        "stopped_at": host.stopped_at,
        "measuring": None if row.measuring is None else job_document(row.measuring),
        "waiting": row.waiting,
        "labels": dict(host.labels),
        "platform_key": platform.key,
        "hardware_key": platform.hardware_key,
        "environment_key": platform.environment_key,
        "hardware": records.to_document(platform.hardware),
        "environment": records.to_document(platform.environment),
        "shares_platform_with": list(row.shares),
        "software_differs": list(row.differs),
    }


def _forget(db: Database, name: str) -> None:
    known = {host.name: host for host in queries.hosts(db)}
    if name not in known:
        near = errors.nearest(name, known)
        raise errors.QueryError(f"--forget: no host is called {name!r}{near} (there is {', '.join(known) or 'none'})")
    if known[name].standing == "here":
        raise errors.QueryError(f"--forget: {name} serves now, and would register again; stop its worker first")
    registry.forget(db, name)
    typer.echo(f"{name} is forgotten; its results stay, and jobs for it alone wait until a host of that name comes")


def _table(found: Sequence[Row], width: int) -> Iterator[RenderableType]:
    if not found:
        yield Text("no host is registered: start one with `quantfleet worker` on each machine that is to measure")
        return
    yield from tables.folded(_KEYS, _COLUMNS, [("", found)], width)
    for names in dict.fromkeys(tuple(sorted((row.host.name, *row.shares))) for row in found if row.shares):
        yield _line(f"{', '.join(names)} are one platform: each case is measured on one of them")
    unlike: dict[tuple[str, ...], list[str]] = {}
    for row in found:
        unlike.setdefault(row.differs, []).append(row.host.name)
    for differences, which in unlike.items():
        if differences:
            yield _line(f"{', '.join(which)}: other software than on the same hardware: {'; '.join(differences)}")


def _line(text: str) -> Text:
    return Text(clean(text), style="yellow", overflow="fold")


def _state(row: Row) -> str:
    words = "idle" if row.host.standing == "here" else progress.standing(row.host)
    lines = [words]
    if row.measuring is not None:
        what = case_name(row.measuring).replace(" · ", "\n  ")
        lines = [f"measuring {what}"] if row.host.standing == "here" else [words, f"had {what}"]
    if row.waiting:
        lines.append(f"{metrics.counted(row.waiting, 'job')} waiting")
    return "\n".join(lines)


def _seen(row: Row) -> str:
    return "now" if row.host.standing == "here" else f"{progress.lasting(row.host.unseen_s)} ago"


def _cpu(row: Row) -> str:
    hardware = row.host.platform.hardware
    return "\n".join([labels.short_cpu(hardware.cpu), *hardware.caps])


def _cores(row: Row) -> str:
    hardware = row.host.platform.hardware
    return f"{hardware.physical_cores} ({hardware.logical_cores} logical)"


def _software(row: Row) -> str:
    software = row.host.platform.environment
    found = [f"{name} {software.packages[name]}" for name in PACKAGES if name in software.packages]
    return "\n".join([*found, f"Python {software.python}"])


_KEYS: tuple[Column[Row], ...] = (Column(title="host", cell=lambda row: row.host.name, left=True),)
_COLUMNS: tuple[Column[Row], ...] = (
    Column(title="state", cell=_state, left=True),
    Column(title="CPU", cell=_cpu, left=True),
    Column(title="last seen", cell=_seen, left=True),
    Column(title="architecture", cell=lambda row: row.host.platform.hardware.architecture, left=True),
    Column(title="cores", cell=_cores, left=True),
    Column(title="memory", cell=lambda row: f"{row.host.platform.hardware.memory_gib} GiB"),
    Column(
        title="instruction sets",
        cell=lambda row: "\n".join(alike.isa_summary(row.host.platform.hardware.isa)) or tables.NOTHING,
        left=True,
    ),
    Column(title="software", cell=_software, left=True),
    Column(
        title="labels",
        cell=lambda row: "\n".join(f"{k}={v}" for k, v in row.host.labels.items()) or tables.NOTHING,
        left=True,
    ),
    Column(title="platform", cell=lambda row: row.host.platform.key[:8], left=True),
)
