"""Outcomes of finished attempts that wait on this host's disk for a database that does not answer.

One file an attempt, `<spool>/<host>/<job>-<token>.json`, whole or not at all and on the disk when `write` returns.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from storage import lifecycle, measurements, records, settings
from storage.database import Database
from worker import locks

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of an attempt: a measurement with its legs, or a failure."""

    claim: records.Claim
    result: measurements.Measurement | records.Failure
    legs: tuple[records.Leg, ...] = ()
    final: bool = False  # failures: trying again is pointless


def folder(config: settings.Settings) -> Path:
    """Where this host's outcomes wait; several hosts may share a cache."""
    return config.spool / locks.file_name(config.host)


def store(database: Database, outcome: Outcome) -> str:
    """Store an outcome; the job's new state, or `superseded` when somebody else has the job."""
    claim, result = outcome.claim, outcome.result
    if not isinstance(result, records.Failure):
        return "done" if lifecycle.finish(database, claim, result, outcome.legs) else "superseded"
    if result.reason == "declined":
        return lifecycle.decline(database, claim, result.message)
    return lifecycle.fail(database, claim, result, final=outcome.final)


def write(into: Path, outcome: Outcome) -> Path:
    """Keep an outcome on the disk; its file. Raises OSError."""
    file = into / f"{outcome.claim.job_id}-{outcome.claim.token}.json"
    making = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        with _made(into, making) as stream:
            json.dump(_document(outcome), stream)
            stream.flush()
            os.fsync(stream.fileno())
        making.rename(file)
    except BaseException:
        making.unlink(missing_ok=True)
        raise
    _sync(into)
    return file


def replay(database: Database, kept_in: Path) -> int:
    """Store what waits in a folder; how many outcomes that were.

    A file goes when the database has its outcome, superseded or not. Raises what the database raises, and leaves
    the rest for another time; a file that cannot be understood is put aside as `*.bad`.
    """
    return sum(deliver(database, file) is not None for file in sorted(kept_in.glob("*.json")))


def deliver(database: Database, file: Path) -> str | None:
    """Store one spooled outcome and drop its file; what became of the job.

    None when the file is gone, put aside, or just being delivered by another process of this host.
    """
    try:
        stream = file.open("rb")
    except FileNotFoundError:
        return None
    with stream:
        if not locks.try_lock(stream.fileno()) or os.fstat(stream.fileno()).st_nlink == 0:
            return None
        try:
            outcome = _outcome(json.load(stream))
            state = store(database, outcome)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
            log.error("%s is no outcome of ours, put aside as *.bad: %s: %s", file, type(exc).__name__, exc)
            file.rename(f"{file}.bad")
            return None
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # others wait there
        file.parent.rmdir()
    log.info("job %s: %s, from the spool", outcome.claim.job_id, state)
    return state


def _made(into: Path, file: Path) -> IO[str]:
    """A new file in a folder that is made where it is missing; whoever empties the folder removes it."""
    into.mkdir(parents=True, exist_ok=True)
    try:
        return file.open("w")
    except FileNotFoundError:
        into.mkdir(parents=True, exist_ok=True)
        return file.open("w")


def _document(outcome: Outcome) -> dict[str, Any]:
    failed = isinstance(outcome.result, records.Failure)
    return {
        "schema": records.SCHEMA_VERSION,
        "claim": records.to_document(outcome.claim),
        "kind": "failure" if failed else outcome.claim.case.kind,
        "result": records.to_document(outcome.result),
        "legs": [records.to_document(leg) for leg in outcome.legs],
        "final": outcome.final,
    }


def _outcome(document: Mapping[str, Any]) -> Outcome:
    if document["schema"] > records.SCHEMA_VERSION:
        raise ValueError(f"schema {document['schema']}, this program knows up to {records.SCHEMA_VERSION}")
    cls = measurements.BY_KIND.get(document["kind"], records.Failure)
    return Outcome(
        claim=records.from_document(records.Claim, document["claim"]),
        result=records.from_document(cls, document["result"]),
        legs=tuple(records.from_document(records.Leg, leg) for leg in document["legs"]),
        final=document["final"],
    )


def _sync(directory: Path) -> None:
    """A rename is on the disk when its folder is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
