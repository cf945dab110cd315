"""The questions that one can ask the database; rows become the frozen views of `storage.views`."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from storage import ceilings as machine
from storage import plain, records, statements, tables
from storage.database import Database
from storage.views import (
    AttemptView,
    CeilingsView,
    FailureGroup,
    HostView,
    JobGroup,
    JobView,
    Predictions,
    ResultView,
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
    "ResultView",
    "StudyView",
]

Filter = str | Collection[str] | None
"""One value, several of which one must fit, or None for all."""

job, study, result, hardware = tables.job, tables.study, tables.result, tables.hardware


def jobs(
    db: Database, *, study: str | None = None, states: Filter = None, ended_after: float | None = None
) -> list[JobView]:
    """All jobs, or those of a study (its name or id), in planned order.

    `ended_after`: only those that came to their end after that moment of the database's clock.
    """
    ended = () if ended_after is None else (job.c.finished_at > ended_after,)
    picked = (*_in_study(study), *_in_states(states), *ended)
    query = sa.select(*_columns(job, JobView)).where(*picked).order_by(*_PLANNED)
    with db.read() as connection:
        names = _study_names(connection, picked)
        found = connection.execute(query).mappings().all()
    return [JobView(studies=names.get(row["id"], ()), **row) for row in found]


def job_ids(db: Database, keys: Iterable[str], states: Filter = None) -> list[str]:
    """Ids of the jobs with these keys, those that exist and are in one of the states."""
    found: list[str] = []
    with db.read() as connection:
        for wanted in statements.chunks(list(keys)):
            query = sa.select(job.c.id).where(job.c.key.in_(wanted), *_among(job.c.state, states))
            found += connection.execute(query).scalars()
    return found


def ids_starting(db: Database, prefix: str, *, limit: int = 3) -> list[str]:
    """The first ids of jobs that begin so."""
    query = sa.select(job.c.id).where(job.c.id.startswith(prefix, autoescape=True)).order_by(job.c.id).limit(limit)
    with db.read() as connection:
        return list(connection.execute(query).scalars())


def groups(db: Database, *, study: str | None = None) -> list[JobGroup]:
    """All jobs, or those of a study (its name or id), counted by where they belong, what they are and their state."""
    names = [field.name for field in dataclasses.fields(JobGroup) if field.name != "count"]
    return [JobGroup(**row) for row in _counted(db, names, _in_study(study))]


def failures(db: Database, *, study: str | None = None) -> list[FailureGroup]:
    """The jobs that ended without a result, counted by their reasons; the most frequent first."""
    names = [field.name for field in dataclasses.fields(FailureGroup) if field.name != "count"]
    ended = job.c.state.in_(sorted(records.TERMINAL - {"done"}))
    rows = _counted(db, names, (*_in_study(study), ended))
    return sorted((FailureGroup(**row) for row in rows), key=lambda group: (-group.count, group.strategy))


def attempts(db: Database, job_id: str) -> list[AttemptView]:
    """Every try at a job, the first one first."""
    attempt = tables.attempt
    query = sa.select(*_columns(attempt, AttemptView)).where(attempt.c.job_id == job_id).order_by(attempt.c.token)
    with db.read() as connection:
        return [AttemptView(**row) for row in connection.execute(query).mappings()]


def results(
    db: Database,
    *,
    study: str | None = None,
    model: Filter = None,
    strategy: Filter = None,
    hardware: Filter = None,
    threads: int | Collection[int] | None = None,
    kind: Filter = None,
    states: Filter = None,
) -> list[ResultView]:
    """One row for each job that has come to its end, with its numbers or its message, in planned order.

    `study` is a name or an id, `hardware` a key; `states` picks among records.TERMINAL.
    """
    ended = records.TERMINAL if states is None else {states} if isinstance(states, str) else set(states)
    picked = (
        *_in_study(study),
        *_among(job.c.model, model),
        *_among(job.c.strategy, strategy),
        *_among(tables.platform.c.hardware_key, hardware),
        *_among(job.c.threads, threads),
        *_among(job.c.kind, kind),
        *_among(job.c.state, ended & records.TERMINAL),
    )
    with db.read() as connection:
        rows = connection.execute(_RESULTS.where(*picked).order_by(*_PLANNED)).mappings()
        return [_result(dict(row)) for row in rows]


def ceilings(db: Database) -> dict[str, CeilingsView]:
    """The newest ceilings of each hardware, by its key."""
    names = ("job_id", "platform_key", "host", "finished_at", "document")
    query = (
        sa.select(*(result.c[name] for name in names), tables.platform.c.hardware_key)
        .join(job, job.c.id == result.c.job_id)
        .join(tables.platform, tables.platform.c.key == result.c.platform_key)
        .where(job.c.kind == "ceilings")
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
    """The raw samples of a job in the order in which they were taken."""
    table = tables.sample
    names = {field.name for field in dataclasses.fields(records.Leg)} - {"samples_ns", "disturbed"}
    with db.read() as connection:
        query = sa.select(table).where(table.c.job_id == job_id).order_by(table.c.number)
        found = connection.execute(query).mappings().all()
    return [
        records.Leg(
            **{name: row[name] for name in names},
            samples_ns=plain.unpack(row["samples"], "<i8"),
            disturbed=tuple(row["disturbed"]),
        )
        for row in found
    ]


def studies(db: Database) -> list[StudyView]:
    """Every study with the states of its jobs, the newest first."""
    link = tables.study_job
    counts = (
        sa.select(link.c.study_id, job.c.state, sa.func.count().label("count"))
        .join(job, job.c.id == link.c.job_id)
        .group_by(link.c.study_id, job.c.state)
    )
    states: dict[str, dict[str, int]] = {}
    with db.read() as connection:
        for row in connection.execute(counts).mappings():
            states.setdefault(row["study_id"], {})[row["state"]] = row["count"]
        query = sa.select(*_columns(study, StudyView)).order_by(study.c.submitted_at.desc(), study.c.id)
        return [StudyView(states=states.get(row["id"], {}), **row) for row in connection.execute(query).mappings()]


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


_PLANNED = (job.c.created_at, job.c.position, job.c.id)

_PLATFORM_KEY = sa.func.coalesce(result.c.platform_key, job.c.platform_key)
_RESULTS = (
    sa.select(
        job.c.id.label("job_id"),
        *(job.c[name] for name in ("kind", "state", "model", "strategy", "baseline", "threads", "batch", "length")),
        *(job.c[name] for name in ("padding", "input", "instances", "replica", "finished_at", "message")),
        sa.func.coalesce(result.c.model_digest, tables.model.c.digest).label("model_digest"),
        sa.func.coalesce(result.c.host, job.c.host).label("host"),
        _PLATFORM_KEY.label("platform_key"),
        tables.platform.c.hardware_key,
        tables.platform.c.environment_key,
        hardware.c.cpu,
        *(result.c[name] for name in tables.METRIC_COLUMNS),
        result.c.flags,
        result.c.notes,
        result.c.document,
    )
    .join(tables.model, tables.model.c.key == job.c.model_key)
    .outerjoin(result, result.c.job_id == job.c.id)
    .outerjoin(tables.platform, tables.platform.c.key == _PLATFORM_KEY)
    .outerjoin(hardware, hardware.c.key == tables.platform.c.hardware_key)
)


def _columns(table: sa.Table, view: type[Any]) -> list[sa.Column[Any]]:
    return [table.c[field.name] for field in dataclasses.fields(view) if field.name in table.c]


def _among(column: sa.ColumnElement[Any], wanted: Any) -> Iterable[sa.ColumnElement[bool]]:
    if wanted is None:
        return ()
    return (column == wanted,) if isinstance(wanted, (str, int)) else (column.in_(sorted(wanted)),)


def _in_states(wanted: Filter) -> Iterable[sa.ColumnElement[bool]]:
    """Jobs that wait or run are found by indexes that hold no others."""
    if wanted is None:
        return ()
    names = {wanted} if isinstance(wanted, str) else set(wanted)
    is_open = names and names <= records.OPEN
    return (tables.in_state(*sorted(names)),) if is_open else _among(job.c.state, wanted)  # type: ignore[arg-type]


def _in_study(wanted: str | None) -> Iterable[sa.ColumnElement[bool]]:
    if wanted is None:
        return ()
    link = tables.study_job
    named = sa.select(study.c.id).where(sa.or_(study.c.name == wanted, study.c.id == wanted))
    return (job.c.id.in_(sa.select(link.c.job_id).where(link.c.study_id.in_(named))),)


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


def _result(values: dict[str, Any]) -> ResultView:
    if values["batch"] is not None and values["length"] is None:
        values["length"] = records.DATASET_LENGTH
    for name in ("flags", "notes"):
        values[name] = tuple(values[name] or ())
    if values["state"] == "done":
        values["message"] = None
    return ResultView(**{**values, "document": values["document"] or {}})


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
