"""`compare --against …`: what changed since an earlier study, software or day, and whether to fail for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.console import Console

from scheduler import quantities
from scheduler.cli import bars, common, export
from scheduler.filters import Filter, choice
from storage import errors
from storage.database import Database

if TYPE_CHECKING:
    from scheduler.changes import Asked  # with eight modules behind it: every other question does without

PANEL = "Against an earlier measurement"

JUDGES = ("gain", "time")

MANY = 100
"""Jobs whose samples are read with a bar to watch."""

AgainstOption = Annotated[
    str | None,
    typer.Option("--against", help="What changed since this study (its name or id)", rich_help_panel=PANEL),
]
AgainstEnvironmentOption = Annotated[
    str | None,
    typer.Option(
        "--against-environment",
        metavar="SOFTWARE",
        help="What changed since this software: 'torch=2.12', or the start of its key",
        rich_help_panel=PANEL,
    ),
]
AgainstBeforeOption = Annotated[
    str | None,
    typer.Option(
        "--against-before",
        metavar="DAY",
        help="What changed since this day: 2026-11-30, or 2026-11-30T14:00",
        rich_help_panel=PANEL,
    ),
]
FdrOption = Annotated[
    float | None,
    typer.Option(
        "--fdr",
        metavar="SHARE",
        help="False ones among the changes that are told, on average [default: 0.05]",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
FailOption = Annotated[
    str | None,
    typer.Option(
        "--fail-on-regression",
        metavar="PERCENT",
        help="End with 1 where a case is shown to be slower by more than this: 3%",
        rich_help_panel=PANEL,
    ),
]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="NUMBER",
        help="What is judged: gain (slower beside its baseline) or time (slower, full stop) [default: gain]",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
FailAccuracyOption = Annotated[
    str | None,
    typer.Option(
        "--fail-on-accuracy-loss",
        metavar="POINTS",
        help="End with 1 where an accuracy is shown to be lost, and more than this of it: 0.5pt",
        rich_help_panel=PANEL,
    ),
]


def asked(
    *,
    against: str | None,
    environment: str | None,
    before: str | None,
    fdr: float | None,
    fail_on_regression: str | None,
    fail_on_accuracy_loss: str | None,
    judge: str | None,
    without: Mapping[str, Any],
) -> Asked | None:
    """What the options ask for, None for nothing earlier; QueryError for what cannot be read or goes not together.

    `without`: options of the plain comparison that say nothing of changes.
    """
    own = {"--fdr": fdr, "--fail-on-regression": fail_on_regression, "--judge": judge,
           "--fail-on-accuracy-loss": fail_on_accuracy_loss}  # fmt: skip
    if against is None and environment is None and before is None:
        for option, value in own.items():
            if value is not None:
                wants = "wants --against STUDY, --against-environment SOFTWARE or --against-before DAY"
                raise errors.QueryError(f"{option} {wants}")
        return None
    for option, value in without.items():
        if value:
            raise errors.QueryError(f"{option} says nothing of changes; leave it out")
    from scheduler.changes import Asked
    from scheduler.regressions import Rule

    rule = Rule(
        fdr=_rate(fdr),
        margin=None if fail_on_regression is None else quantities.percent("--fail-on-regression", fail_on_regression),
        judge=cast(Literal["time", "gain"], choice("judge", judge, JUDGES) or "gain"),
    )
    lost = fail_on_accuracy_loss
    limit = None if lost is None else quantities.points("--fail-on-accuracy-loss", lost)
    return Asked(study=against, environment=environment, before=before, rule=rule, accuracy_limit=limit)


def _rate(fdr: float | None) -> float:
    if fdr is not None and not 0 < fdr <= 0.5:
        raise errors.QueryError(f"--fdr {fdr:g}: expected a share above 0 and up to 0.5, such as 0.05")
    return 0.05 if fdr is None else fdr


def show(
    db: Database,
    asked: Asked,
    wanted: Filter,
    *,
    study: str | None,
    kinds: Sequence[str],
    disturbed: bool,
    as_json: bool,
    as_csv: bool,
) -> bool:
    """Print what changed; whether the command is to fail for it. QueryError where a gate has nothing to judge."""
    from scheduler import changes
    from scheduler.cli import changes_export, changes_table

    found = changes.find(db, asked, wanted, study=study, kinds=kinds, include_disturbed=disturbed, watch=_watched)
    if as_json:
        common.print_json(**changes_export.document(found))
    elif as_csv:
        typer.echo(export.as_csv(changes_export.FIELDS, map(changes_export.flat, found.changes)), nl=False)
    else:
        console = Console(highlight=False)
        console.print(changes_table.render(found, console.width))
    if found.unjudged and not found.fails:
        raise errors.QueryError(
            f"nothing could be tested, so that no {' and no '.join(found.unjudged)} can be ruled out"
        )
    return found.fails


def _watched(jobs: Sequence[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """With a bar where there are many."""
    return bars.over(jobs, "reading samples", least=MANY)
