"""The statements that every job costs, built once: building one takes longer than the database takes to answer it.

Parameters are named `of_…` for what is looked for, `by_…` for who does it and `to_…` for what is written. The meaning
of each, and the transaction that it belongs to, is `storage.lifecycle`'s.

A claim and a result each change more than one table. Postgres gets that as one statement, whose parts stand in its
WITH: one exchange, instead of one for each part, with a database that may be far away. SQLite, which is in this
process, knows no such WITH and gets the parts one after another.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from storage import records, tables

job, attempt, result = tables.job, tables.attempt, tables.result


def unblocked() -> sa.ColumnElement[bool]:
    """Whether every job that a job waits for has come to its end, however that was."""
    first, link = job.alias("first"), tables.job_after
    waits = sa.select(link.c.job_id).join(first, first.c.id == link.c.after_id)
    return ~sa.exists(waits.where(link.c.job_id == job.c.id, tables.stands("queued", "running", of=first)))


_OF_JOB = sa.bindparam("of_job", type_=sa.String)
_OF_TOKEN = sa.bindparam("of_token", type_=sa.Integer)
_BY_HOST = sa.bindparam("by_host", type_=sa.String)
_BY_PLATFORM = sa.bindparam("by_platform", type_=sa.String)
_LEASE = sa.bindparam("to_lease", type_=sa.Double)

_THIS = sa.select(job).where(job.c.id == _OF_JOB).subquery("this")

_REFUSED = sa.select(attempt.c.job_id).where(
    attempt.c.job_id == job.c.id, attempt.c.state == "declined", attempt.c.platform_key == _BY_PLATFORM
)

_TAKE = (
    sa.update(job)
    .where(
        job.c.id == _OF_JOB,
        tables.stands("queued"),
        job.c.not_before_at <= tables.now(),
        ~job.c.cancelling,
        unblocked(),
        # meant for this host, on its platform as it is now
        sa.or_(job.c.platform_key == _BY_PLATFORM, job.c.platform_key == records.ANY_PLATFORM),
        sa.or_(job.c.wanted_host.is_(None), job.c.wanted_host == _BY_HOST),
        ~sa.exists(_REFUSED),
    )
    .values(
        state="running",
        token=job.c.token + 1,
        attempts=job.c.attempts + 1,
        host=_BY_HOST,
        claimed_at=tables.now(),
        lease_until_at=tables.now() + _LEASE,
        progress=sa.null(),
    )
    .returning(job.c.token, job.c.attempts, job.c.case_document, job.c.budget_document)
)


def _begin_attempt(taken: sa.FromClause) -> sa.Insert:
    written: dict[sa.Column[Any], sa.ColumnElement[Any]] = {
        attempt.c.job_id: _OF_JOB,
        attempt.c.token: taken.c.token,
        attempt.c.number: taken.c.attempts,
        attempt.c.host: _BY_HOST,
        attempt.c.platform_key: _BY_PLATFORM,
        attempt.c.state: sa.literal("running"),
        attempt.c.started_at: tables.now(),
    }
    return sa.insert(attempt).from_select(list(written), sa.select(*written.values()).select_from(taken))


_TAKEN = _TAKE.cte("taken")
_TAKE_AND_BEGIN = sa.select(_TAKEN).add_cte(_begin_attempt(_TAKEN).cte("begun"))
_BEGIN = _begin_attempt(_THIS)


def take(connection: sa.Connection, given: Mapping[str, Any]) -> sa.Row[Any] | None:
    """A job that is free and meant for this host becomes its own, and an attempt begins: its token, attempts,
    case_document and budget_document; None when it is not. `given`: of_job, by_host, by_platform, to_lease."""
    if connection.dialect.name == "postgresql":
        return connection.execute(_TAKE_AND_BEGIN, given).one_or_none()
    row = connection.execute(_TAKE, given).one_or_none()
    if row is not None:
        connection.execute(_BEGIN, given)
    return row


_HELD = (job.c.id == _OF_JOB, job.c.token == _OF_TOKEN, tables.stands("running"))

RENEW = sa.update(job).where(*_HELD).values(lease_until_at=tables.now() + _LEASE).returning(job.c.cancelling)
"""of_job, of_token, to_lease: a lease goes on; no row when somebody else has the job."""

RENEW_TELLING = RENEW.values(progress=sa.bindparam("to_progress", type_=tables.JSON))
"""The same with to_progress: what to show meanwhile."""

END_ATTEMPT = (
    sa.update(attempt)
    .where(attempt.c.job_id == _OF_JOB, attempt.c.token == _OF_TOKEN)
    .values(state=sa.bindparam("to_state", type_=sa.String), ended_at=tables.now())
)
"""of_job, of_token, to_state."""

_FINISH = (
    sa.update(job)
    .where(job.c.id == _OF_JOB, job.c.token == _OF_TOKEN, tables.stands("queued", "running"))
    .values(state="done", finished_at=tables.now(), lease_until_at=None, message=None, detail=None)
    .returning(job.c.host)
)


_FINISHED = _FINISH.cte("finished")
_ENDED = END_ATTEMPT.where(sa.exists(sa.select(_FINISHED))).cte("ended")


@functools.cache  # each kind of result has its columns
def _store(finished: sa.FromClause, columns: tuple[str, ...]) -> sa.Insert:
    written: dict[sa.Column[Any], sa.ColumnElement[Any]] = {
        result.c.job_id: _OF_JOB,
        result.c.token: _OF_TOKEN,
        result.c.host: finished.c.host,
        result.c.finished_at: tables.now(),
        **{result.c[name]: sa.bindparam(f"to_{name}", type_=result.c[name].type) for name in columns},
    }
    return sa.insert(result).from_select(list(written), sa.select(*written.values()).select_from(finished))


@functools.cache
def _finish_and_store(columns: tuple[str, ...]) -> sa.Select[Any]:
    return sa.select(_FINISHED).add_cte(_ENDED, _store(_FINISHED, columns).cte("stored"))


def finish(connection: sa.Connection, given: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """A job is done, its attempt has ended, and its result is stored; False when the job has ended or been claimed
    again since: then nothing has changed. `given`: of_job, of_token; `values`: every other column of the result,
    but who has the job, and the time."""
    columns = tuple(values)
    given = {**given, "to_state": "done", **{f"to_{name}": value for name, value in values.items()}}
    if connection.dialect.name == "postgresql":
        return connection.execute(_finish_and_store(columns), given).one_or_none() is not None
    if connection.execute(_FINISH, given).one_or_none() is None:
        return False
    connection.execute(END_ATTEMPT, given)
    connection.execute(_store(_THIS, columns), given)
    return True
