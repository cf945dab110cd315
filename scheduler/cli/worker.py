"""`quantfleet worker`: this machine joins the fleet."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from scheduler.cli.options import BrokerOption, DatabaseOption
from storage import errors, settings
from storage.catalogue import registry


def worker(
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="A label of this host, for selectors; repeatable."),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="NAME", help="This host's name; default: the machine's.")
    ] = None,
    database: DatabaseOption = None,
    broker: BrokerOption = None,
) -> None:
    """Measure on this machine what is submitted to the fleet, until it is stopped.

    Takes database and broker from QUANTFLEET_DATABASE and QUANTFLEET_BROKER or from quantfleet.toml. SIGTERM lets the
    running job finish; a second one, or Ctrl-C, gives it back at once. One worker a machine is enough: it measures
    one job at a time, on all the threads that the job asks for.

    \b
    Examples:
      quantfleet worker
      quantfleet worker --label region=eu --label rack=3
      QUANTFLEET_DATABASE=postgresql://… QUANTFLEET_BROKER=redis://… quantfleet worker --host epyc-1
    """
    config = settings.load(database=database, broker=broker, host=host)
    config = config.model_copy(update={"labels": {**config.labels, **labels(label or [])}})
    check(config)
    sys.stdout.flush()
    from scheduler import local

    environ = dict(local.worker_environment(config))
    os.execve(sys.executable, [sys.executable, "-P", "-m", "worker.launcher"], environ)  # noqa: S606 - our own


def labels(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` options as a mapping; SettingsError for one without a `=` or given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value):
            raise errors.SettingsError(f"--label {pair}: expected NAME=VALUE, such as region=eu")
        if name in found:
            raise errors.SettingsError(f"--label {name} is given twice")
        found[name] = value
    return found


def check(config: settings.Settings) -> None:
    """Refuse early what can never work: SettingsError; UserError without the worker's libraries."""
    from scheduler import fleet

    fleet.require_postgres(config)
    if not config.broker:
        raise errors.SettingsError(
            "a worker needs a broker to be woken by: set QUANTFLEET_BROKER=redis://HOST:6379/0 "
            "(`quantfleet run` measures on this machine without one)"
        )
    missing = registry.absent(registry.describe("torch/fp32"))
    if missing:
        raise errors.UserError(
            f"a worker needs {' and '.join(missing)}, not installed here: pip install 'quantfleet[worker]' "
            "(or 'quantfleet[all]' for every runtime)"
        )
