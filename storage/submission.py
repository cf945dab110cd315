"""A study and its planned jobs into the database; public through `storage.lifecycle`."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import keys, records, rows, statements, tables
from storage.database import Database


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyText:
    """A study as its author wrote it."""

    name: str
    text: str  # the file's content
    document: Mapping[str, Any] | None = None  # the study resolved, for planning it again without its files


@dataclass(frozen=True, kw_only=True, slots=True)
class Submitted:
    """What a submission added."""

    study_id: str
    new: tuple[str, ...]  # ids of the jobs that were not there before, in planned order
    existing: int  # jobs that were there already, done or not


def submit(db: Database, *, study: StudyText, jobs: Sequence[records.PlannedJob]) -> Submitted:
    """Store a study and those of its jobs that do not exist yet; nothing is published.

    Jobs are known by their keys: what another study planned already is shared, in whatever state it is. A job that
    still waits takes the newest budget: who asks again with more time or other precision means that.
    """
    planned = rows.unique_jobs(jobs)
    with db.transaction() as connection:
        study_id = store_study(connection, study)
        statements.insert_missing(connection, tables.model, _models(planned))
        new = _insert_jobs(connection, planned)
        if len(new) < len(planned):
            _take_budgets(connection, planned)
        _order(connection, planned)
        _link(connection, study_id, [each.key for each in planned])
    return Submitted(study_id=study_id, new=tuple(new), existing=len(planned) - len(new))


def add(db: Database, jobs: Sequence[records.PlannedJob]) -> tuple[str, ...]:
    """Store those of some jobs that do not exist yet, for no study; the ids of the new ones, in planned order."""
    planned = rows.unique_jobs(jobs)
    with db.transaction() as connection:
        statements.insert_missing(connection, tables.model, _models(planned))
        return tuple(_insert_jobs(connection, planned))


def store_study(connection: sa.Connection, study: StudyText) -> str:
    """Store a study, or note that it was submitted again; its id. Part of the caller's transaction."""
    digest = keys.digest(study.text)
    again: dict[str, Any] = {"submitted_at": tables.now()}
    again |= {} if study.document is None else {"document": dict(study.document)}
    insert = statements.insert(connection, tables.study).values(
        id=uuid.uuid4().hex, name=study.name, digest=digest, text=study.text, **again
    )
    upsert = insert.on_conflict_do_update(index_elements=["name", "digest"], set_=again)
    return str(connection.execute(upsert.returning(tables.study.c.id)).scalar_one())


def _models(planned: Iterable[records.PlannedJob]) -> list[rows.Row]:
    found = (rows.model(each.case.model) for each in planned)
    return list({row["key"]: row for row in found}.values())


def _insert_jobs(connection: sa.Connection, planned: Sequence[records.PlannedJob]) -> list[str]:
    found = [rows.job(uuid.uuid4().hex, each, position) for position, each in enumerate(planned)]
    times = {"created_at": tables.now(), "not_before_at": tables.now()}
    insert = statements.insert(connection, tables.job).values(times).on_conflict_do_nothing(index_elements=["key"])
    new: set[str] = set()
    for chunk in statements.chunks(found):
        new.update(connection.execute(insert.returning(tables.job.c.id), chunk).scalars())
    return [row["id"] for row in found if row["id"] in new]


def _order(connection: sa.Connection, planned: Sequence[records.PlannedJob]) -> None:
    """Which job waits for which; a key that nobody planned is nothing to wait for."""
    pairs = [(each.key, first) for each in planned for first in each.after]
    ids: dict[str, str] = {}
    for chunk in statements.chunks(list({key for pair in pairs for key in pair})):
        found = connection.execute(sa.select(tables.job.c.key, tables.job.c.id).where(tables.job.c.key.in_(chunk)))
        ids |= {row.key: row.id for row in found}
    links = [{"job_id": ids[one], "after_id": ids[first]} for one, first in pairs if first in ids]
    for some in statements.chunks(links):
        connection.execute(statements.insert(connection, tables.job_after).on_conflict_do_nothing(), some)


def _take_budgets(connection: sa.Connection, planned: Sequence[records.PlannedJob]) -> None:
    job = tables.job
    budgets: dict[records.Budget, list[str]] = {}
    for each in planned:
        budgets.setdefault(each.budget, []).append(each.key)
    for budget, found in budgets.items():
        for chunk in statements.chunks(found):
            waiting = sa.update(job).where(job.c.key.in_(chunk), job.c.state == "queued")
            connection.execute(waiting.values(budget_document=records.to_document(budget)))


def _link(connection: sa.Connection, study_id: str, job_keys: Sequence[str]) -> None:
    for chunk in statements.chunks(job_keys):
        ids = sa.select(sa.literal(study_id), tables.job.c.id).where(tables.job.c.key.in_(chunk))
        insert = statements.insert(connection, tables.study_job).from_select(["study_id", "job_id"], ids)
        connection.execute(insert.on_conflict_do_nothing())
