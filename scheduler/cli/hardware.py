"""The group `hardware`: what this machine is, and what each machine can do at most."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from scheduler import calibration, fleet, local, progress
from scheduler.calibration import Machine
from scheduler.cli import hardware_tables, machine
from scheduler.cli import progress as display
from scheduler.cli.common import BAD_ENDS, INTERRUPTED, job_document, print_json
from scheduler.cli.options import DatabaseOption, JsonOption
from scheduler.cli.run import news
from storage import database as databases
from storage import errors, lifecycle, metrics, queries, records, settings
from storage.database import Database

POLL_S = 1.0
"""Seconds between two looks of `calibrate --wait`."""

HardwareArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[HARDWARE]",
        help="Start of a hardware key, a host, or part of a CPU's name; default: all.",
        show_default=False,
    ),
]

app = typer.Typer(
    invoke_without_command=True, rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False
)


@app.callback()
def hardware(ctx: typer.Context, as_json: machine.AsJson = False) -> None:
    """Show what this machine is, as results name it: hardware, environment, and their keys.

    Two machines with one platform key share their results. Settings that hide instruction sets
    (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA, FBGEMM_ENABLE_INSTRUCTIONS, MKL_ENABLE_INSTRUCTIONS) make another
    hardware of it.

    \b
    Examples:
      quantfleet hardware
      quantfleet hardware --json | jq -r .platform_key
      ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 quantfleet hardware
      quantfleet hardware calibrate
    """
    if ctx.invoked_subcommand is None:
        machine.hardware(as_json)


@app.command()
def calibrate(
    wanted: HardwareArgument = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is measured; the newest counts.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="In a fleet: watch until all is measured.")] = False,
    database: DatabaseOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure what a machine can do at most: matrix products, memory, clock, noise. Half a minute on two cores.

    With a SQLite database this machine is measured at once. In a fleet (Postgres) each platform gets one job, which
    its workers do. What was measured before is not measured again.

    \b
    Examples:
      quantfleet hardware calibrate
      quantfleet hardware calibrate --fresh --json
      quantfleet hardware calibrate EPYC --wait
    """
    config = settings.load(database=database)
    console = Console(stderr=True, quiet=quiet or as_json, highlight=False)
    if databases.sqlite_file(databases.parse(config.database)) is not None:
        ended, key = _here(config, wanted, console, fresh=fresh)
    else:
        ended, key = _fleet(config, wanted, console, fresh=fresh, wait=wait), None
    _show(config, key or wanted, as_json=as_json, ended=ended)
    if any(job.state in {*BAD_ENDS, "unsupported"} for job in ended):
        raise typer.Exit(1)


@app.command("list")
def list_(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List every hardware of the database with its ceilings.

    \b
    Examples:
      quantfleet hardware list
      quantfleet hardware list --json | jq '.hardware[] | select(.ceilings == null) | .cpu'
    """
    found, now = _look(database)
    if as_json:
        print_json(hardware=[hardware_tables.document(one) for one in found])
        return
    console = Console(highlight=False)
    for part in hardware_tables.listed(found, now, console.width):
        console.print(part)


@app.command()
def show(wanted: HardwareArgument = None, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Show the ceilings of a hardware: rates by threads, memory by working set, clock and noise.

    \b
    Examples:
      quantfleet hardware show
      quantfleet hardware show EPYC
      quantfleet hardware show 0a1b2c3d --json | jq '.hardware[0].ceilings.products'
    """
    found, now = _look(database)
    _print(found if wanted is None else calibration.pick(found, wanted), now, as_json=as_json)


def _here(
    config: settings.Settings, wanted: str | None, console: Console, *, fresh: bool
) -> tuple[list[queries.JobView], str]:
    """Measure this machine now; its jobs, and its hardware's key."""
    with local.Embedded(config) as embedded:
        platform = embedded.platform
        _require_here(wanted, embedded)
        if "torch" not in platform.environment.packages:
            raise errors.UserError("ceilings are measured with PyTorch: pip install 'quantfleet[worker]'")
        jobs = calibration.jobs([platform], functools.partial(queries.existing, embedded.database), fresh=fresh)
        new = _store(embedded.database, jobs)
        where = f"{platform.hardware.cpu}, hardware {platform.hardware_key[:8]}"
        console.print(Text(f"calibrate: {where}: {'measuring' if new else 'measured before (--fresh: again)'}"))
        ids = queries.job_ids(embedded.database, [job.key for job in jobs])
        try:
            with display.Display(console) as shown:
                return embedded.work(ids, lambda update: shown.update(news(update))), platform.hardware_key
        except KeyboardInterrupt:
            embedded.stop()
            console.print("stopped; the same command begins again")
            raise typer.Exit(INTERRUPTED) from None


def _require_here(wanted: str | None, embedded: local.Embedded) -> None:
    """On one machine nothing else can be measured."""
    if wanted is None:
        return
    found = calibration.pick(calibration.look(embedded.database), wanted)
    if embedded.platform.hardware_key not in {one.key for one in found}:
        raise errors.QueryError(
            f"{wanted!r} is another machine, {found[0].hardware.cpu}; only this one can be measured from here "
            f"({embedded.platform.hardware.cpu}, {embedded.platform.hardware_key[:8]})"
        )


def _fleet(
    config: settings.Settings, wanted: str | None, console: Console, *, fresh: bool, wait: bool
) -> list[queries.JobView]:
    """One job for each platform of the fleet's hosts; those of them that have ended."""
    with fleet.Fleet(config) as opened:
        platforms = _platforms(opened, wanted)
        jobs = calibration.jobs(platforms, functools.partial(queries.existing, opened.database), fresh=fresh)
        opened.check_broker()
        new = _store(opened.database, jobs)
        sent = opened.send()
        for line in _lines(opened, platforms, new, sent):
            console.print(Text(line), soft_wrap=True)
        ids = set(queries.job_ids(opened.database, [job.key for job in jobs]))
        return _watched(opened.database, ids, console) if wait else _ended(_jobs(opened.database, ids))


def _platforms(opened: fleet.Fleet, wanted: str | None) -> list[records.Platform]:
    """The platforms of the hosts that are known, each once; QueryError without any."""
    hosts = queries.hosts(opened.database, imported=False)
    if not hosts:
        raise errors.QueryError(
            "no host is registered, so nobody would measure: start a worker (`quantfleet worker`) on each machine, "
            "or measure this one alone with --database quantfleet.db"
        )
    found = calibration.look(opened.database)
    chosen = {one.key for one in (found if wanted is None else calibration.pick(found, wanted)) if one.hosts}
    platforms = {host.platform.key: host.platform for host in hosts if host.platform.hardware_key in chosen}
    if not platforms:
        raise errors.QueryError(f"no host of {wanted!r} is registered now (`quantfleet hosts` lists them)")
    return list(platforms.values())


def _store(db: Database, jobs: Sequence[records.PlannedJob]) -> tuple[str, ...]:
    """Store what is new, and queue again what ended without a result; ids of the new jobs."""
    new = lifecycle.add(db, jobs)
    lifecycle.retry(db, queries.job_ids(db, [job.key for job in jobs], fleet.AGAIN))
    return new


def _lines(
    opened: fleet.Fleet, platforms: Sequence[records.Platform], new: Sequence[str], sent: fleet.Sent
) -> Iterable[str]:
    """What became of a submission, and who it waits for."""
    there = len(platforms) - len(new)
    yield f"calibrate: {metrics.counted(len(new), 'new job')}, {there} there already"
    if sent.problem is not None and new:
        yield f"note: the jobs are stored; the fleet's workers publish them within 15 s ({sent.problem})"
    hosts = queries.hosts(opened.database)
    for platform in platforms:
        own = [host for host in hosts if host.platform.key == platform.key]
        if not any(host.standing == "here" for host in own):
            who = "; ".join(f"{host.name} is {progress.standing(host)}" for host in own)
            yield f"note: {platform.hardware.cpu} waits for a worker: {who}"


def _watched(db: Database, ids: set[str], console: Console) -> list[queries.JobView]:
    try:
        with display.Display(console) as shown:
            while True:
                jobs = _jobs(db, ids)
                ended = _ended(jobs)
                running = [job for job in jobs if job.state == "running"]
                shown.update(display.News(total=len(jobs), done=len(ended), ended=ended, running=running, hosts=True))
                if len(ended) == len(jobs):
                    return ended
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        console.print("stopped watching; the jobs go on (`quantfleet hardware list` shows them)")
        raise typer.Exit(INTERRUPTED) from None


def _jobs(db: Database, ids: set[str]) -> list[queries.JobView]:
    return [job for job in queries.jobs(db) if job.id in ids]


def _ended(jobs: Iterable[queries.JobView]) -> list[queries.JobView]:
    return [job for job in jobs if job.state in records.TERMINAL]


def _show(config: settings.Settings, wanted: str | None, *, as_json: bool, ended: Sequence[queries.JobView]) -> None:
    """What is known now, after a calibration."""
    with Database.open(config.database, readonly=True) as db:
        found, now = calibration.look(db), queries.clock(db)
    chosen = found if wanted is None else calibration.pick(found, wanted)
    _print(chosen, now, as_json=as_json, jobs=[job_document(job) for job in ended])


def _print(found: Sequence[Machine], now: float, *, as_json: bool, **more: Any) -> None:
    if as_json:
        print_json(hardware=[hardware_tables.document(one) for one in found], **more)
        return
    console = Console(highlight=False)
    for part in hardware_tables.shown(found, now, console.width):
        console.print(part)


def _look(database: str | None) -> tuple[tuple[Machine, ...], float]:
    with Database.open(settings.load(database=database).database, readonly=True) as db:
        return calibration.look(db), queries.clock(db)
