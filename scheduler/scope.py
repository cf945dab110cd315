"""How much of a database a command is about: what was asked for, or of a large one the newest study.

A database of a fleet holds many studies, and nobody reads a million rows. Where no study is named and there are more
than `LARGE` results, commands are about the newest study that has any, and say so.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler import filters
from storage import foreign, queries
from storage.database import Database
from storage.views import StudyName

LARGE = 20_000
"""Results up to which everything is everything."""

EVERYTHING = "*"
"""What `--study` takes for all studies, however many results they have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """What a command is about."""

    study: str | None  # as `storage.queries` takes it: a name or an id; None: everything
    note: str | None = None  # a sentence, where less is shown than the database holds


def of(db: Database, study: str | None) -> Scope:
    """The scope that `--study` asks for; QueryError with the nearest name for a study that is not there, unless there
    is none at all: then there are no results either."""
    if study == EVERYTHING:
        return Scope(study=None)
    known = queries.study_names(db)
    if study is not None:
        if known:
            filters.study("study", study, known)
        return Scope(study=study)
    newest = _newest(db, known) if queries.more_than(db, LARGE) else None
    return Scope(study=None) if newest is None else _narrowed(newest, known)


def _newest(db: Database, known: list[StudyName]) -> StudyName | None:
    ours = (one for one in known if not one.name.startswith(foreign.STUDY))
    return next((one for one in ours if queries.has_ended(db, one.id)), None)


def _narrowed(newest: StudyName, known: list[StudyName]) -> Scope:
    same = sum(one.name == newest.name for one in known)
    name = f"{newest.name} ({newest.id[:8]})" if same > 1 else newest.name
    note = (
        f"more than {LARGE:,} results of {len(known):,} studies: only the newest study, {name}, is looked at; "
        f"--study NAME names another one, --study '{EVERYTHING}' all of them"
    )
    return Scope(study=newest.id if same > 1 else newest.name, note=note)
