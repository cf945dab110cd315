"""One job: claim it, measure it, store what came of it. Holds the lease; never imports torch."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from storage import errors, lifecycle, operations, records, strategies
from storage.database import Database
from storage.measurements import Measurement
from worker import (
    accuracy,
    ceilings,
    delivery,
    gains,
    latency,
    noop,
    patience,
    preparing,
    server,
    spool,
    station,
    tensor,
    throughput,
)

log = logging.getLogger(__name__)

PROGRESS_S = 2.0
"""Seconds between two writes of a job's progress: each is a transaction on a host that is being measured."""

DATABASE_S = 35.0
"""How long one step in the database may take before it counts as away: longer than it waits for other writers."""

HEARTBEAT_S = 10.0
"""How long one heartbeat may take: nothing is measured meanwhile."""

CLAIM_PATIENCE_S = 300.0
"""How long a wake-up waits for a database that does not answer; after that the reconciler sends another one."""


class GiveBack(Exception):
    """The worker stops: the job goes back to the queue, nothing of it counts."""


class _Away(Exception):
    """The database did not answer before the job was claimed."""


Measure = Callable[
    [station.Station, records.Case, records.Budget, Callable[[], None], gains.Tell],
    tuple[records.LatencyMeasurement, list[records.Leg]],
]

MEASURES: Mapping[str, Measure] = {
    "latency": latency.measure,
    "throughput": throughput.measure,
    "server": server.measure,
    "tensor": tensor.measure,
}
"""How each kind whose result is a gain is measured."""


def _never() -> bool:
    return False


class Watch:
    """Keeps the lease alive and carries progress while a job runs; `tick` is called about every second."""

    def __init__(self, database: Database, claim: records.Claim, lease: float, heartbeat: float) -> None:
        self._database = database
        self._claim = claim
        self._lease = lease
        self._heartbeat = heartbeat
        self._renewed = time.monotonic()
        self._wait = heartbeat
        self._progress: Mapping[str, Any] | None = None

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Remember what to show of the job; written with the next heartbeat."""
        self._progress = progress
        self.tick()

    def tick(self) -> None:
        """Renew the lease when it is time; raises LeaseLost or JobCancelled."""
        well = self._wait == self._heartbeat
        wait = min(self._wait, PROGRESS_S) if well and self._progress is not None else self._wait
        if time.monotonic() - self._renewed < wait:
            return
        try:
            with patience.within(HEARTBEAT_S, self._database):
                lifecycle.renew(self._database, self._claim, lease=self._lease, progress=self._progress)
            self._wait, self._progress = self._heartbeat, None
        except patience.AWAY as exc:
            # the lease outlives several heartbeats; only when it has run out does another claim the job. Ever
            # longer pauses: each try takes seconds of the time to measure
            log.warning("heartbeat of job %s failed: %s", self._claim.job_id, exc)
            self._wait = max(self._heartbeat, min(2 * self._wait, self._lease / 2))
        self._renewed = time.monotonic()


def run_job(
    place: station.Station,
    database: Database,
    job_id: str,
    stopping: Callable[[], bool] = _never,
    ending: Callable[[], bool] | None = None,
) -> str:
    """Do one job if it is still to be done; returns what became of it (a job state, or why nothing happened).

    `stopping` tells that the worker is asked to give its job back, `ending` that it ends after this job.
    """
    ending = ending or stopping
    told = False
    for _ in patience.tries(CLAIM_PATIENCE_S, ending):
        try:
            return _run_now(place, database, job_id, stopping, ending, again=told)
        except _Away as exc:
            if not told:
                log.warning("job %s waits: %s", job_id, exc)
            told = True
    return "not started: the worker stops" if ending() else "not started: the database is away"


def _run_now(
    place: station.Station,
    database: Database,
    job_id: str,
    stopping: Callable[[], bool],
    ending: Callable[[], bool],
    *,
    again: bool,
) -> str:
    def give_back() -> None:
        if stopping():
            raise GiveBack

    try:
        with place.exclusive(give_back):
            claim = _claim(place, database, job_id, again=again)
            if claim is None:
                return "nothing to do"
            return _do(place, database, claim, give_back, ending)
    except GiveBack:
        return "not started: the worker stops"


def _claim(place: station.Station, database: Database, job_id: str, *, again: bool) -> records.Claim | None:
    """The job, after everything that waits on the spool; raises _Away."""
    config = place.settings
    try:
        with patience.within(DATABASE_S, database):
            spool.replay(database, spool.folder(config))
            if again:  # the answer to an earlier claim may have got lost: what this host runs, nobody works on
                lifecycle.adopt(database, config.host)
            return lifecycle.claim(
                database, job_id, host=config.host, platform_key=place.platform.key, lease=config.lease
            )
    except patience.AWAY as exc:
        raise _Away(str(exc)) from exc


def _do(
    place: station.Station,
    database: Database,
    claim: records.Claim,
    give_back: Callable[[], None],
    ending: Callable[[], bool],
) -> str:
    watch = Watch(database, claim, place.settings.lease, place.settings.heartbeat)

    def tick() -> None:
        give_back()
        watch.tick()

    try:
        measurement, legs = _measure(place, claim.case, claim.budget, tick, watch.tell)
        outcome = spool.Outcome(claim=claim, result=measurement, legs=tuple(legs))
    except GiveBack:
        place.recover()
        return _release(database, claim)
    except errors.LeaseLost:
        place.recover()
        return "superseded"
    except Exception as exc:
        place.recover()
        failure, final = explain(exc)
        if isinstance(exc, errors.SettingsError) and place.settings.broker:
            final = False  # this host's folders or disk: another one of its kind may do better
        log.warning("job %s: %s\n%s", claim.job_id, failure.message, failure.detail)
        outcome = spool.Outcome(claim=claim, result=failure, final=final)
    return delivery.deliver(database, place.settings, outcome, ending)


def _release(database: Database, claim: records.Claim) -> str:
    try:
        with patience.within(DATABASE_S, database):
            lifecycle.release(database, claim)
    except patience.AWAY as exc:
        log.warning("job %s not given back (%s): the launcher does, or the end of its lease", claim.job_id, exc)
    return "given back"


def _measure(
    place: station.Station, asked: records.Case, budget: records.Budget, tick: Callable[[], None], tell: gains.Tell
) -> tuple[Measurement, Sequence[records.Leg]]:
    case = place.policy.admit(asked)
    try:
        return _measure_admitted(place, case, budget, tick, tell)
    except errors.ModelError as exc:
        if asked.model.source != "hub" or case is asked:
            raise
        raise errors.Unsupported(f"{exc}; this worker loads no pickled weights, QUANTFLEET_PICKLE allows it") from exc


def _measure_admitted(
    place: station.Station, case: records.Case, budget: records.Budget, tick: Callable[[], None], tell: gains.Tell
) -> tuple[Measurement, Sequence[records.Leg]]:
    if case.kind == "ceilings":
        return ceilings.measure(place, tick, tell)
    if case.kind == "noop":
        return noop.measure(place.settings), ()
    for side in case.sides:
        platform = place.platform
        about = operations if case.kind == "tensor" else strategies
        reason = about.unsupported(about.parse(side), platform.hardware, platform.environment)
        if reason is not None:
            raise errors.Unsupported(reason)
    tell({"phase": "preparing"})
    if case.kind == "prepare":
        return preparing.measure(place, case, tick, tell)
    if case.kind == "accuracy":
        return accuracy.measure(place, case, tick, tell)
    if case.threads is not None and case.threads > len(place.cpus):
        raise errors.Unsupported(f"{case.threads} threads asked for, this worker may use {len(place.cpus)} CPUs")
    return MEASURES[case.kind](place, case, budget, tick, tell)


def explain(exc: Exception) -> tuple[records.Failure, bool]:
    """An exception as a stored failure, and whether trying again is pointless.

    What this host cannot do is declined: another may, where the job is for any; otherwise it becomes the result.
    """
    if isinstance(exc, errors.Unsupported):
        return records.Failure(reason="declined", message=str(exc)), True
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
