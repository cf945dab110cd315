"""From a finished attempt to the database, over the spool when it does not answer: a measurement is worth minutes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from storage import errors, settings
from storage.database import Database
from worker import patience, spool

PATIENCE_S = 300.0
"""How long an outcome waits for its database before the next job: by then it may be on the spool, and a lease that ran
out meanwhile is only lost when another worker claims the job."""

STORE_S = 60.0
"""How long storing one outcome, with all its samples, may take before the database counts as away."""

log = logging.getLogger(__name__)


def deliver(database: Database, config: settings.Settings, outcome: spool.Outcome, ending: Callable[[], bool]) -> str:
    """Store an outcome; the job's new state, `superseded`, or `spooled` when the database stays away.

    Once the outcome is on the disk nothing waits for it any longer than until the worker is `ending()`: it is stored
    by the launcher, or by the next job. On a full disk it is kept in memory. Raises what storing raised last when
    there is neither database nor disk.
    """
    parcel, trouble = _Parcel(config, outcome), None
    for _ in patience.tries(PATIENCE_S, lambda: parcel.file is not None and ending()):
        try:
            state = parcel.store(database)
        except (errors.DatabaseError, errors.Unreachable) as exc:
            if trouble is None:
                log.warning("the outcome of job %s is not stored yet: %s", outcome.claim.job_id, exc)
            trouble = exc
            parcel.keep()
        except Exception:  # a slip of ours in storing: its mending may still find the outcome
            parcel.keep()
            raise
        else:
            if state is not None:
                return state
    if parcel.file is None and trouble is not None:
        raise trouble
    return "spooled"


class _Parcel:
    """An outcome on its way, in memory or on the disk."""

    def __init__(self, config: settings.Settings, outcome: spool.Outcome) -> None:
        self._config = config
        self._outcome = outcome
        self.file: Path | None = None

    def store(self, database: Database) -> str | None:
        """What became of the job; None while another process of this host delivers the file."""
        with patience.within(STORE_S, database):
            if self.file is None:
                return spool.store(database, self._outcome)
            state = spool.deliver(database, self.file)
        return "stored from the spool" if state is None and not self.file.exists() else state

    def keep(self) -> None:
        """Write it to the disk if that is possible."""
        if self.file is not None:
            return
        try:
            self.file = spool.write(spool.folder(self._config), self._outcome)
        except OSError as exc:
            log.error("cannot spool the outcome of job %s, it is kept in memory: %s", self._outcome.claim.job_id, exc)
