"""The dispatcher of a server: requests go to measured processes as they come, and it sleeps in between."""

from __future__ import annotations

import select
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from worker.nursery import TICK_S, Tick

LEAD_S = 0.02
"""From the order to start until time 0 of a run: what is before it is no request's latency."""


class Instance(Protocol):
    """What the dispatcher needs of a `nursery.Child`."""

    def fileno(self) -> int:
        """Becomes readable with an answer."""

    def begin(self, op: str, request: Mapping[str, Any] | None = None) -> None:
        """Start an operation."""

    def answer(self, op: str, *, within_s: float) -> dict[str, Any]:
        """Its result."""


class Crew:
    """`worker.serving.Workers` over measured processes; one run each."""

    def __init__(self, children: Sequence[Instance], tick: Tick, within_s: float) -> None:
        """`within_s`: a process that does not answer a call for so long is killed."""
        self._children = children
        self._tick = tick
        self._within_s = within_s
        self._begun: dict[int, float] = {}  # of the busy ones
        self._beyond: list[float] = []
        self._origin = time.monotonic() + LEAD_S

    def now(self) -> float:
        """Seconds since the run's start."""
        return time.monotonic() - self._origin

    def begin(self, instance: int, items: Sequence[int]) -> None:
        """Send a batch to an idle process. Raises ChildDied."""
        self._begun[instance] = self.now()
        self._children[instance].begin("serve", {"items": list(items)})

    def wait(self, until: float) -> list[int]:
        """The processes that have answered by `until`, or a second at most; raises what `Child.answer` raises."""
        timeout = min(max(until - self.now(), 0.0), TICK_S)
        busy = {self._children[instance].fileno(): instance for instance in self._begun}
        ready, _, _ = select.select(list(busy), [], [], timeout)
        done = [busy[descriptor] for descriptor in ready]
        for instance in done:
            self._take(instance)
        if not done:
            self._tick()
            self._patience()
        return done

    @property
    def beyond_s(self) -> float:
        """What a call cost beyond the process's own time: channel, scheduler, this dispatcher; median, NaN: no call."""
        return statistics.median(self._beyond) if self._beyond else float("nan")

    def _take(self, instance: int) -> None:
        answer = self._children[instance].answer("serve", within_s=self._within_s)
        took_s = self.now() - self._begun.pop(instance)
        self._beyond.append(took_s - answer["took_ns"] / 1e9)

    def _patience(self) -> None:
        for instance, begun in self._begun.items():
            if self.now() - begun > self._within_s:
                self._children[instance].answer("serve", within_s=0.0)  # says nothing: killed, raises ChildDied
