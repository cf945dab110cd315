"""Commands about this machine: `hardware`, `doctor`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from scheduler import worker_process
from scheduler.cli.options import BrokerOption, DatabaseOption
from storage import records

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "bad": ("BAD", "bold red")}


def hardware(as_json: AsJson = False) -> None:
    """What this machine is, as results name it: the group `hardware` without a command."""
    answer = worker_process.ask("probe", {})
    if as_json:
        _print_json(answer)
        return
    machine = records.from_document(records.Hardware, answer["hardware"])
    software = records.from_document(records.Environment, answer["environment"])
    _print_pairs(f"hardware {answer['hardware_key']}", hardware_rows(machine))
    _print_pairs(f"environment {answer['environment_key']}", environment_rows(software))
    typer.echo(f"platform {answer['platform_key']}")


def doctor(
    database: DatabaseOption = None,
    broker: BrokerOption = None,
    as_json: AsJson = False,
) -> None:
    """Look whether this machine is fit to measure now, and whether all that it needs can be reached.

    Ends with exit code 1 when something is bad. A warning means wider intervals, not wrong numbers.

    \b
    Examples:
      quantfleet doctor
      quantfleet doctor --database postgresql://me@db/quantfleet --broker redis://queue:6379/0
    """
    given = {"database": database, "broker": broker}
    answer = worker_process.ask("doctor", {name: value for name, value in given.items() if value is not None})
    findings = answer["findings"]
    if as_json:
        _print_json(answer)
    else:
        _print_findings(findings)
    if any(finding["level"] == "bad" for finding in findings):
        raise typer.Exit(1)


def hardware_rows(machine: records.Hardware) -> list[tuple[str, str]]:
    """Name and value of each fact for people."""
    cores = f"{machine.physical_cores} physical, {machine.logical_cores} logical"
    cores += f"; sockets: {machine.sockets}, NUMA nodes: {machine.numa_nodes}"
    identity = "/".join("–" if n is None else str(n) for n in (machine.family, machine.model, machine.stepping))
    caches = ", ".join(f"{name.upper()} {size >> 10:,} KiB" for name, size in machine.cache_bytes.items())
    quota = "none" if machine.quota_cores is None else f"{machine.quota_cores:.2g} cores"
    return [
        ("CPU", machine.cpu),
        ("vendor", f"{machine.vendor}, family/model/stepping {identity}, {machine.architecture}"),
        ("instruction sets", " ".join(machine.isa) or "none that matter here"),
        ("hidden by", "\n".join(machine.caps) or "nothing"),
        ("cores", cores),
        ("caches", caches or "not shown here"),
        ("memory", f"{machine.memory_gib} GiB"),
        ("CPU quota", quota),
        ("virtualization", machine.virtualization or "none seen"),
    ]


def environment_rows(software: records.Environment) -> list[tuple[str, str]]:
    """Name and value of each fact for people."""
    return [
        ("Python", software.python),
        ("packages", "\n".join(f"{name} {version}" for name, version in software.packages.items()) or "none"),
        ("kernel", software.kernel),
        ("OpenMP", software.openmp or "what each library carries"),
        ("allocator", software.allocator or "the C library's"),
        ("settings", "\n".join(f"{name}={value}" for name, value in software.settings.items()) or "none"),
    ]


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _print_pairs(title: str, rows: Sequence[tuple[str, str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_header=False, box=box.SIMPLE_HEAD, pad_edge=False)
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))  # Text: brackets are no markup
    Console().print(table)


def _print_findings(findings: Sequence[Mapping[str, str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "check", "seen", box=box.SIMPLE_HEAD, pad_edge=False)
    for finding in findings:
        word, style = MARKS[finding["level"]]
        seen = Text(finding["seen"])
        if finding["advice"]:
            seen.append(f"\n→ {finding['advice']}", style="dim")
        table.add_row(Text(word, style=style), Text(finding["check"], no_wrap=True), seen)
    Console().print(table)
    counts = {level: sum(finding["level"] == level for finding in findings) for level in MARKS}
    typer.echo(f"{counts['bad']} bad, {counts['warn']} to look at, {counts['ok']} fine")
