"""Studies into a file: what has come to its end, with everything that it takes to be read elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from storage import archive, records, statements, tables
from storage.archive import Row
from storage.database import Database

Progress = Callable[[int], None]
"""Told how many more rows are done."""

BY_JOB = ("study_job", "job_after", "attempt", "result", "sample", "pruned", "prediction")
"""Tables whose rows belong to a job, by `job_id`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What went into a file."""

    studies: tuple[str, ...]  # names, each once
    jobs: int
    results: int
    samples: int
    hosts: tuple[str, ...]
    left_out: Mapping[str, int]  # state → jobs that have not come to their end


def export(db: Database, study_ids: Collection[str], file: Path, progress: Progress = lambda rows: None) -> Exported:
    """Write these studies into a file, as they are at one moment.

    Jobs that have not come to their end stay behind: whoever holds them goes on with them. The ceilings of the
    hardware that took part come along. Raises SettingsError for a file that cannot be written.
    """
    with db.read() as connection, archive.Writer(file) as writer:
        states = _states(connection, study_ids)
        jobs = sorted(job_id for job_id, state in states.items() if state in records.TERMINAL)
        jobs = sorted({*jobs, *_ceilings(connection, jobs)})
        found = _described(connection, jobs, study_ids)
        counts = {table: writer.add(table, _told(found[table], progress)) for table in archive.TABLES if table in found}
        for table in BY_JOB:
            counts[table] = writer.add(table, _told(_of_jobs(connection, table, jobs, study_ids), progress))
    left = Counter(state for state in states.values() if state not in records.TERMINAL)
    return Exported(
        studies=tuple(dict.fromkeys(row["name"] for row in found["study"])),
        jobs=counts["job"],
        results=counts["result"],
        samples=counts["sample"],
        hosts=tuple(row["name"] for row in found["host"]),
        left_out=dict(left),
    )


def _described(connection: sa.Connection, jobs: Collection[str], study_ids: Collection[str]) -> dict[str, list[Row]]:
    """The rows of the tables that jobs refer to, and the jobs themselves; in the order of their keys."""
    rows = _picked(connection, "job", "id", jobs)
    names, platform_keys = _where(connection, jobs, rows)
    hosts = _picked(connection, "host", "name", names)
    platforms = _picked(connection, "platform", "key", platform_keys | {row["platform_key"] for row in hosts})
    return {
        "hardware": _picked(connection, "hardware", "key", {row["hardware_key"] for row in platforms}),
        "environment": _picked(connection, "environment", "key", {row["environment_key"] for row in platforms}),
        "platform": platforms,
        "host": hosts,
        "model": _picked(connection, "model", "key", {row["model_key"] for row in rows}),
        "study": _picked(connection, "study", "id", study_ids),
        "job": rows,
    }


def _states(connection: sa.Connection, study_ids: Collection[str]) -> dict[str, str]:
    job, link = tables.job, tables.study_job
    query = sa.select(job.c.id, job.c.state).join(link, link.c.job_id == job.c.id)
    found = connection.execute(query.where(link.c.study_id.in_(sorted(study_ids))))
    return {row.id: row.state for row in found}


def _ceilings(connection: sa.Connection, jobs: Collection[str]) -> list[str]:
    """The `ceilings` jobs done on the hardware that these jobs ran on."""
    job, result, platform = tables.job, tables.result, tables.platform
    hardware: set[str] = set()
    for some in statements.chunks(list(jobs)):
        joined = sa.select(platform.c.hardware_key).join(result, result.c.platform_key == platform.c.key)
        hardware |= set(connection.execute(joined.where(result.c.job_id.in_(some))).scalars())
    query = sa.select(job.c.id, platform.c.hardware_key).join(result, result.c.job_id == job.c.id)
    query = query.join(platform, platform.c.key == result.c.platform_key)
    done = connection.execute(query.where(tables.CEILINGS, job.c.state == "done"))
    return [row.id for row in done if row.hardware_key in hardware]


def _where(connection: sa.Connection, jobs: Collection[str], rows: Iterable[Row]) -> tuple[set[str], set[str]]:
    """Names of the hosts and keys of the platforms that jobs were for, or were tried on."""
    names = {row["host"] for row in rows if row["host"] is not None}
    keys = {row["platform_key"] for row in rows}
    for table in (tables.attempt, tables.result):
        for some in statements.chunks(list(jobs)):
            query = sa.select(table.c.host, table.c.platform_key).where(table.c.job_id.in_(some)).distinct()
            for row in connection.execute(query):
                names.add(row.host)
                keys.add(row.platform_key)
    return names, keys


def _picked(connection: sa.Connection, table: str, column: str, values: Collection[str]) -> list[Row]:
    chosen = list(archive.columns(table).values())
    key = tables.metadata.tables[table].c[column]
    found: list[Row] = []
    for some in statements.chunks(sorted(values)):
        found += [dict(row) for row in connection.execute(sa.select(*chosen).where(key.in_(some))).mappings()]
    return sorted(found, key=lambda row: str(row[column]))


def _of_jobs(connection: sa.Connection, table: str, jobs: Collection[str], study_ids: Collection[str]) -> Iterator[Row]:
    """The rows of a table that belong to jobs, job by job."""
    columns = archive.columns(table)
    own = tables.metadata.tables[table]
    among = set(jobs)
    for some in statements.chunks(sorted(jobs), 50):  # samples are large
        query = sa.select(*columns.values()).where(own.c.job_id.in_(some)).order_by(*own.primary_key.columns)
        for row in connection.execute(query).mappings():
            if table == "job_after" and row["after_id"] not in among:
                continue
            if table == "study_job" and row["study_id"] not in study_ids:
                continue
            yield dict(row)


def _told(rows: Iterable[Row], progress: Progress) -> Iterator[Row]:
    for row in rows:
        yield row
        progress(1)
