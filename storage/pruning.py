"""Raw samples taken out of a database: what is concluded from them stays, their room is given back.

What stays of a job is the caller's to say (`Conclude`): it is stored in the transaction that deletes the samples.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import database, plain, queries, records, statements, tables
from storage.database import Database

BATCH = 100
"""Jobs in one transaction: writers wait for it."""

MEASURED = 200
"""Jobs whose samples are weighed to tell how large all of them are."""

Conclude = Callable[[str, Sequence[records.Leg]], Mapping[str, Any]]
"""Of a kind and its legs: the document that stays."""

job, sample, pruned = tables.job, tables.sample, tables.pruned


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """Jobs whose samples are to go."""

    kinds: Mapping[str, str]  # job id → kind
    bytes: int  # of their samples in the database, about: a few hundred were weighed


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone:
    """What was taken out."""

    jobs: int
    legs: int
    samples: int


def choose(db: Database, *, study: str | None = None, before: float | None = None, keep: int | None = None) -> Chosen:
    """The jobs with raw samples: of a study (name or id), that ended before a moment, beyond the newest `keep` of each
    case on each platform; all conditions together."""
    case = (job.c.platform_key, job.c.kind, job.c.model, job.c.strategy, job.c.baseline, job.c.threads, job.c.input)
    newer = sa.func.row_number().over(partition_by=case, order_by=(job.c.finished_at.desc(), job.c.id))
    there = sa.exists(sa.select(sample.c.job_id).where(sample.c.job_id == job.c.id))
    picked = (*queries.in_study(study), there)
    ranked = sa.select(job.c.id, job.c.kind, job.c.finished_at, newer.label("newer")).where(*picked).subquery()
    conditions = [] if before is None else [ranked.c.finished_at < before]
    conditions += [] if keep is None else [ranked.c.newer > keep]
    query = sa.select(ranked.c.id, ranked.c.kind).where(*conditions).order_by(ranked.c.id)
    with db.read() as connection:
        kinds = {row.id: row.kind for row in connection.execute(query)}
        return Chosen(kinds=kinds, bytes=_weigh(connection, list(kinds)))


def prune(db: Database, kinds: Mapping[str, str], conclude: Conclude, progress: Callable[[int], None]) -> Gone:
    """Take the samples of these jobs out, a few at a time; what was done stays done when it is interrupted."""
    jobs, legs, samples = 0, 0, 0
    for some in statements.chunks(list(kinds), BATCH):
        with db.transaction() as connection:
            found = queries.read_legs(connection, some)
            rows = [_row(job_id, own, conclude(kinds[job_id], own)) for job_id, own in found.items()]
            if rows:
                connection.execute(sa.insert(pruned).values(pruned_at=tables.now()), rows)
                connection.execute(sa.delete(sample).where(sample.c.job_id.in_(list(found))))
        jobs += len(rows)
        legs += sum(row["legs"] for row in rows)
        samples += sum(row["samples"] for row in rows)
        progress(len(some))
    return Gone(jobs=jobs, legs=legs, samples=samples)


def size(db: Database) -> int:
    """Bytes that the database takes on disk."""
    with db.read() as connection:
        if db.dialect == "postgresql":
            return int(connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one())
        pages, each = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size")
        )
    return int(pages) * int(each)


def reclaim(db: Database, *, full: bool = False) -> str | None:
    """Give room back to the disk; a sentence where that is not done, or not yet.

    SQLite writes the file anew, which needs as much free disk and lets nobody write meanwhile: not while jobs run.
    Postgres marks the room as free for what comes next; with `full` it writes the table of samples anew, and lets
    nobody read it meanwhile.
    """
    if db.dialect == "postgresql":
        with db.alone() as connection:
            connection.exec_driver_sql("VACUUM (FULL, ANALYZE) sample" if full else "VACUUM (ANALYZE) sample")
        return None if full else "Postgres keeps the room for what comes next; --full gives it back to the disk"
    if (why := _why_not(db)) is not None:
        return why
    with db.alone() as connection:
        connection.exec_driver_sql("VACUUM")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return None


def _why_not(db: Database) -> str | None:
    """Why a SQLite file cannot be written anew now."""
    with db.read() as connection:
        running = connection.execute(sa.select(job.c.id).where(job.c.state == "running").limit(1)).first()
    if running is not None:
        return "the file keeps its size while jobs run; `quantfleet prune` gives the room back when it is run again"
    file, needed = database.sqlite_file(database.parse(db.address)), size(db)
    free = shutil.disk_usage(file.resolve().parent).free if file is not None else needed
    return None if free >= needed else f"the file keeps its size: to write it anew takes {needed} bytes of free disk"


def _weigh(connection: sa.Connection, ids: Sequence[str]) -> int:
    """Bytes of the samples of these jobs: of a few of them, scaled up."""
    some = ids[:: max(1, len(ids) // MEASURED)]
    total = 0
    for part in statements.chunks(some):
        blobs, rows = sa.func.sum(sa.func.length(sample.c.samples)), sa.func.count()
        found = connection.execute(sa.select(blobs, rows).where(sample.c.job_id.in_(part))).one()
        total += int(found[0] or 0) + ROW_BYTES * int(found[1])
    return round(total * len(ids) / max(1, len(some)))


ROW_BYTES = 200
"""What a row of `sample` takes beside its samples, with its place in the index, about."""


def _row(job_id: str, legs: Iterable[records.Leg], document: Mapping[str, Any]) -> dict[str, Any]:
    counts = [len(leg.samples_ns) for leg in legs]
    # JSON without NaN, as everything that is stored
    clean = plain.loads(plain.dumps(document))
    return {"job_id": job_id, "legs": len(counts), "samples": sum(counts), "document": clean}
