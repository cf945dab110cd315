"""Results that another tool measured: stored beside our own, and marked so that nobody takes them for those.

A foreign result is a job that was never queued: done from the start, on a platform of its own that holds what the file
tells of the machine and nothing else. Such a platform is nobody's host, so that nothing is planned for it, and its key
is never a host's, so that nothing of it is paired with what we measured.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from storage import excerpts, keys, records, rows, statements, submission, tables
from storage.database import Database

FLAG = "foreign"
"""The flag of every foreign result."""

STUDY = "foreign/"
"""What the name of a study of foreign results begins with."""

TOLD_BY = "measured by"
"""The setting of a foreign platform's environment that names the tool: no environment variable has a blank."""

UNKNOWN = "unknown"
"""A text that the file does not tell; numbers that it does not tell are 0 cores and 0 GiB, which no machine has."""

UNWATCHED = -1
"""What the columns of a sample hold that only our own worker sees: CPU time, load of others, preemptions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a foreign result comes from."""

    tool: str  # "pyperf"
    version: str | None  # of the tool, as the file tells it
    files: tuple[str, ...]  # names without their folders
    digests: tuple[str, ...]  # of what was measured, one for each process or file
    baseline_digests: tuple[str, ...] = ()  # of the baseline that the gain is taken against
    facts: Mapping[str, str] = field(default_factory=dict)  # what else the tool says of the run


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignSide:
    """What a tool measured of one strategy. None: it did not."""

    strategy: str
    percentiles: tuple[records.Percentile, ...]
    processes: int  # that it was measured in
    count: int  # calls, or means over several calls
    throughput_per_s: float | None = None
    resident_peak_bytes: int | None = None
    load_s: float | None = None
    first_answer_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignMeasurement:
    """The result of a foreign job."""

    origin: Origin
    strategy: ForeignSide
    baseline: ForeignSide | None  # None: none was imported with it
    gain: records.Interval | None  # unpaired
    flags: tuple[str, ...] = (FLAG,)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignResult:
    """Everything of one foreign result, ready to be stored."""

    case: records.Case
    label: str | None  # of what a call gets, as tables show it
    platform: records.Platform
    host: str
    measurement: ForeignMeasurement
    legs: tuple[records.Leg, ...]  # raw samples; none where the tool keeps none
    measured_at: float | None  # epoch seconds; None: the file does not tell

    @property
    def key(self) -> str:
        """The job's key, of what was measured alone: the same file again is the same job, whatever it is called."""
        return keys.digest({FLAG: self.measurement.origin.tool, "measured": sorted(self.measurement.origin.digests)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """A foreign result that is stored already."""

    job_id: str
    study: str
    digests: tuple[str, ...]  # of what was measured
    baseline_digests: tuple[str, ...]
    named: tuple[str, str, str, int | None, str | None]  # model, strategy, baseline, threads, input


def platform(hardware: records.Hardware, environment: records.Environment) -> records.Platform:
    """A foreign platform; ValueError for an environment that does not name its tool."""
    if TOLD_BY not in environment.settings:
        raise ValueError(f"a foreign environment needs the setting {TOLD_BY!r}")
    return keys.platform(hardware, environment)


def told_by(platform: records.Platform) -> str | None:
    """The tool that a platform is known from, e.g. `pyperf 2.10.0`; None for a platform of our own hosts."""
    return platform.environment.settings.get(TOLD_BY)


def known(db: Database) -> list[Known]:
    """Every foreign result, in the order in which they were stored."""
    job, result, link, study = tables.job, tables.result, tables.study_job, tables.study
    named = ("model", "strategy", "baseline", "threads", "input")
    query = (
        sa.select(job.c.id, study.c.name, result.c.document, *(job.c[name].label(f"job_{name}") for name in named))
        .join(result, result.c.job_id == job.c.id)
        .join(link, link.c.job_id == job.c.id)
        .join(study, study.c.id == link.c.study_id)
        .where(study.c.name.startswith(STUDY, autoescape=True))
        .order_by(job.c.created_at, job.c.position)
    )
    with db.read() as connection:
        found = connection.execute(query).mappings().all()
    return [
        Known(
            job_id=row["id"],
            study=row["name"],
            digests=tuple(row["document"]["origin"]["digests"]),
            baseline_digests=tuple(row["document"]["origin"]["baseline_digests"]),
            named=tuple(row[f"job_{name}"] for name in named),
        )
        for row in found
    ]


def store(db: Database, *, study: submission.StudyText, results: Sequence[ForeignResult]) -> tuple[str, ...]:
    """Store those results whose measurements are not there yet, all or nothing; ids of the new jobs.

    Raises ValueError for a study whose name does not begin with `STUDY`. Without anything new, nothing is touched.
    """
    if not study.name.startswith(STUDY):
        raise ValueError(f"a study of foreign results is called {STUDY}…, not {study.name!r}")
    with db.transaction() as connection:
        there = _existing(connection, [result.key for result in results])
        new = {one.key: one for one in results if one.key not in there}
        if not new:
            return ()
        _store_places(connection, new.values())
        study_id = submission.store_study(connection, study)
        ids = {key: uuid.uuid4().hex for key in new}
        for position, (key, one) in enumerate(new.items()):
            _store_job(connection, ids[key], one, position)
        links = [{"study_id": study_id, "job_id": job_id} for job_id in ids.values()]
        connection.execute(sa.insert(tables.study_job), links)
    return tuple(ids.values())


def remove(db: Database, study_ids: Iterable[str]) -> int:
    """Delete studies of foreign results with all that they hold; how many results that were.

    Raises ValueError for a study that is not foreign: what we measured is never deleted.
    """
    wanted = list(study_ids)
    job, link, study = tables.job, tables.study_job, tables.study
    with db.transaction() as connection:
        names = connection.execute(sa.select(study.c.name).where(study.c.id.in_(wanted))).scalars()
        if any(not name.startswith(STUDY) for name in names):
            raise ValueError("only studies of foreign results can be removed")
        ids = list(connection.execute(sa.select(link.c.job_id).where(link.c.study_id.in_(wanted))).scalars())
        connection.execute(sa.delete(link).where(link.c.study_id.in_(wanted)))
        connection.execute(sa.delete(study).where(study.c.id.in_(wanted)))
        for some in statements.chunks(ids):
            for table in (tables.sample, tables.pruned, tables.result):
                connection.execute(sa.delete(table).where(table.c.job_id.in_(some)))
            connection.execute(sa.delete(job).where(job.c.id.in_(some)))
    return len(ids)


def _existing(connection: sa.Connection, wanted: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for some in statements.chunks(wanted):
        found.update(connection.execute(sa.select(tables.job.c.key).where(tables.job.c.key.in_(some))).scalars())
    return found


def _store_places(connection: sa.Connection, results: Iterable[ForeignResult]) -> None:
    """Models and platforms; no host: nobody serves them."""
    results = list(results)
    platforms = list({one.platform.key: one.platform for one in results}.values())
    models = {row["key"]: row for row in (rows.model(one.case.model) for one in results)}
    statements.insert_missing(connection, tables.model, list(models.values()))
    for table, make in ((tables.hardware, rows.hardware), (tables.environment, rows.environment)):
        made = {row["key"]: row for row in map(make, platforms)}
        statements.insert_missing(connection, table, list(made.values()))
    places = [
        {"key": one.key, "hardware_key": one.hardware_key, "environment_key": one.environment_key} for one in platforms
    ]
    statements.insert_missing(connection, tables.platform, places)


def _store_job(connection: sa.Connection, job_id: str, one: ForeignResult, position: int) -> None:
    planned = records.PlannedJob(
        key=one.key, case=one.case, platform_key=one.platform.key, replica=0, budget=records.Budget()
    )
    when = tables.now() if one.measured_at is None else one.measured_at
    times = {"created_at": tables.now(), "not_before_at": tables.now(), "finished_at": when}
    job = rows.job(job_id, planned, position) | {"state": "done", "host": one.host, "input": one.label}
    connection.execute(sa.insert(tables.job).values(**job, **times))
    where = {"host": one.host, "platform_key": one.platform.key, "finished_at": when}
    connection.execute(sa.insert(tables.result).values(job_id=job_id, token=0, **where, **_numbers(one.measurement)))
    if one.legs:
        connection.execute(sa.insert(tables.sample), rows.samples(job_id, one.legs))


def _numbers(measurement: ForeignMeasurement) -> rows.Row:
    """The columns of a result that a foreign one can fill, and its document."""
    gain, other, document = measurement.gain, measurement.baseline, records.to_document(measurement)
    return {
        **dict.fromkeys(tables.METRIC_COLUMNS),
        **_side(measurement.strategy),
        **({} if other is None else {f"baseline_{name}": value for name, value in _side(other).items()}),
        "gain": None if gain is None else gain.value,
        "gain_low": None if gain is None else gain.low,
        "gain_high": None if gain is None else gain.high,
        "flags": list(measurement.flags),
        "notes": list(measurement.notes),
        "document": document,
        "excerpt": excerpts.excerpt(document),
    }


def _side(side: ForeignSide) -> rows.Row:
    values: rows.Row = {f"latency_p{round(100 * one.q)}_s": one.value_s for one in side.percentiles}
    names = ("throughput_per_s", "resident_peak_bytes", "load_s", "first_answer_s")
    return values | {name: getattr(side, name) for name in names}
