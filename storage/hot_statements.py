"""The statements that every job costs, built once: building one takes longer than the database takes to answer it.

Parameters are named `of_…` for what is looked for, `by_…` for who does it and `to_…` for what is written. The meaning
of each, and the transaction that it belongs to, is `storage.lifecycle`'s.
"""

from __future__ import annotations

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

_REFUSED = sa.select(attempt.c.job_id).where(
    attempt.c.job_id == job.c.id, attempt.c.state == "declined", attempt.c.platform_key == _BY_PLATFORM
)

TAKE = (
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
"""of_job, by_host, by_platform, to_lease: a job that is free and meant for this host becomes its own."""

BEGIN_ATTEMPT = sa.insert(attempt).values(state="running", started_at=tables.now())
"""job_id, token, number, host, platform_key."""

_HELD = (job.c.id == _OF_JOB, job.c.token == _OF_TOKEN, tables.stands("running"))

RENEW = sa.update(job).where(*_HELD).values(lease_until_at=tables.now() + _LEASE).returning(job.c.cancelling)
"""of_job, of_token, to_lease: a lease goes on; no row when somebody else has the job."""

RENEW_TELLING = RENEW.values(progress=sa.bindparam("to_progress", type_=tables.JSON))
"""The same with to_progress: what to show meanwhile."""

FINISH = (
    sa.update(job)
    .where(job.c.id == _OF_JOB, job.c.token == _OF_TOKEN, tables.stands("queued", "running"))
    .values(state="done", finished_at=tables.now(), lease_until_at=None, message=None, detail=None)
    .returning(job.c.host)
)
"""of_job, of_token: done, unless the job has ended or been claimed again since; then no row."""

END_ATTEMPT = (
    sa.update(attempt)
    .where(attempt.c.job_id == _OF_JOB, attempt.c.token == _OF_TOKEN)
    .values(state=sa.bindparam("to_state", type_=sa.String), ended_at=tables.now())
)
"""of_job, of_token, to_state."""

STORE = sa.insert(result).values(finished_at=tables.now())
"""Every other column of a result."""
