"""What several commands do alike: read a study, print JSON, ask before something is changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from storage import errors, queries, records
from storage.database import Database

if TYPE_CHECKING:
    from scheduler import resolve  # the models of a study file are built when one is read: most commands read none
    from storage import settings

BAD_ENDS = frozenset({"failed", "dead"})
"""States of jobs that make a command end with exit code 1."""

_JOB_FIELDS = (
    *("id", "kind", "state", "model", "strategy", "baseline", "threads", "input", "replica", "platform_key"),
    *(
        "wanted_host",
        "host",
        "attempts",
        "cancelling",
        "progress",
        "message",
        "created_at",
        "claimed_at",
        "finished_at",
    ),
)

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def read_study(
    path: Path,
    models: list[str] | None,
    dataset: str | None,
    config: settings.Settings,
    *,
    data: list[str] | None = None,
    elsewhere: bool = False,
) -> resolve.Resolved:
    """A study file with everything that it names; `elsewhere`: absolute paths may be those of other machines."""
    from scheduler import resolve
    from scheduler import study as studies

    given = studies.overrides(models or [])
    more = studies.overrides(data or [], "--data", "train=./train.parquet")
    loaded = studies.load(path, models=given, dataset=dataset, datasets=more)
    if elsewhere:
        named = [(f"--model {name}", text) for name, text in given.items()]
        named += [(f"--data {name}", text) for name, text in more.items()]
        for option, text in (*named, ("--dataset", dataset)):
            _check_relative(option, text)
    return resolve.resolve(loaded, folders=config.folders, elsewhere=elsewhere)


def print_json(**fields: Any) -> None:
    """`{"schema": 1, …}` on standard output."""
    typer.echo(json.dumps({"schema": records.SCHEMA_VERSION, **fields}, indent=2, ensure_ascii=False))


def print_json_line(**fields: Any) -> None:
    """The same on one line, for a reader that follows."""
    typer.echo(json.dumps({"schema": records.SCHEMA_VERSION, **fields}, ensure_ascii=False))


def job_document(job: queries.JobView) -> dict[str, Any]:
    """A job as `--json` shows it; `host` is that of the newest claim, `wanted_host` the one that it is for."""
    return {name: getattr(job, name) for name in _JOB_FIELDS} | {"studies": list(job.studies), "wall_s": job.wall_s}


def stored_study(db: Database, given: str | None) -> tuple[queries.StudyView, str]:
    """As `fleet.study_of`, but a study file stands for its name too."""
    from scheduler import fleet, study_lines

    if given is not None and Path(given).suffix in (".yaml", ".yml") and Path(given).is_file():
        given = str(study_lines.read(Path(given)).data.get("name", given))
    return fleet.study_of(db, given)


def confirmed(question: str, *, yes: bool) -> None:
    """Ask, unless `--yes` was given or nobody sits there; Abort when the answer is no."""
    if not yes and sys.stdin.isatty():
        typer.confirm(question, abort=True)


def state_counts(states: Mapping[str, int]) -> str:
    """`3 done, 1 failed`, in the order of a job's life."""
    order = ("running", "queued", "done", "unsupported", "cancelled", "failed", "dead")
    return ", ".join(f"{states[state]} {state}" for state in order if states.get(state)) or "no jobs"


def _check_relative(option: str, text: str | None) -> None:
    if text is None:
        return
    path = Path(text).expanduser()
    if not Path(text).is_absolute() and not path.exists():
        raise errors.StudyError(
            f"{option} {text}: there is no such path here; only an absolute one may be the hosts' own"
        )
