"""`quantfleet db`: the database's schema."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from storage import settings
from storage.database import check as schema_check
from storage.database import upgrade as schema_upgrade

app = typer.Typer(help="Upgrade or check the result database.", no_args_is_help=True, add_completion=False)

DatabaseOption = Annotated[
    str | None, typer.Option("--database", help="Database address; default: QUANTFLEET_DATABASE or ./quantfleet.db.")
]


@app.command()
def upgrade(database: DatabaseOption = None) -> None:
    """Make the database, or bring it to this version's schema.

    Examples: quantfleet db upgrade · quantfleet db upgrade --database postgresql://user@host/quantfleet
    """
    config = settings.load(database=database)
    before = schema_check(config.database)
    schema_upgrade(config.database)
    after = schema_check(config.database)
    change = "was up to date" if before.current == after.current else f"{before.current or 'empty'} → {after.current}"
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
        verdict = "this version's schema" if good else f"not this version's ({state.head}): run `quantfleet db upgrade`"
        typer.echo(f"{config.redacted_database()}: schema {state.current or 'none'}, {verdict}")
    if not good:
        raise typer.Exit(1)
