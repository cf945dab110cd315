"""A study and its planned jobs into the database; public through `storage.lifecycle`."""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterable, Mapping, Sequence
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
        there = _states(connection, planned)
        statements.insert_missing(connection, tables.model, _models(planned))
        new = _insert_jobs(connection, planned, there)
        if len(new) + len(there) < len(planned):  # another submission was quicker with some
            there = _states(connection, planned)
        _take_budgets(connection, [each for each in planned if there.get(each.key) in records.OPEN])
        _order(connection, planned)
        _link(connection, study_id, [each.key for each in planned])
    return Submitted(study_id=study_id, new=tuple(new), existing=len(planned) - len(new))


def add(db: Database, jobs: Sequence[records.PlannedJob]) -> tuple[str, ...]:
    """Store those of some jobs that do not exist yet, for no study; the ids of the new ones, in planned order."""
    planned = rows.unique_jobs(jobs)
    with db.transaction() as connection:
        statements.insert_missing(connection, tables.model, _models(planned))
        return tuple(_insert_jobs(connection, planned, _states(connection, planned)))


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
    references = {id(each.case.model): each.case.model for each in planned}  # thousands of cases share one
    return list({row["key"]: row for row in map(rows.model, references.values())}.values())


def _states(connection: sa.Connection, planned: Sequence[records.PlannedJob]) -> dict[str, str]:
    """The states of those jobs that are there already, by their keys."""
    found: dict[str, str] = {}
    job = tables.job
    for chunk in statements.chunks(planned):
        query = sa.select(job.c.key, job.c.state).where(job.c.key.in_([each.key for each in chunk]))
        found |= {row.key: row.state for row in connection.execute(query)}
    return found


def _insert_jobs(connection: sa.Connection, planned: Sequence[records.PlannedJob], there: Container[str]) -> list[str]:
    """Insert the jobs that are not there; their ids in planned order. Rows are made as they are sent: there may be
    many, and each is larger than its job.

    Another submission may add some of them meanwhile: the database has the last word.
    """
    times = {"created_at": tables.now(), "not_before_at": tables.now()}
    insert = statements.insert(connection, tables.job).values(times).on_conflict_do_nothing(index_elements=["key"])
    missing = [(at, each) for at, each in enumerate(planned) if each.key not in there]
    made, new = rows.JobRows(), list[str]()
    for chunk in statements.chunks(missing):
        found = [made.row(uuid.uuid4().hex, each, position) for position, each in chunk]
        ids = set(connection.execute(insert.returning(tables.job.c.id), found).scalars())
        new += [row["id"] for row in found if row["id"] in ids]
    return new


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
    """Give the newest budget to those of some jobs that wait."""
    job = tables.job
    budgets: dict[records.Budget, list[str]] = {}
    for each in planned:
        budgets.setdefault(each.budget, []).append(each.key)
    for budget, found in budgets.items():
        document = records.to_document(budget)
        for chunk in statements.chunks(found):
            waiting = (job.c.key.in_(chunk), tables.stands("queued"), job.c.budget_document != document)
            connection.execute(sa.update(job).where(*waiting).values(budget_document=document))


def _link(connection: sa.Connection, study_id: str, job_keys: Sequence[str]) -> None:
    for chunk in statements.chunks(job_keys):
        ids = sa.select(sa.literal(study_id), tables.job.c.id).where(tables.job.c.key.in_(chunk))
        insert = statements.insert(connection, tables.study_job).from_select(["study_id", "job_id"], ids)
        connection.execute(insert.on_conflict_do_nothing())
