"""The questions that one can ask the database; rows become the frozen views of `storage.views`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from storage import ceilings as machine
from storage import plain, records, statements, tables, wide
from storage.database import Database
from storage.ended import PLANNED, Filter, among, in_study, more_than, platform_keys, results, whole
from storage.views import (
    AttemptView,
    CeilingsView,
    FailureGroup,
    HostView,
    JobGroup,
    JobView,
    Predictions,
    Pruned,
    ResultView,
    StudyName,
    StudyView,
)

__all__ = [
    "AttemptView",
    "CeilingsView",
    "FailureGroup",
    "HostView",
    "JobGroup",
    "JobView",
    "Predictions",
    "Pruned",
    "ResultView",
    "StudyName",
    "StudyView",
    "in_study",
    "more_than",
    "platform_keys",
    "results",
    "whole",
]

job, study, result, hardware = tables.job, tables.study, tables.result, tables.hardware


def jobs(
    db: Database, *, study: str | None = None, states: Filter = None, ended_after: float | None = None
) -> list[JobView]:
    """All jobs, or those of a study (its name or id), in planned order.

    `ended_after`: only those that came to their end after that moment of the database's clock.
    """
    ended = () if ended_after is None else (job.c.finished_at > ended_after,)
    picked = (*in_study(study), *_in_states(states), *ended)
    query = sa.select(*_columns(job, JobView)).where(*picked).order_by(*PLANNED)
    with db.read() as connection:
        names = _study_names(connection, picked)
        found = connection.execute(query).mappings().all()
    return [JobView(studies=names.get(row["id"], ()), **row) for row in found]


def job_ids(db: Database, keys: Iterable[str], states: Filter = None) -> list[str]:
    """Ids of the jobs with these keys, those that exist and are in one of the states."""
    found: list[str] = []
    with db.read() as connection:
        for wanted in statements.chunks(list(keys)):
            query = sa.select(job.c.id).where(job.c.key.in_(wanted), *among(job.c.state, states))
            found += connection.execute(query).scalars()
    return found


def ids_starting(db: Database, prefix: str, *, limit: int = 3) -> list[str]:
    """The first ids of jobs that begin so."""
    query = sa.select(job.c.id).where(job.c.id.startswith(prefix, autoescape=True)).order_by(job.c.id).limit(limit)
    with db.read() as connection:
        return list(connection.execute(query).scalars())


def groups(db: Database, *, study: str | None = None, states: Filter = None) -> list[JobGroup]:
    """All jobs, or those of a study (its name or id), counted by where they belong, what they are and their state."""
    names = [field.name for field in dataclasses.fields(JobGroup) if field.name != "count"]
    return [JobGroup(**row) for row in _counted(db, names, (*in_study(study), *_in_states(states)))]


def failures(db: Database, *, study: str | None = None) -> list[FailureGroup]:
    """The jobs that ended without a result, counted by their reasons; the most frequent first."""
    names = [field.name for field in dataclasses.fields(FailureGroup) if field.name != "count"]
    ended = job.c.state.in_(sorted(records.TERMINAL - {"done"}))
    rows = _counted(db, names, (*in_study(study), ended))
    return sorted((FailureGroup(**row) for row in rows), key=lambda group: (-group.count, group.strategy))


def attempts(db: Database, job_id: str) -> list[AttemptView]:
    """Every try at a job, the first one first."""
    attempt = tables.attempt
    query = sa.select(*_columns(attempt, AttemptView)).where(attempt.c.job_id == job_id).order_by(attempt.c.token)
    with db.read() as connection:
        return [AttemptView(**row) for row in connection.execute(query).mappings()]


def ceilings(db: Database) -> dict[str, CeilingsView]:
    """The newest ceilings of each hardware, by its key."""
    names = ("job_id", "platform_key", "host", "finished_at", "document")
    query = (
        sa.select(*(result.c[name] for name in names), tables.platform.c.hardware_key)
        .join(job, job.c.id == result.c.job_id)
        .join(tables.platform, tables.platform.c.key == result.c.platform_key)
        .where(tables.CEILINGS)
        .order_by(result.c.finished_at, result.c.job_id)
    )
    with db.read() as connection:
        rows = connection.execute(query).mappings().all()
    return {row["hardware_key"]: _ceilings(dict(row)) for row in rows}


def predictions(db: Database, job_id: str) -> Predictions | None:
    """The answers of an accuracy job and the right ones, row by row; None without a result."""
    table = tables.prediction
    with db.read() as connection:
        row = connection.execute(sa.select(table).where(table.c.job_id == job_id)).one_or_none()
    if row is None:
        return None
    return Predictions(predictions=plain.unpack(row.predictions, "<i4"), labels=plain.unpack(row.labels, "<i4"))


def legs(db: Database, job_id: str) -> list[records.Leg]:
    """The raw samples of a job in the order in which they were taken; none where they were pruned."""
    return legs_of(db, [job_id]).get(job_id, [])


def legs_of(db: Database, job_ids: Sequence[str]) -> dict[str, list[records.Leg]]:
    """The same of several jobs, those that have any: all in memory at once, so ask for a few hundred."""
    with db.read() as connection:
        return read_legs(connection, job_ids)


def read_legs(connection: sa.Connection, job_ids: Sequence[str]) -> dict[str, list[records.Leg]]:
    """The same as part of the caller's transaction."""
    table = tables.sample
    found: dict[str, list[records.Leg]] = {}
    for some in statements.chunks(job_ids):
        query = sa.select(table.c.job_id, table.c.samples, sa.cast(table.c.disturbed, sa.Text), *_LEG_COLUMNS)
        picked = query.where(table.c.job_id.in_(some)).order_by(table.c.job_id, table.c.number)
        for job_id, samples, disturbed, *more in connection.execute(picked):
            found.setdefault(job_id, []).append(_leg(samples, disturbed, more))
    return found


def pruned(db: Database, job_ids: Sequence[str]) -> dict[str, Pruned]:
    """What is left of these jobs' raw samples, of those whose samples were pruned."""
    table = tables.pruned
    found: dict[str, Pruned] = {}
    with db.read() as connection:
        for some in statements.chunks(job_ids):
            rows = connection.execute(sa.select(table).where(table.c.job_id.in_(some))).mappings()
            found.update({row["job_id"]: Pruned(**row) for row in rows})
    return found


def study_names(db: Database) -> list[StudyName]:
    """Every study, the newest first, without its text."""
    query = sa.select(study.c.id, study.c.name).order_by(study.c.submitted_at.desc(), study.c.id)
    with db.read() as connection:
        return [StudyName(**row) for row in connection.execute(query).mappings()]


def has_ended(db: Database, study_id: str) -> bool:
    """Whether any job of a study has come to its end."""
    link = tables.study_job
    ended = job.c.state.in_(sorted(records.TERMINAL))
    query = sa.select(link.c.job_id).join(job, job.c.id == link.c.job_id).where(link.c.study_id == study_id, ended)
    with db.read() as connection:
        return connection.execute(query.limit(1)).first() is not None


def studies(db: Database, *, counted: bool = True, newest: int | None = None) -> list[StudyView]:
    """Every study, the newest first, with the states of its jobs.

    `counted` False: without, which reads no job. `newest`: only so many, and those that still have jobs to do.
    """
    link = tables.study_job
    query = sa.select(*_columns(study, StudyView)).order_by(study.c.submitted_at.desc(), study.c.id)
    counts = (
        sa.select(link.c.study_id, job.c.state, sa.func.count().label("count"))
        .join(job, job.c.id == link.c.job_id)
        .group_by(link.c.study_id, job.c.state)
    )
    with db.read() as connection:
        if newest is not None:
            ids = _newest(connection, newest)
            query, counts = query.where(study.c.id.in_(ids)), counts.where(link.c.study_id.in_(ids))
        states: dict[str, dict[str, int]] = {}
        for row in connection.execute(counts).mappings() if counted else ():
            states.setdefault(row["study_id"], {})[row["state"]] = row["count"]
        return [StudyView(states=states.get(row["id"], {}), **row) for row in connection.execute(query).mappings()]


def _newest(connection: sa.Connection, count: int) -> list[str]:
    """Ids of the newest studies, and of those that have jobs which wait or run."""
    link = tables.study_job
    latest = sa.select(study.c.id).order_by(study.c.submitted_at.desc(), study.c.id).limit(count)
    at_work = sa.select(link.c.study_id).join(job, job.c.id == link.c.job_id).where(*_in_states(records.OPEN))
    return sorted({*connection.execute(latest).scalars(), *connection.execute(at_work.distinct()).scalars()})


def hosts(db: Database, *, imported: bool = True) -> list[HostView]:
    """Every host that ever registered, by name; with `imported`, those too that came with another database's results:
    for these nothing may be planned."""
    host, environment = tables.host, tables.environment
    query = (
        sa.select(
            host,
            (tables.now() - host.c.last_seen_at).label("unseen_s"),
            tables.platform.c.hardware_key,
            tables.platform.c.environment_key,
            hardware.c.document.label("hardware"),
            environment.c.document.label("environment"),
        )
        .join(tables.platform, tables.platform.c.key == host.c.platform_key)
        .join(hardware, hardware.c.key == tables.platform.c.hardware_key)
        .join(environment, environment.c.key == tables.platform.c.environment_key)
        .where(sa.true() if imported else host.c.imported_at.is_(None))
        .order_by(host.c.name)
    )
    with db.read() as connection:
        return [_host(dict(row)) for row in connection.execute(query).mappings()]


def platforms(db: Database) -> dict[str, records.Platform]:
    """Every platform that a host ever had, by its key; hosts change theirs, results keep it."""
    platform, environment = tables.platform, tables.environment
    query = (
        sa.select(
            platform.c.key.label("platform_key"),
            platform.c.hardware_key,
            platform.c.environment_key,
            hardware.c.document.label("hardware"),
            environment.c.document.label("environment"),
        )
        .join(hardware, hardware.c.key == platform.c.hardware_key)
        .join(environment, environment.c.key == platform.c.environment_key)
        .order_by(platform.c.key)
    )
    with db.read() as connection:
        return {row["platform_key"]: _platform(row) for row in connection.execute(query).mappings()}


def clock(db: Database) -> float:
    """The database's time in epoch seconds, which every `*_at` is told by."""
    with db.read() as connection:
        return float(connection.execute(sa.select(tables.now())).scalar_one())


def existing(db: Database, keys: Iterable[str]) -> dict[str, str]:
    """State of those jobs among the keys that exist already."""
    found: dict[str, str] = {}
    with db.read() as connection:
        for wanted in statements.chunks(list(keys)):
            query = sa.select(job.c.key, job.c.state).where(job.c.key.in_(wanted))
            found.update({row.key: row.state for row in connection.execute(query)})
    return found


def typical_seconds(db: Database, platform_key: str) -> dict[tuple[str, str, str], float]:
    """Mean wall seconds of the jobs done on a platform, by (kind, model, strategy)."""
    wall = sa.func.avg(job.c.finished_at - job.c.claimed_at).label("wall")
    query = (
        sa.select(job.c.kind, job.c.model, job.c.strategy, wall)
        .where(job.c.platform_key == platform_key, job.c.state == "done")
        .group_by(job.c.kind, job.c.model, job.c.strategy)
    )
    with db.read() as connection:
        return {(row.kind, row.model, row.strategy): float(row.wall) for row in connection.execute(query)}


def _columns(table: sa.Table, view: type[Any]) -> list[sa.Column[Any]]:
    return [table.c[field.name] for field in dataclasses.fields(view) if field.name in table.c]


def _in_states(wanted: Filter) -> Iterable[sa.ColumnElement[bool]]:
    """Jobs that wait or run are found by indexes that hold no others."""
    if wanted is None:
        return ()
    names = {wanted} if isinstance(wanted, str) else set(wanted)
    is_open = names and names <= records.OPEN
    return (tables.in_state(*sorted(names)),) if is_open else among(job.c.state, wanted)  # type: ignore[arg-type]


def _counted(db: Database, names: Iterable[str], picked: Iterable[sa.ColumnElement[bool]]) -> list[dict[str, Any]]:
    columns = [job.c[name] for name in names]
    query = sa.select(*columns, sa.func.count().label("count")).where(*picked).group_by(*columns)
    with db.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _study_names(
    connection: sa.Connection, picked: Iterable[sa.ColumnElement[bool]] = ()
) -> dict[str, tuple[str, ...]]:
    """Job id → names of its studies, for the jobs that fit."""
    link = tables.study_job
    query = sa.select(link.c.job_id, study.c.name).join(study, study.c.id == link.c.study_id).distinct()
    conditions = tuple(picked)
    if conditions:
        query = query.join(job, job.c.id == link.c.job_id).where(*conditions)
    names: dict[str, list[str]] = {}
    for row in connection.execute(query):
        names.setdefault(row.job_id, []).append(row.name)
    return {job_id: tuple(sorted(found)) for job_id, found in names.items()}


_LEG = tuple(field.name for field in dataclasses.fields(records.Leg) if field.name not in ("samples_ns", "disturbed"))
_LEG_COLUMNS = tuple(tables.sample.c[name] for name in _LEG)
_made_leg = wide.maker(records.Leg)


def _leg(samples: bytes, disturbed: str, more: Sequence[Any]) -> records.Leg:
    reasons = () if disturbed == "[]" else tuple(plain.loads(disturbed))
    return _made_leg(**dict(zip(_LEG, more, strict=True)), samples_ns=plain.unpack(samples, "<i8"), disturbed=reasons)


def _ceilings(row: dict[str, Any]) -> CeilingsView:
    measurement = records.from_document(machine.CeilingsMeasurement, row.pop("document"))
    return CeilingsView(measurement=measurement, **row)


def _host(row: Mapping[str, Any]) -> HostView:
    times = {name: row[name] for name in ("first_seen_at", "last_seen_at", "unseen_s", "stopped_at", "imported_at")}
    return HostView(name=row["name"], platform=_platform(row), labels=row["labels"], **times)


def _platform(row: Mapping[Any, Any]) -> records.Platform:
    return records.Platform(
        key=row["platform_key"],
        hardware_key=row["hardware_key"],
        environment_key=row["environment_key"],
        hardware=records.from_document(records.Hardware, row["hardware"]),
        environment=records.from_document(records.Environment, row["environment"]),
    )
