"""The Celery worker of one host: `python -m worker.app` serves its platform's queue until it is stopped.

SIGTERM: the running job is finished first. A second SIGTERM, or SIGINT: it is given back at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import mmap
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from storage import errors, records, settings
from worker import ahead, kinship, logs

if TYPE_CHECKING:  # what takes long to import waits until the nurseries are begun that import for themselves
    import celery

log = logging.getLogger("worker.app")  # __name__ is __main__


class StopSwitch:
    """How often the worker was asked to stop; shared with its pool process (an anonymous shared mapping)."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)

    def press(self, times: int = 1) -> None:
        """Count one request to stop."""
        self._shared[0] = min(255, self._shared[0] + times)

    def ending(self) -> bool:
        """Whether the worker ends after the running job."""
        return self._shared[0] >= 1

    def give_back(self) -> bool:
        """Whether the running job is to be given back at once."""
        return self._shared[0] >= 2


def register(config: settings.Settings) -> records.Platform:
    """Probe this host and store it as serving: what a launcher does for its worker."""
    from storage import hosts, keys
    from storage.database import Database
    from worker import environment, hardware

    here = keys.platform(hardware.probe(os.environ), environment.probe(os.environ))
    with Database.open(config.database) as database:  # closed: connections do not survive the pool's fork
        hosts.register(database, name=config.host, platform=here, labels=config.labels)
    return here


def build(
    config: settings.Settings,
    here: records.Platform,
    switch: StopSwitch,
    begun: ahead.Ahead | None = None,
    news: int | None = None,
) -> celery.Celery:
    """The app of this host, listening to its platform's queues by name; `begun` and `news` as `tasks.Post` has them."""
    from storage import broker
    from worker import tasks

    made = broker.app(config, queues=broker.queues_of(here.key, config.host))
    tasks.register(made, config, here, switch, begun=begun, news=news)
    return made


def serve(
    config: settings.Settings, here: records.Platform, begun: ahead.Ahead | None = None, news: int | None = None
) -> None:
    """Serve until stopped; `begun` and `news` as `tasks.Post` has them."""
    from celery import signals

    from storage import broker

    switch = StopSwitch()
    queues = ", ".join(broker.queues_of(here.key, config.host))

    def pressed(sig: str = "", **_: Any) -> None:
        switch.press(2 if sig == "SIGINT" else 1)

    def ready(**_: Any) -> None:
        log.info("serving as %s: platform %s, queues %s", config.host, here.key, queues)

    signals.setup_logging.connect(lambda **_: None, weak=False)  # ours stays, whose lines show no password
    signals.worker_shutting_down.connect(pressed, weak=False)
    signals.worker_ready.connect(ready, weak=False)
    app = build(config, here, switch, begun, news)
    start(app, f"quantfleet@{config.host}", heartbeat=config.events)  # Flower calls a worker without one dead


def start(app: celery.Celery, name: str, *, heartbeat: bool = False) -> None:
    """Take messages, one at a time, in a process of its own, until stopped."""
    worker = app.Worker(
        pool="prefork",
        concurrency=1,
        hostname=name,
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=not heartbeat,
        loglevel="WARNING",
        quiet=True,
    )
    worker.start()


def main() -> None:
    """Entry of `python -m worker.app`.

    `--with-parent[=PID]`: end when the starting process does. `--platform-from-stdin`: that process is a launcher,
    which has registered this host as the platform that it writes to our stdin. `--ahead FAMILY…`: nurseries to begin
    at once. `--news FD`: a pipe into which a byte goes after each job.
    """
    parser = argparse.ArgumentParser(prog="python -m worker.app", description=__doc__)
    parser.add_argument("--with-parent", nargs="?", type=int, const=os.getppid(), metavar="PID")
    parser.add_argument("--platform-from-stdin", action="store_true")
    parser.add_argument("--ahead", nargs="+", default=[], metavar="FAMILY")
    parser.add_argument("--news", type=int, metavar="FD")
    given = parser.parse_args()
    if given.with_parent is not None:
        kinship.die_with(given.with_parent, signal.SIGKILL)
    try:
        config = settings.load()
        logs.set_up(config)
        begun = ahead.Ahead(given.ahead, config) if given.ahead else None
        told = given.platform_from_stdin
        here = records.from_document(records.Platform, json.load(sys.stdin)) if told else register(config)
        serve(config, here, begun, given.news)
    except errors.UserError as exc:
        sys.exit(f"error: {exc}")


if __name__ == "__main__":
    main()
