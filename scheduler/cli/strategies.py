"""`quantfleet strategies`: what there is, and `explain`: what one strategy does, needs and costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
import typer.core
from typer import _click as click
from typer._click.exceptions import UsageError

from scheduler import explanation, worker_process
from scheduler.cli import strategy_tables
from scheduler.cli.common import print_json
from scheduler.cli.options import JsonOption
from storage import errors, records, strategies
from storage.catalogue import registry


class Group(typer.core.TyperGroup):
    """Lists without a subcommand; a strategy in the place of one is a slip that has an answer."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The subcommand that is asked for."""
        if args[0] in self.commands or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        said = f"; `quantfleet strategies explain {args[0]}` explains a strategy" if "/" in args[0] else ""
        near = errors.nearest(args[0], self.commands)
        raise UsageError(f"there is no command {args[0]!r}{near or said}", ctx)


app = typer.Typer(cls=Group, rich_markup_mode="rich", pretty_exceptions_enable=False, invoke_without_command=True)


def _runtimes(incomplete: str = "") -> list[str]:
    names = dict.fromkeys(description.runtime for description in registry.descriptions().values())
    return [name for name in names if name.startswith(incomplete)]


def _strategy_names(incomplete: str) -> Iterator[str]:
    """Strategies that begin so: what is there already, then pairs and transforms that can follow it."""
    before, plus, last = incomplete.rpartition("+")
    names = (*registry.descriptions(), *(f"{name}+" for name in registry.transforms_by_name()))
    yield from (f"{before}{plus}{name}" for name in names if name.startswith(last))


@app.callback()
def listing(
    ctx: typer.Context,
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", metavar="NAME", help="Only this runtime's.", autocompletion=_runtimes),
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="Only what can run on this machine.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the strategies, pairs and transforms, and whether each can run on this machine.

    A strategy is runtime/precision with options, and any number of transforms before it:
    transform:option=value+runtime/precision:option=value,option=value

    \b
    Examples:
      quantfleet strategies
      quantfleet strategies --runtime openvino --here
      quantfleet strategies --json | jq -r '.[] | select(.kind == "pair" and .here == "yes") | .name'
      quantfleet strategies explain prune-ffn:0.3+torch/int8-dynamic
    """
    if ctx.invoked_subcommand is not None:
        _refuse_before(ctx, {"--runtime": runtime, "--here": here, "--json": as_json})
        return
    if runtime is not None and runtime not in _runtimes():
        near = errors.nearest(runtime, _runtimes())
        raise errors.StrategyError(f"there is no runtime {runtime!r}{near} (there are {', '.join(_runtimes())})")
    found = explanation.catalogue(_this_machine(), runtime=runtime)
    shown = [row for row in found if row["here"] != "no" or not here]
    if as_json:
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        strategy_tables.print_catalogue(shown, left_out=len(found) - len(shown))


@app.command()
def explain(
    strategy: Annotated[
        str, typer.Argument(help="A strategy string.", show_default=False, autocompletion=_strategy_names)
    ],
    as_json: JsonOption = False,
) -> None:
    """Say what each part of a strategy does, needs and costs to prepare, and whether this machine can run it.

    The first line is the strategy's one spelling, under which results are stored.

    \b
    Examples:
      quantfleet strategies explain torch/int8-dynamic:per_channel
      quantfleet strategies explain "distil:layers=3+prune-ffn:0.3+openvino/int8-static:rows=200"
      quantfleet strategies explain prune-heads:25%+torch/fp32 --json | jq '.parts[0].options'
    """
    parsed = strategies.parse(strategy)
    told = explanation.explain(parsed, _this_machine())
    if as_json:
        print_json(**told)
    else:
        strategy_tables.print_explanation(told)


def _this_machine() -> explanation.Here:
    answer = worker_process.ask("probe", {})
    return explanation.Here(
        hardware=records.from_document(records.Hardware, answer["hardware"]),
        environment=records.from_document(records.Environment, answer["environment"]),
    )


def _refuse_before(ctx: typer.Context, given: dict[str, Any]) -> None:
    """Options of the list say nothing about a subcommand."""
    misplaced: Sequence[str] = [name for name, value in given.items() if value]
    if misplaced:
        raise UsageError(f"{misplaced[0]} belongs to the list; options of {ctx.invoked_subcommand} stand behind it")
