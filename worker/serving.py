"""The rules of a server: one queue before several instances, batches, a cache of results (no clock of its own).

Whoever runs the instances, processes or a simulation, is a `Workers`; its clock is the only one.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from worker.arrivals import Items, Seconds

SETTLING = 0.1
"""Share of a run's requests, the first ones, that count in no latency: they find an empty queue."""

CRITICAL = 2.0
"""A backlog beyond so many times the root of the requests is overload, see `Served.overloaded`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How requests are served."""

    max_batch: int = 1  # requests in one call, at most
    max_wait_s: float = 0.0  # the oldest request waits at most so long for its batch to fill, once an instance is free
    cache: int = 0  # results kept, the least recently used one goes first


class Workers(Protocol):
    """The instances, and the clock."""

    def now(self) -> float:
        """Seconds since the run's start."""

    def begin(self, instance: int, items: Sequence[int]) -> None:
        """Have an idle instance answer these items in one call."""

    def wait(self, until: float) -> list[int]:
        """Sleep until instances have finished (their numbers) or that moment has come (none); inf: until one has."""


@dataclass(slots=True)
class Served:
    """How one run went; arrays by request, in the order of arrival."""

    arrived_s: Seconds  # when it was due, whether or not the dispatcher was at hand
    answered_s: Seconds  # NaN: not answered before the run was given up
    instance: Items  # -1: answered from the cache, -2: not begun
    batches: list[tuple[int, float, float]] = field(default_factory=list)  # requests, begun, finished

    @property
    def latency_s(self) -> Seconds:
        """From the moment a request was due, so that a stall of the server is in all that came meanwhile."""
        return self.answered_s - self.arrived_s

    @property
    def settled(self) -> slice:
        """The requests that count in latencies."""
        return self.settled_of(len(self.arrived_s))

    @staticmethod
    def settled_of(count: int) -> slice:
        """Those that count of so many requests."""
        return slice(math.ceil(SETTLING * count), None)

    @property
    def hit_share(self) -> float:
        """Share of the requests that the cache answered."""
        return float(np.mean(self.instance == -1))

    @property
    def answered_per_s(self) -> float:
        """Requests answered per second until the last arrival, whatever came later."""
        end = float(self.arrived_s[-1])
        return float(np.sum(self.answered_s <= end)) / end

    def backlog(self) -> Items:
        """Requests that were there and not answered at each arrival, the arriving one included."""
        gone = np.sort(self.answered_s[~np.isnan(self.answered_s)])
        waiting = np.arange(1, len(self.arrived_s) + 1) - np.searchsorted(gone, self.arrived_s, side="right")
        return waiting.astype(np.int64)

    @property
    def mean_batch(self) -> float:
        """Requests in one call; NaN without a call."""
        return float(np.mean([size for size, _, _ in self.batches])) if self.batches else math.nan

    def busy_share(self, instances: int) -> float:
        """Time that instances were at work ÷ (instances × time until all was done)."""
        end = max([float(self.arrived_s[-1]), *(finished for _, _, finished in self.batches)])
        return sum(finished - begun for _, begun, finished in self.batches) / (instances * end)

    @property
    def backlog_per_s(self) -> float:
        """Growth of the backlog in requests per second: its least-squares slope over the arrivals."""
        if len(self.arrived_s) < 2:
            return 0.0
        return float(np.polyfit(self.arrived_s, self.backlog(), 1)[0])

    @property
    def overloaded(self) -> bool:
        """Whether more came than could be answered: then a latency would only tell how long the run was.

        At exactly its capacity the backlog of a queue with Poisson arrivals is a reflected random walk, after n
        requests distributed as |N(0, n)| (heavy-traffic limit: Iglehart & Whitt 1970; service of no variance, as
        calls nearly are). Beyond 2 √n it is in 4.6 % of the runs at capacity, and in far fewer below. It must stay
        there for the last tenth of the arrivals, so that one stall is no overload. Requests that the cache
        answered never queue and are not counted in n.
        """
        queued = int(np.sum(self.instance != -1))
        last = self.backlog()[-max(1, len(self.arrived_s) // 10) :]
        return bool(last.min() > CRITICAL * math.sqrt(queued))


def run(
    arrived_s: Seconds, items: Items, rules: Rules, instances: int, workers: Workers, give_up_s: float = math.inf
) -> Served:
    """Serve requests until all are answered; none is begun after `give_up_s`, the rest then stays unanswered."""
    served = Served(
        arrived_s=arrived_s,
        answered_s=np.full(len(arrived_s), np.nan),
        instance=np.full(len(arrived_s), -2, dtype=np.int64),
    )
    desk = _Desk(rules, instances, items, workers, served)
    due: list[float] = arrived_s.tolist()
    while not desk.is_over(workers.now() >= give_up_s):
        while desk.arrived < len(due) and due[desk.arrived] <= workers.now():
            desk.arrive()
        until = math.inf
        if workers.now() < give_up_s:
            desk.dispatch()
            next_due = due[desk.arrived] if desk.arrived < len(due) else math.inf
            until = min(next_due, desk.deadline(), give_up_s)
        for instance in workers.wait(until) if desk.waits(until) else ():
            desk.finish(instance)
    return served


class _Desk:
    """The queue, the instances that are free, and the cache, at one moment."""

    def __init__(self, rules: Rules, instances: int, items: Items, workers: Workers, served: Served) -> None:
        self.arrived = 0
        self._rules = rules
        self._items: list[int] = items.tolist()
        self._workers = workers
        self._served = served
        self._queue: deque[int] = deque()
        self._free = deque(range(instances))  # in turn, so that all are alike in use
        self._busy: dict[int, tuple[float, list[int]]] = {}
        self._cache: OrderedDict[int, None] = OrderedDict()

    def is_over(self, given_up: bool) -> bool:
        """Whether nothing is left to do, or to be waited for."""
        return not self._busy and (given_up or (self.arrived == len(self._items) and not self._queue))

    def waits(self, until: float) -> bool:
        """Whether anything will ever happen: an instance at work, or a moment to wait for."""
        return bool(self._busy) or until < math.inf

    def arrive(self) -> None:
        """The next request comes: answered from the cache at once, or queued."""
        number = self.arrived
        self.arrived += 1
        if self._items[number] in self._cache:
            self._cache.move_to_end(self._items[number])
            self._served.answered_s[number] = self._workers.now()
            self._served.instance[number] = -1
        else:
            self._queue.append(number)

    def dispatch(self) -> None:
        """Give the queue's head to free instances, as far as a batch is full or has waited long enough."""
        while self._free and self._queue and self.deadline() <= self._workers.now():
            batch = [self._queue.popleft() for _ in range(min(self._rules.max_batch, len(self._queue)))]
            instance = self._free.popleft()
            self._busy[instance] = (self._workers.now(), batch)
            self._served.instance[batch] = instance
            self._workers.begin(instance, [self._items[number] for number in batch])

    def deadline(self) -> float:
        """When the queue's head must go to a free instance; inf where there is none or nobody waits."""
        if not self._free or not self._queue:
            return math.inf
        if len(self._queue) >= self._rules.max_batch:
            return -math.inf
        return float(self._served.arrived_s[self._queue[0]]) + self._rules.max_wait_s

    def finish(self, instance: int) -> None:
        """An instance has answered its batch."""
        begun, batch = self._busy.pop(instance)
        now = self._workers.now()
        self._served.answered_s[batch] = now
        self._served.batches.append((len(batch), begun, now))
        self._free.append(instance)
        if self._rules.cache:
            self._keep(batch)

    def _keep(self, batch: Sequence[int]) -> None:
        for number in batch:
            self._cache[self._items[number]] = None
            self._cache.move_to_end(self._items[number])
        while len(self._cache) > self._rules.cache:
            self._cache.popitem(last=False)
