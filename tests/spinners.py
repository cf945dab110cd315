"""A real process that is busy for a fixed time with each call: what a dispatcher talks to, without a model."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from worker import channel


class Spinner:
    """A forked process that answers `serve` after `service_s` of work on one CPU, by the clock; no sleep in it."""

    def __init__(self, service_s: float) -> None:
        self._channel, theirs = channel.pair()
        self.pid = os.fork()
        if self.pid == 0:
            self._channel.close()
            try:
                _spin(channel.Channel(theirs), service_s)
            finally:
                os._exit(0)
        theirs.close()

    def fileno(self) -> int:
        return self._channel.fileno()

    def begin(self, op: str, request: Mapping[str, Any] | None = None) -> None:
        self._channel.send({"op": op, **(request or {})})

    def answer(self, op: str, *, within_s: float) -> dict[str, Any]:
        found = self._channel.receive(timeout=within_s)
        if found is None:
            raise TimeoutError(op)
        return found

    def close(self) -> None:
        self._channel.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _spin(ours: channel.Channel, service_s: float) -> None:
    while True:
        try:
            ours.receive()
        except channel.Closed:
            return
        began = time.perf_counter()
        while time.perf_counter() - began < service_s:
            pass
        ours.send({"took_ns": round((time.perf_counter() - began) * 1e9)})
