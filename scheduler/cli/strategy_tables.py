"""The catalogue of strategies and the explanation of one, for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from storage import strategies

COLOURS = {"yes": "green", "slow": "yellow", "no": "red"}

Row = Mapping[str, Any]


def print_catalogue(rows: Sequence[Row], *, left_out: int) -> None:
    """One row a pair or transform, a rule between runtimes; options with their defaults."""
    table = Table("strategy", "here", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("what", overflow="fold")
    groups = [row["name"].partition("/")[0] if row["kind"] == "pair" else "" for row in rows]
    for row, group, following in zip(rows, groups, [*groups[1:], None], strict=True):
        table.add_row(Text(row["name"], no_wrap=True), _here(row), _what(row), end_section=group != following)
    console = Console(highlight=False)
    console.print(table)
    if left_out:
        console.print(f"{left_out} that cannot run here are left out")
    console.print("quantfleet strategies explain STRATEGY shows what its options mean and what it needs")


def print_explanation(told: Row) -> None:
    """The one spelling, each part, and the whole."""
    console = Console(highlight=False)
    console.print(Text(told["strategy"], style="bold"), soft_wrap=True)  # whole, to be copied
    for number, part in enumerate(told["parts"], 1):
        console.print()
        console.print(Text(f"{number}. {part['part']}", style="bold cyan"))
        console.print(_pairs(_part_lines(part)))
    console.print()
    console.print(Text("all of it", style="bold cyan"))
    console.print(_pairs(_whole_lines(told)))


def _here(row: Row) -> Text:
    return Text(row["here"], style=COLOURS[row["here"]])


def _what(row: Row) -> Text:
    what = Text(row["summary"])
    if row["why"]:
        what.append(f"\n→ {row['why']}", style="dim")
    if row["options"]:
        what.append(f"\n:{' '.join(map(_values, row['options']))}", style="dim")
    return what


def _values(option: Row) -> str:
    """The default, then what else there is: `engine=auto|x86|fbgemm`; a number has no list, a flag is its name."""
    if option["values"] == ["true", "false"] and option["default"] == "false":
        return str(option["name"])
    others = [value for value in option["values"] if value != option["default"]]
    listed = others if len(others) < len(option["values"]) else []
    refused = [value for value in others if value in option["not_here"]]
    tail = f" (not here: {', '.join(refused)})" if refused and option["default"] not in option["not_here"] else ""
    return f"{option['name']}={'|'.join([option['default'], *listed])}{tail}"


def _pairs(lines: Iterator[tuple[str, RenderableType]]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim", min_width=7)
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(name, value)
    return table


def _part_lines(part: Row) -> Iterator[tuple[str, RenderableType]]:
    yield "does", Text(part["summary"])
    if part["options"]:
        yield "options", _options(part["options"])
    yield "needs", Text("\n".join(_needs(part["needs"])))
    if part["data"] is not None:
        yield "reads", Text(_dataset(part["data"]))
    yield "prepare", Text(part["cost"])
    if part["trains"]:
        yield "trains", Text("a job of its own, done once, before everything that stands on it")
    if part["means"]:
        yield "results", Text(part["means"])
    yield "here", _standing(part)


def _options(options: Sequence[Row]) -> Table:
    """Value, whether it was given, what it means; an option without a meaning here is said to have none."""
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for option in options:
        style = {"given": "bold", "default": "", "unused": "dim"}[option["state"]]
        told = f"{option['help']}; {option['accepts']}"
        table.add_row(Text(f"{option['name']}={option['value']}", style=style), option["state"], Text(told))
    return table


def _needs(needs: Row) -> Iterator[str]:
    packages = [f"{name} {version or '(missing)'}" for name, version in needs["packages"].items()]
    yield ", ".join(packages) or "no package"
    if needs["install"]:
        yield f"→ {needs['install']}"
    if needs["architecture"]:
        yield f"a CPU of architecture {' or '.join(needs['architecture'])}"
    if needs["isa"]:
        yield f"a CPU with {' or '.join(needs['isa'])}"
    if needs["isa_for_speed"]:
        yield f"for speed a CPU with {' or '.join(needs['isa_for_speed'])}: without one it runs emulated"
    yield from needs["of_options"]
    if needs["other"]:
        yield needs["other"]


def _dataset(name: str) -> str:
    if name == strategies.EVALUATION:
        return "the rows that accuracy is taken on"
    return f"the dataset {name!r}, as the study's `datasets` names it"


def _standing(row: Row) -> Text:
    return _here(row).append(f": {row['why']}" if row["why"] else "", style="default")


def _whole_lines(told: Row) -> Iterator[tuple[str, RenderableType]]:
    yield "reads", Text(", ".join(told["datasets"]) or "no dataset")
    if told["trained"]:
        yield "first", Text("\n".join(f"{before}: a job of its own" for before in told["trained"]))
    yield "here", _standing(told)
