"""A bare Celery worker: the settings of quantfleet's, a task that does nothing, kombu's own transport.

    python -m benchmarks.runner.bare BROKER FOLDER QUEUE...

Each pool process writes into a file of FOLDER how many tasks it has done.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import celery
import kombu
from celery import signals

from storage import broker, settings
from worker.app import start

TASK = "bare.nothing"


def app(address: str, queues: Sequence[str]) -> celery.Celery:
    """A Celery app with quantfleet's settings and kombu's own transport."""
    made = broker.app(settings.Settings(broker=address), queues)
    kombu.transport.TRANSPORT_ALIASES["redis"] = "kombu.transport.redis:Transport"
    return made


def done(folder: Path) -> int:
    """Tasks done so far."""
    counts = (file.read_bytes() for file in folder.glob("*.count"))
    return sum(struct.unpack("q", count)[0] for count in counts if count)  # a file is empty when it is just made


class Count:
    """Tasks of one pool process, in a file of its own; opened there, after the fork."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number, self._file = 0, -1

    def open(self) -> None:
        """Begin at 0."""
        self._file = os.open(self._folder / f"{os.getpid()}.count", os.O_CREAT | os.O_WRONLY)
        self._write()

    def add(self) -> None:
        """One more."""
        self._number += 1
        self._write()

    def _write(self) -> None:
        os.pwrite(self._file, struct.pack("q", self._number), 0)


def main() -> None:
    """Serve until killed."""
    address, folder, *queues = sys.argv[1:]
    made, count = app(address, queues), Count(Path(folder))
    signals.worker_process_init.connect(lambda **_: count.open(), weak=False)

    @made.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def nothing(message: object) -> None:
        count.add()

    signals.worker_ready.connect(lambda **_: (Path(folder) / f"{os.getpid()}.ready").touch(), weak=False)
    start(made, f"bare{os.getpid()}@here")


if __name__ == "__main__":
    main()
