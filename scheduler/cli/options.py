"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from storage import addresses, errors


def _secretless(ctx: typer.Context, param: typer.CallbackParam, value: str | None) -> str | None:
    """An address as it was given; SettingsError when it holds a password, which every user of the machine can read."""
    if value is not None and addresses.has_password(value):
        raise errors.SettingsError(
            f"--{param.name}: this address holds a password, and every user of this machine can read a command line "
            f"(ps): put the address into QUANTFLEET_{str(param.name).upper()} or the settings file quantfleet.toml"
        )
    return value


def study_names(incomplete: str) -> Iterator[str]:
    """Names of the stored studies that begin so; none when the database does not answer at once."""
    from storage import database_setting, queries
    from storage.database import Database

    try:
        with Database.open(database_setting.address(None), readonly=True, busy_timeout=1.0) as db:
            names = dict.fromkeys(one.name for one in queries.study_names(db))
    except errors.QuantfleetError:
        return
    yield from (name for name in names if name.startswith(incomplete))


StudyArgument = Annotated[Path, typer.Argument(help="The study file (YAML).", show_default=False)]
StoredStudyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[STUDY]",
        help="Name or id of a submitted study, or its file.",
        show_default=False,
        autocompletion=study_names,
    ),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME=PATH", help="Folder of a model, instead of what the study says; repeatable."),
]
DatasetOption = Annotated[
    str | None, typer.Option("--dataset", metavar="PATH", help="Dataset file, instead of what the study says.")
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data", metavar="NAME=PATH", help="File of one of the study's datasets, instead of what it says; repeatable."
    ),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="ADDRESS",
        help="SQLAlchemy address or SQLite file; default: QUANTFLEET_DATABASE, or quantfleet.db here.",
        callback=_secretless,
    ),
]
BrokerOption = Annotated[
    str | None,
    typer.Option(
        "--broker", metavar="ADDRESS", help="Broker address; default: QUANTFLEET_BROKER.", callback=_secretless
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="WORD",
        help="every-platform, every-host or any, instead of the study's targets.",
        show_default=False,
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FIELD=VALUE",
        help="Only hosts that fit, instead of the study's targets: isa=avx512_vnni, cpu='*EPYC*', label.region=eu, "
        "torch='2.13*', …; repeatable, all must fit.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
