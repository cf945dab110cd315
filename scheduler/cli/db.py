"""`quantfleet db`: the database's schema."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from scheduler.cli.options import DatabaseOption
from storage import errors, settings
from storage.database import Database
from storage.database import check as schema_check
from storage.database import upgrade as schema_upgrade

app = typer.Typer(help="Upgrade or check the result database.", no_args_is_help=True, add_completion=False)


@app.command()
def upgrade(database: DatabaseOption = None) -> None:
    """Make the database, or bring it to this version's schema.

    Examples: quantfleet db upgrade · quantfleet db upgrade --database postgresql://user@host/quantfleet
    """
    config = settings.load(database=database)
    before = _current(config.database)
    schema_upgrade(config.database)
    after = _current(config.database)
    change = "was up to date" if before == after else f"{before or 'new'} → {after}"
    typer.echo(f"{config.redacted_database()}: {change}")


@app.command()
def check(
    database: DatabaseOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which schema the database has; exit code 1 when this version cannot use it.

    Examples: quantfleet db check · quantfleet db check --json
    """
    config = settings.load(database=database)
    state = schema_check(config.database)
    good = state.current == state.head
    if as_json:
        typer.echo(json.dumps({"current": state.current, "head": state.head, "usable": good}))
    else:
        typer.echo(f"{config.redacted_database()}: schema {state.current or 'none'}, {_verdict(config.database)}")
    if not good:
        raise typer.Exit(1)


def _current(address: str) -> str | None:
    """The schema that a database has, None for one that is not there yet; what else is wrong, upgrading will tell."""
    try:
        return schema_check(address).current
    except errors.DatabaseError:
        return None


def _verdict(address: str) -> str:
    """Whether this version can use the database, and what to do if not."""
    try:
        Database.open(address, readonly=True).close()
    except errors.SchemaMismatch as exc:
        return f"not this version's: {exc}"
    return "this version's schema"
