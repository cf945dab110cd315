"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StudyArgument = Annotated[Path, typer.Argument(help="The study file (YAML).", show_default=False)]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME=PATH", help="Folder of a model, instead of what the study says; repeatable."),
]
DatasetOption = Annotated[
    str | None, typer.Option("--dataset", metavar="PATH", help="Dataset file, instead of what the study says.")
]
