"""One job: claim it, measure it, store what came of it. Holds the lease; never imports torch."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from storage import errors, lifecycle, records, strategies
from storage.database import Database
from worker import accuracy, latency, station

log = logging.getLogger(__name__)

PROGRESS_S = 2.0
"""Seconds between two writes of a job's progress: each is a transaction on a host that is being measured."""

STORE_PATIENCE_S = 300.0
"""How long a finished measurement waits for its database; a lease that runs out meanwhile is only lost if another
worker claims the job, and then this result is kept as superseded."""


class GiveBack(Exception):
    """The worker stops: the job goes back to the queue, nothing of it counts."""


Measurement = records.LatencyMeasurement | records.AccuracyMeasurement


class Watch:
    """Keeps the lease alive and carries progress while a job runs; `tick` is called about every second."""

    def __init__(self, database: Database, claim: records.Claim, lease: float, heartbeat: float) -> None:
        self._database = database
        self._claim = claim
        self._lease = lease
        self._heartbeat = heartbeat
        self._renewed = time.monotonic()
        self._progress: Mapping[str, Any] | None = None

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Remember what to show of the job; written with the next heartbeat."""
        self._progress = progress
        self.tick()

    def tick(self) -> None:
        """Renew the lease when it is time; raises LeaseLost or JobCancelled."""
        wait = min(self._heartbeat, PROGRESS_S) if self._progress is not None else self._heartbeat
        if time.monotonic() - self._renewed < wait:
            return
        try:
            lifecycle.renew(self._database, self._claim, lease=self._lease, progress=self._progress)
            self._renewed, self._progress = time.monotonic(), None
        except (errors.DatabaseBusy, errors.Unreachable) as exc:
            # the lease outlives several heartbeats; only when it has run out does another claim the job
            log.warning("heartbeat of job %s failed: %s", self._claim.job_id, exc)
            self._renewed = time.monotonic()


def run_job(
    place: station.Station, database: Database, job_id: str, stopping: Callable[[], bool] = lambda: False
) -> str:
    """Do one job if it is still to be done; returns what became of it (a job state, or why nothing happened).

    `stopping` tells that the worker is asked to give its job back.
    """

    def patience() -> None:
        if stopping():
            raise GiveBack

    try:
        with place.exclusive(patience):
            claim = lifecycle.claim(
                database,
                job_id,
                host=place.settings.host,
                platform_key=place.platform.key,
                lease=place.settings.lease,
            )
            if claim is None:
                return "nothing to do"
            return _do(place, database, claim, patience)
    except GiveBack:
        return "not started: the worker stops"


def _do(place: station.Station, database: Database, claim: records.Claim, patience: Callable[[], None]) -> str:
    watch = Watch(database, claim, place.settings.lease, place.settings.heartbeat)

    def tick() -> None:
        patience()
        watch.tick()

    try:
        measurement, legs = _measure(place, claim, tick, watch.tell)
    except GiveBack:
        place.recover()
        lifecycle.release(database, claim)
        return "given back"
    except errors.LeaseLost:
        place.recover()
        return "superseded"
    except Exception as exc:
        place.recover()
        failure, final = explain(exc)
        log.warning("job %s: %s\n%s", claim.job_id, failure.message, failure.detail)
        return lifecycle.fail(database, claim, failure, final=final)
    return "done" if _store(database, claim, measurement, legs) else "superseded"


def _store(database: Database, claim: records.Claim, measurement: Measurement, legs: Sequence[records.Leg]) -> bool:
    """Store the result, waiting for a database that is busy or away: a measurement is worth more than a minute."""
    deadline = time.monotonic() + STORE_PATIENCE_S
    while True:
        try:
            return lifecycle.finish(database, claim, measurement, legs)
        except (errors.DatabaseBusy, errors.Unreachable) as exc:
            if time.monotonic() > deadline:
                raise
            log.warning("result of job %s not stored yet: %s", claim.job_id, exc)
            time.sleep(1.0)


def _measure(
    place: station.Station, claim: records.Claim, tick: Callable[[], None], tell: latency.Tell
) -> tuple[Measurement, Sequence[records.Leg]]:
    case = claim.case
    for strategy in dict.fromkeys((case.strategy, case.baseline)):
        platform = place.platform
        reason = strategies.unsupported(strategies.parse(strategy), platform.hardware, platform.environment)
        if reason is not None:
            raise errors.Unsupported(reason)
    tell({"phase": "preparing"})
    if case.kind == "accuracy":
        return accuracy.measure(place, case, tick, tell)
    if case.threads is not None and case.threads > len(place.cpus):
        raise errors.Unsupported(f"{case.threads} threads asked for, this worker may use {len(place.cpus)} CPUs")
    return latency.measure(place, case, claim.budget, tick, tell)


def explain(exc: Exception) -> tuple[records.Failure, bool]:
    """An exception as a stored failure, and whether trying again is pointless."""
    if isinstance(exc, errors.Unsupported):
        return records.Failure(reason="unsupported", message=str(exc)), True
    if isinstance(exc, errors.JobCancelled):
        return records.Failure(reason="cancelled", message=str(exc) or "cancelled"), True
    if isinstance(exc, errors.ChildDied):
        return records.Failure(
            reason="crash",
            message=str(exc),
            detail=exc.stderr,
            signal=exc.signal,
            resident_peak_bytes=exc.resident_peak_bytes,
        ), False
    if isinstance(exc, errors.UserError):
        return records.Failure(reason="error", message=str(exc)), True
    if isinstance(exc, errors.ChildFailed):
        return records.Failure(reason="error", message=str(exc), detail=exc.trace), False
    message = f"{type(exc).__name__}: {exc}"
    return records.Failure(reason="error", message=message, detail=traceback.format_exc()), False
