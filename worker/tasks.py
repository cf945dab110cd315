"""The one Celery task, and what its pool process holds between tasks."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from typing import Any, Protocol

import celery
from celery import signals

from storage import broker, records, settings
from storage.database import Database
from worker import ahead, alarm, kinship, patience, station, supervisor

log = logging.getLogger(__name__)


class Switch(Protocol):
    """How urgently the worker is asked to stop."""

    def ending(self) -> bool:
        """Whether the worker ends after the running job."""
        ...

    def give_back(self) -> bool:
        """Whether the running job is to be given back at once."""
        ...


class Post:
    """The pool process's own state: opened in that process, after the fork."""

    def __init__(
        self, config: settings.Settings, platform: records.Platform, begun: ahead.Ahead | None, news: int | None
    ) -> None:
        """`begun`: nurseries that import already; `news`: a pipe into which a byte goes after each message."""
        self._config = config
        self._platform = platform
        self._begun = begun
        self._news = news
        self._place: station.Station | None = None
        self._database: Database | None = None

    def open(self) -> None:
        """Bind this process's life to the launcher's, and take over the nurseries that were begun for it."""
        kinship.die_with(os.getppid())
        if self._begun is not None:
            self._place = station.Station(self._config, self._platform, self._begun.take())

    def run(self, job_id: str, switch: Switch) -> str:
        """Do one job."""
        if self._place is None:
            self._place = station.Station(self._config, self._platform)
        database = self._opened(switch)
        if database is None:
            return "not started: the database is away"
        return supervisor.run_job(self._place, database, job_id, switch.give_back, switch.ending)

    def tell(self) -> None:
        """Tell whoever waits that a message has been dealt with."""
        if self._news is not None:
            with contextlib.suppress(OSError):  # nobody reads any more, or has not for very long
                os.write(self._news, b".")

    def _opened(self, switch: Switch) -> Database | None:
        told = False
        for _ in patience.tries(supervisor.CLAIM_PATIENCE_S, switch.ending):
            try:
                with alarm.within(supervisor.DATABASE_S):
                    self._database = self._database or Database.open(self._config.database)
                break
            except patience.AWAY as exc:
                if not told:
                    log.warning("a wake-up waits: %s", exc)
                told = True
        return self._database

    def close(self) -> None:
        """End the nurseries."""
        if self._place is not None:
            self._place.close()
        if self._database is not None:
            self._database.close()


def register(
    app: celery.Celery,
    config: settings.Settings,
    platform: records.Platform,
    switch: Switch,
    *,
    begun: ahead.Ahead | None = None,
    news: int | None = None,
) -> None:
    """Give the app its task, and its pool process its state: see `Post`."""
    post = Post(config, platform, begun, news)
    signals.worker_process_init.connect(lambda **_: post.open(), weak=False)
    signals.worker_process_shutdown.connect(lambda **_: post.close(), weak=False)

    @app.task(name=broker.TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def run_job(message: Mapping[str, Any]) -> None:
        try:
            job_id = broker.job_of(message)
        except ValueError as exc:
            log.warning("message dropped: %s", exc)
            return
        outcome = post.run(job_id, switch)
        post.tell()
        log.info("job %s: %s", job_id, outcome)
