"""A job's life, one transaction for each step; the database is the truth, the queue only wakes.

::

    queued ──claim──► running ──finish──► done
      ▲                 │ fail / lease ran out
      └──(try again)────┴──► unsupported · failed · dead · cancelled

A claim carries a fencing token that rises with each claim of the job: what comes with an older token, or after
the job was taken away, changes nothing that counts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import errors, hot_statements, leadership, plain, records, rows, statements, tables
from storage.database import Database
from storage.measurements import Measurement
from storage.submission import StudyText, Submitted, add, submit

__all__ = ["StudyText", "Submitted", "add", "submit"]

CRASH_CAP = 2
"""Deaths and lost leases after which a job is `dead`: it likely takes the machine's memory with it."""

BACKOFF_S = (5.0, 30.0)
"""Seconds before the next try after the first, the second ordinary error; one more and the job is `failed`."""

log = logging.getLogger(__name__)
job, attempt = tables.job, tables.attempt


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What becomes of a job after an attempt without a measurement."""

    state: str
    crashes: int
    errors: int
    wait_s: float = 0.0  # before the next try


def claim(db: Database, job_id: str, *, host: str, platform_key: str, lease: float) -> records.Claim | None:
    """The right to work on a job for `lease` seconds, or None: taken, finished, cancelled, too early, meant for
    another platform or host, declined by this platform before, waiting for another job, or unknown. At most one of
    any number of callers gets it. A running job whose lease ran out is taken over, but not soon after a time without a
    reconciler."""
    take = {"of_job": job_id, "by_host": host, "by_platform": platform_key, "to_lease": lease}
    # not `single`: a database that loses us in the middle must take the claim back, for nobody would know of it
    with db.transaction() as connection:
        row = hot_statements.take(connection, take)
        # only what is not free may be running on a lease that ran out
        if row is None and _expire(connection, sa.and_(job.c.id == job_id, leadership.steady(lease))):
            row = hot_statements.take(connection, take)
    if row is None:
        return None
    return records.Claim(
        job_id=job_id,
        token=row.token,
        attempt=row.attempts,
        case=records.from_document(records.Case, row.case_document),
        budget=records.from_document(records.Budget, row.budget_document),
        platform_key=platform_key,
    )


def renew(db: Database, claim: records.Claim, *, lease: float, progress: Mapping[str, Any] | None = None) -> None:
    """Extend the lease to `lease` seconds from now, and store progress for whoever watches.

    Raises LeaseLost when somebody else owns the job, JobCancelled when a person took it back.
    """
    held = {"of_job": claim.job_id, "of_token": claim.token, "to_lease": lease}
    statement = hot_statements.RENEW
    if progress is not None:
        statement, held = hot_statements.RENEW_TELLING, {**held, "to_progress": dict(progress)}
    with db.single() as connection:
        cancelling = connection.execute(statement, held).scalar_one_or_none()
    if cancelling is None:
        raise errors.LeaseLost(f"job {claim.job_id}: attempt {claim.attempt} does not own it any more")
    if cancelling:
        raise errors.JobCancelled(f"job {claim.job_id} was cancelled")


def finish(db: Database, claim: records.Claim, measurement: Measurement, legs: Sequence[records.Leg] = ()) -> bool:
    """Store a measurement with its raw samples and end the job, all or nothing.

    True when it counts, also when this very attempt's result was stored before (a repeated delivery changes
    nothing), and when the lease ran out but nobody has claimed the job since. False when the job was taken away:
    then it is kept with the attempt as superseded.
    """
    this = {"of_job": claim.job_id, "of_token": claim.token}
    values = {"platform_key": claim.platform_key, **rows.result(measurement, claim.case.model)}
    # what a kind has no number for is left out: psycopg takes a statement of many parameters apart each time
    told = {name: value for name, value in values.items() if value is not None}
    raw = _raw(claim.job_id, measurement, legs)
    with db.transaction() if raw else db.single() as connection:
        counts = hot_statements.finish(connection, this, told)
        for table, some in raw.items() if counts else ():
            connection.execute(sa.insert(table), some)
    if counts:
        return True
    with db.transaction() as connection:
        return _late(connection, claim, rows.document(measurement))


def fail(db: Database, claim: records.Claim, failure: records.Failure, *, final: bool = False) -> str:
    """End an attempt that gave no measurement; the job's new state, or `superseded` when it was taken away.

    Told again (the answer to the first time was lost), it changes nothing, and the answer is the job's state now.
    """
    held = sa.select(job).where(*_held(claim)).with_for_update()
    with db.transaction() as connection:
        row = connection.execute(held).one_or_none()
        if row is not None:
            return _settle(connection, row, failure, final=final)
        return _told(connection, claim, failure.reason) or _superseded(connection, claim, failure)


def release(db: Database, claim: records.Claim) -> str:
    """Give a job back unfinished, uncounted: the worker stops."""
    return fail(db, claim, records.Failure(reason="released", message="given back by its worker"))


def decline(db: Database, claim: records.Claim, reason: str) -> str:
    """Give back a job that this platform cannot run but another may; the job's new state, or `superseded`.

    When no host of another platform is left to try, or the job is for this platform or host alone, the reason is
    the job's result.
    """
    held = sa.select(job).where(*_held(claim)).with_for_update()
    with db.transaction() as connection:
        row = connection.execute(held).one_or_none()
        if row is None:
            return _told(connection, claim, "declined", "unsupported") or _superseded(connection, claim)
        no = declined(connection, [claim.job_id]).get(claim.job_id, set())
        anywhere = row.platform_key == records.ANY_PLATFORM and row.wanted_host is None
        serving = sa.select(tables.host.c.platform_key).where(tables.host.c.imported_at.is_(None))
        known = set(connection.execute(serving).scalars())
        others = anywhere and known - no - {claim.platform_key}
        failure = records.Failure(reason="declined" if others else "unsupported", message=reason)
        return _settle(connection, row, failure)


def declined(connection: sa.Connection, job_ids: Sequence[str]) -> dict[str, set[str]]:
    """The platforms that have declined these jobs since somebody last wanted them tried again."""
    found: dict[str, set[str]] = {}
    for ids in statements.chunks(job_ids):
        query = sa.select(attempt.c.job_id, attempt.c.platform_key).where(
            attempt.c.job_id.in_(ids), attempt.c.state == "declined"
        )
        for row in connection.execute(query):
            found.setdefault(row.job_id, set()).add(row.platform_key)
    return found


def expire(db: Database) -> list[str]:
    """Take back the jobs whose leases ran out; each counts as a crash. Their ids."""
    with db.transaction() as connection:
        return _expire(connection, sa.true())


def adopt(db: Database, host: str) -> list[str]:
    """Take back the running jobs of this host, uncounted: the caller knows that nobody works on them. Their ids."""
    orphaned = records.Failure(reason="released", message=f"its worker on {host} is gone")
    with db.transaction() as connection:
        return _take_back(connection, job.c.host == host, orphaned)


def cancel(db: Database, job_ids: Iterable[str]) -> int:
    """Take jobs back: waiting ones end at once, running ones at their next heartbeat. How many that concerns."""
    waiting, running = tables.stands("queued"), sa.and_(tables.stands("running"), ~job.c.cancelling)
    ended = {"state": "cancelled", "finished_at": tables.now(), "message": "cancelled before it ran", "detail": None}
    count = 0
    with db.transaction() as connection:
        for ids in statements.chunks(list(job_ids)):
            count += connection.execute(sa.update(job).where(job.c.id.in_(ids), waiting).values(ended)).rowcount
            flagged = sa.update(job).where(job.c.id.in_(ids), running).values(cancelling=True)
            count += connection.execute(flagged).rowcount
    return count


def retry(db: Database, job_ids: Iterable[str]) -> int:
    """Queue jobs again that ended without a result, with fresh counters, and for platforms too that declined them
    before; how many those were."""
    ended = job.c.state.in_(sorted(records.TERMINAL - {"done"}))
    fresh = {"state": "queued", "crashes": 0, "errors": 0, "cancelling": False, "message": None, "detail": None}
    times = {"not_before_at": tables.now(), "published_at": None, "finished_at": None, "lease_until_at": None}
    count = 0
    with db.transaction() as connection:
        for ids in statements.chunks(list(job_ids)):
            again = sa.update(job).where(job.c.id.in_(ids), ended).values({**fresh, **times}).returning(job.c.id)
            queued = list(connection.execute(again).scalars())
            count += len(queued)
            lapsed = sa.and_(attempt.c.job_id.in_(queued), attempt.c.state == "declined")
            connection.execute(sa.update(attempt).where(lapsed).values(state="unsupported"))
    return count


def outcome(failure: records.Failure, *, crashes: int, errors: int, cancelling: bool, final: bool) -> Outcome:
    """What a failure makes of a job that already crashed and failed so many times; pure."""
    crashes += failure.reason in ("crash", "expired")
    errors += failure.reason == "error"
    state = "queued"
    if failure.reason in ("unsupported", "cancelled"):
        state = failure.reason
    elif crashes >= CRASH_CAP:
        state = "dead"
    elif final or errors > len(BACKOFF_S):
        state = "failed"
    elif cancelling:
        state = "cancelled"
    wait = BACKOFF_S[errors - 1] if state == "queued" and failure.reason == "error" else 0.0
    return Outcome(state=state, crashes=crashes, errors=errors, wait_s=wait)


def _held(claim: records.Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return job.c.id == claim.job_id, job.c.token == claim.token, tables.stands("running")


def _settle(connection: sa.Connection, row: sa.Row[Any], failure: records.Failure, *, final: bool = False) -> str:
    """End the running attempt of a locked job row; the job's new state."""
    after = outcome(failure, crashes=row.crashes, errors=row.errors, cancelling=row.cancelling, final=final)
    ended = after.state in records.TERMINAL
    message = plain.text(failure.message)
    if after.state == "dead":
        message = f"died {after.crashes} times, at last: {message}"
    values: dict[str, Any] = {
        "state": after.state,
        "crashes": after.crashes,
        "errors": after.errors,
        "message": message,
        "detail": plain.text(failure.detail),
        "lease_until_at": None,
        "published_at": row.published_at if ended else None,
        "not_before_at": tables.now() + after.wait_s,
        "finished_at": tables.now() if ended else None,
    }
    connection.execute(sa.update(job).where(job.c.id == row.id).values(values))
    _end_attempt(connection, row.id, row.token, state=failure.reason, failure=failure)
    return after.state


def _take_back(connection: sa.Connection, which: sa.ColumnElement[bool], failure: records.Failure) -> list[str]:
    query = sa.select(job).where(tables.in_state("running"), which).with_for_update(skip_locked=True)
    found = connection.execute(query).all()
    for row in found:
        state = _settle(connection, row, failure)
        log.warning("job %s taken back from %s (%s): %s", row.id, row.host, failure.message, state)
    return [row.id for row in found]


def _expire(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[str]:
    gone = records.Failure(
        reason="expired", message="its lease ran out: the worker died, hung, or could not reach the database"
    )
    return _take_back(connection, sa.and_(job.c.lease_until_at <= tables.now(), which), gone)


def _end_attempt(
    connection: sa.Connection,
    job_id: str,
    token: int,
    *,
    state: str,
    failure: records.Failure | None = None,
    document: Mapping[str, Any] | None = None,
) -> None:
    values: dict[str, Any] = {}
    if failure is not None:
        values |= {"message": plain.text(failure.message), "detail": plain.text(failure.detail)}
        values |= {"signal": failure.signal, "resident_peak_bytes": failure.resident_peak_bytes}
    if document is not None:
        values["document"] = document
    end = hot_statements.END_ATTEMPT.values(values) if values else hot_statements.END_ATTEMPT
    connection.execute(end, {"of_job": job_id, "of_token": token, "to_state": state})


def _told(connection: sa.Connection, claim: records.Claim, *reasons: str) -> str | None:
    """The job's state, when this attempt has ended for one of these reasons already; None otherwise."""
    ended = (attempt.c.job_id == claim.job_id, attempt.c.token == claim.token, attempt.c.state.in_(reasons))
    query = sa.select(job.c.state).join(attempt, attempt.c.job_id == job.c.id).where(*ended)
    return connection.execute(query).scalar_one_or_none()


def _superseded(connection: sa.Connection, claim: records.Claim, failure: records.Failure | None = None) -> str:
    _late(connection, claim, None, failure)
    return "superseded"


def _late(
    connection: sa.Connection,
    claim: records.Claim,
    document: Mapping[str, Any] | None,
    failure: records.Failure | None = None,
) -> bool:
    """Keep what came too late as superseded; True when this attempt's own result counts already.

    What a platform declined it has declined, whatever else is said of that attempt.
    """
    counted = sa.select(tables.result.c.token).where(tables.result.c.job_id == claim.job_id)
    if connection.execute(counted).scalar_one_or_none() == claim.token:
        return True
    if claim.platform_key not in declined(connection, [claim.job_id]).get(claim.job_id, ()):
        _end_attempt(connection, claim.job_id, claim.token, state="superseded", failure=failure, document=document)
    return False


def _raw(job_id: str, measurement: Measurement, legs: Sequence[records.Leg]) -> dict[sa.Table, list[dict[str, Any]]]:
    """The rows that lie beside a result."""
    raw = {tables.sample: rows.samples(job_id, legs)}
    if isinstance(measurement, records.AccuracyMeasurement):
        raw[tables.prediction] = [rows.prediction(job_id, measurement)]
    return {table: some for table, some in raw.items() if some}
