"""The Celery worker of one host: `python -m worker.app` serves its platform's queue until it is stopped.

SIGTERM: the running job is finished first. A second SIGTERM, or SIGINT: it is given back at once.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import sys
from typing import Any

import celery
from celery import signals

from storage import broker, errors, hosts, keys, records, settings
from storage.database import Database
from worker import environment, hardware, kinship, tasks

log = logging.getLogger(__name__)


class StopSwitch:
    """How often the worker was asked to stop; shared with its pool process (an anonymous shared mapping)."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)

    def press(self, times: int = 1) -> None:
        """Count one request to stop."""
        self._shared[0] = min(255, self._shared[0] + times)

    def give_back(self) -> bool:
        """Whether the running job is to be given back at once."""
        return self._shared[0] >= 2


def platform() -> records.Platform:
    """This host's platform, probed now."""
    return keys.platform(hardware.probe(os.environ), environment.probe())


def build(config: settings.Settings, switch: StopSwitch) -> celery.Celery:
    """The app of this host, registered in the database, listening to its platform's queue by name."""
    here = platform()
    database = Database.open(config.database)
    try:
        hosts.register(database, name=config.host, platform=here, labels=config.labels)
    finally:
        database.close()  # the pool process opens its own: connections do not survive a fork
    made = broker.app(config, queues=broker.queues_of(here.key, config.host))
    tasks.register(made, config, here, switch.give_back)
    return made


def serve(config: settings.Settings) -> None:
    """Serve until stopped."""
    switch = StopSwitch()

    def pressed(sig: str = "", **_: Any) -> None:
        switch.press(2 if sig == "SIGINT" else 1)

    signals.worker_shutting_down.connect(pressed, weak=False)
    app = build(config, switch)
    worker = app.Worker(
        pool="prefork",
        concurrency=1,
        hostname=f"quantfleet@{config.host}",
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=True,
        loglevel="WARNING",
    )
    worker.start()


def main() -> None:
    """Entry of `python -m worker.app`; `--with-parent`: end when the starting process does."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if "--with-parent" in sys.argv:
        kinship.die_with(os.getppid(), signal.SIGKILL)
    try:
        serve(settings.load())
    except errors.UserError as exc:
        sys.exit(f"error: {exc}")


if __name__ == "__main__":
    main()
