"""The `quantfleet` command: its groups, its options for all, and how errors reach a person."""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.metadata
import os
import sys
import traceback
from typing import Annotated

import typer
import typer.core
from typer import _click as click  # typer carries its own click; commands and errors are of its classes
from typer._click.exceptions import ClickException, UsageError

from storage import errors

USER_MENDS, FAILED, INTERRUPTED = 2, 1, 130
"""Exit codes: what the person can mend; what failed while running; Ctrl-C."""

PATIENT = (50_000, 10, 10)
"""Of the garbage collector: records have no cycles, and it would look at all of them again and again."""

COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": ("scheduler.cli.run:run", "Study", "Run a study on this machine and print the comparison."),
    "plan": ("scheduler.cli.plan:plan", "Study", "Show what a study would do, and how long it may take."),
    "study": ("scheduler.cli.study:app", "Study", "Check a study file, or print its JSON Schema."),
    "submit": ("scheduler.cli.submit:submit", "Fleet", "Give a study to the fleet."),
    "watch": ("scheduler.cli.watch:watch", "Fleet", "Show a study's progress by host until its end."),
    "status": ("scheduler.cli.watch:status", "Fleet", "Show how far studies are, and what failed."),
    "cancel": ("scheduler.cli.jobs:cancel", "Fleet", "Take jobs back."),
    "retry": ("scheduler.cli.jobs:retry", "Fleet", "Try jobs again that ended without a result."),
    "backfill": ("scheduler.cli.submit:backfill", "Fleet", "Plan a submitted study for hosts that joined later."),
    "hosts": ("scheduler.cli.hosts:hosts", "Fleet", "List the fleet's hosts, what they are and do."),
    "worker": ("scheduler.cli.worker:worker", "Fleet", "Join the fleet: measure here what is submitted."),
    "results": ("scheduler.cli.results:results", "Results", "List stored results, one job a row."),
    "compare": ("scheduler.cli.results:compare", "Results", "Compare strategies with their baseline."),
    "sql": ("scheduler.cli.sql:sql", "Results", "Ask the database in SQL, reading only."),
    "prune": ("scheduler.cli.prune:prune", "Results", "Take raw samples out, keep what they say."),
    "export": ("scheduler.cli.moving:export", "Results", "Write studies with their results into a file."),
    "import": ("scheduler.cli.moving:import_", "Results", "Take studies from such a file into the database."),
    "transfer": ("scheduler.cli.transfer:transfer", "Results", "Tell whether gains there hold here."),
    "waterfall": ("scheduler.cli.waterfall:waterfall", "Results", "Show step by step where a gain comes from."),
    "best": ("scheduler.cli.decide:best", "Results", "Choose: the best configuration, or what to rent for a load."),
    "pareto": ("scheduler.cli.decide:show_pareto", "Results", "Show what no other configuration beats."),
    "interop": ("scheduler.cli.interop:app", "Results", "Import other tools' results; export ours to theirs."),
    "report": ("scheduler.cli.report:report", "Results", "Write a study's report: one HTML file that opens offline."),
    "serve": ("scheduler.cli.serve:serve", "Results", "Show studies, hosts and reports live in a browser."),
    "strategies": ("scheduler.cli.strategies:app", "Machine", "List the strategies and what runs here; explain one."),
    "hardware": ("scheduler.cli.hardware:app", "Machine", "Show this machine's fingerprint; measure what it can do."),
    "doctor": ("scheduler.cli.machine:doctor", "Machine", "Check whether this machine is fit to measure."),
    "model": ("scheduler.cli.model:app", "Models", "Train or inspect a model."),
    "db": ("scheduler.cli.db:app", "Results", "Upgrade or check the result database."),
}
"""Command → where it lives, its panel, its line in the help; the module is imported when the command is used."""


class LazyGroup(typer.core.TyperGroup):
    """A group that imports a command's module only when that command is used: `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command as listings and completion need it: name, line and panel; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        _, panel, summary = COMMANDS[cmd_name]
        listed = typer.core.TyperCommand(cmd_name, help=summary)
        listed.rich_help_panel = panel
        return listed

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is asked for, its module imported now; the nearest name for an unknown one."""
        name = args[0]
        if name in COMMANDS:
            target, panel, _ = COMMANDS[name]
            return name, _load(name, target, patient=panel == "Results"), args[1:]
        if name.startswith("-"):
            return super().resolve_command(ctx, args)
        raise UsageError(f"there is no command {name!r}{errors.nearest(name, COMMANDS)}", ctx)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"quantfleet {importlib.metadata.version('quantfleet')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What does an optimization gain on each of my CPU machines, and is it worth its accuracy?

    A study (a YAML file) names models, strategies, thread counts and inputs; quantfleet measures each case in
    fresh processes against its baseline, in turn, and stores gains with intervals.

    Start with: quantfleet doctor · quantfleet run study.yaml · quantfleet compare

    With several machines: quantfleet worker · quantfleet submit study.yaml · quantfleet watch
    """
    del version
    if debug:
        os.environ["QUANTFLEET_DEBUG"] = "1"


def run() -> None:
    """Entry of the `quantfleet` command: runs it and turns errors into a message and an exit code."""
    debug = "--debug" in sys.argv or os.environ.pop("QUANTFLEET_DEBUG", "") == "1"
    gc.disable()  # imports make many objects and no garbage to look for
    atexit.register(gc.freeze)  # Python looks through everything once more as it ends
    try:
        command = typer.main.get_command(app)
        code = command.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except (typer.Abort, KeyboardInterrupt):
        _say("interrupted", debug)
        sys.exit(INTERRUPTED)
    except (ClickException, typer.Exit) as exc:
        sys.exit(_click(exc))
    except errors.UserError as exc:
        _say(f"error: {exc}", debug)
        sys.exit(USER_MENDS)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader (`| head`) has seen enough
        sys.exit(0)
    except Exception as exc:
        known = isinstance(exc, errors.QuantfleetError)
        text = str(exc) if known else f"unexpected {type(exc).__name__}: {exc} (--debug shows where)"
        _say(f"error: {text}", debug)
        sys.exit(FAILED)
    finally:
        gc.enable()


def _click(exc: Exception) -> int:
    if isinstance(exc, ClickException):
        exc.show()
        return exc.exit_code
    return int(getattr(exc, "exit_code", 0))


def _say(text: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"{text}\n")


def _load(name: str, target: str, *, patient: bool) -> click.Command:
    """The command, its module imported; `patient`: it reads thousands of rows, which are no garbage to look for."""
    module, _, attribute = target.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    gc.freeze()  # what was imported stays
    if patient:
        gc.set_threshold(*PATIENT)
    gc.enable()
    if isinstance(found, typer.Typer):
        group = typer.main.get_command(found)
        group.name = name
        return group
    single = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)
    single.command(name=name)(found)
    return typer.main.get_command(single)


if __name__ == "__main__":
    run()
