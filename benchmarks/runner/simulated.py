"""Many hosts in a few processes: what their workers do with jobs, and what their launchers do every 15 s.

    python -m benchmarks.runner.simulated worker FOLDER NUMBER/WORKERS PLATFORM...
    python -m benchmarks.runner.simulated launchers

Settings come from the environment, hosts and platforms from the database. A worker is a Celery worker that listens to
the queues of all platforms and stands for its share of their hosts, which take turns with their platform's jobs, each
with its own station, measuring lock and spool, by the code of a real host from the message to the stored result. All
hosts of a process share its database connection, and no two of them work at the same moment. The launchers' process
does for every host, every 15 s, what a launcher does: it is seen, delivers its spool, and takes its turn as the
reconciler.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from celery import signals

from storage import broker, hosts, outbox, queries, settings
from storage.database import Database
from worker import logs, spool, station, supervisor
from worker.app import start


class Hosts:
    """The hosts of some platforms, each with its station; opened in the pool process, after the fork."""

    def __init__(self, config: settings.Settings, folder: Path, number: int, workers: int) -> None:
        self._config, self._folder, self._number, self._workers = config, folder, number, workers
        self._turns: dict[str, Iterator[station.Station]] = {}
        self._database: Database | None = None

    def run(self, job_id: str, queue: str) -> str:
        """Do one job on the next host of its queue's platform."""
        if self._database is None:
            self._database = Database.open(self._config.database)
            self._turns = self._stations(self._database)
        return supervisor.run_job(next(self._turns[queue]), self._database, job_id)

    def _stations(self, db: Database) -> dict[str, Iterator[station.Station]]:
        found: dict[str, list[station.Station]] = {}
        for view in queries.hosts(db):
            folder = self._folder / view.name
            own = {"host": view.name, "lock": Path(f"{folder}.lock"), "cache": folder}
            made = station.Station(self._config.model_copy(update=own), view.platform)
            found.setdefault(broker.queue_of(view.platform.key), []).append(made)
        return {queue: itertools.cycle(all_[self._number :: self._workers]) for queue, all_ in found.items()}


def work(config: settings.Settings, folder: Path, share: str, platforms: Sequence[str]) -> None:
    """Serve the platforms' queues until killed."""
    app = broker.app(config, [broker.queue_of(key) for key in platforms])
    number, _, workers = share.partition("/")
    mine = Hosts(config, folder, int(number), int(workers))

    @app.task(name=broker.TASK, ignore_result=True, bind=True)  # type: ignore[untyped-decorator]
    def run_job(task: Any, message: Mapping[str, Any]) -> None:
        mine.run(broker.job_of(message), task.request.delivery_info["routing_key"])

    signals.setup_logging.connect(lambda **_: None, weak=False)
    signals.worker_ready.connect(lambda **_: (folder / f"{os.getpid()}.ready").touch(), weak=False)
    start(app, f"simulated{os.getpid()}@here")


def launch(config: settings.Settings) -> None:
    """Do every host's ticks until killed, spread over the time between two of them."""
    with Database.open(config.database) as db:
        names, publisher = [view.name for view in queries.hosts(db)], broker.Publisher(config)
        pause, due = config.reconcile / len(names), time.monotonic()
        for name in itertools.cycle(names):
            hosts.seen(db, name)
            spool.replay(db, spool.folder(config.model_copy(update={"host": name})))
            outbox.tick(db, publisher, name, config)
            due += pause
            time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    """Be one process of the simulation."""
    config = settings.load()
    logs.set_up(config)
    if sys.argv[1] == "launchers":
        launch(config)
    else:
        work(config, Path(sys.argv[2]), sys.argv[3], sys.argv[4:])


if __name__ == "__main__":
    main()
