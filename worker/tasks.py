"""The one Celery task, and what its pool process holds between tasks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import celery
from celery import signals

from storage import broker, records, settings
from storage.database import Database
from worker import kinship, station, supervisor

log = logging.getLogger(__name__)


class Post:
    """The pool process's own state: opened in that process, after the fork."""

    def __init__(self, config: settings.Settings, platform: records.Platform) -> None:
        self._config = config
        self._platform = platform
        self._place: station.Station | None = None
        self._database: Database | None = None

    def open(self) -> None:
        """Bind this process's life to the launcher's."""
        kinship.die_with(os.getppid())

    def run(self, job_id: str, stopping: Callable[[], bool]) -> str:
        """Do one job."""
        if self._place is None:
            self._place = station.Station(self._config, self._platform)
        if self._database is None:
            self._database = Database.open(self._config.database)
        return supervisor.run_job(self._place, self._database, job_id, stopping)

    def close(self) -> None:
        """End the nurseries."""
        if self._place is not None:
            self._place.close()
        if self._database is not None:
            self._database.close()


def register(
    app: celery.Celery, config: settings.Settings, platform: records.Platform, stopping: Callable[[], bool]
) -> None:
    """Give the app its task, and its pool process its state."""
    post = Post(config, platform)
    signals.worker_process_init.connect(lambda **_: post.open(), weak=False)
    signals.worker_process_shutdown.connect(lambda **_: post.close(), weak=False)

    @app.task(name=broker.TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def run_job(message: Mapping[str, Any]) -> None:
        try:
            job_id = broker.job_of(message)
        except ValueError as exc:
            log.warning("message dropped: %s", exc)
            return
        outcome = post.run(job_id, stopping)
        log.info("job %s: %s", job_id, outcome)
