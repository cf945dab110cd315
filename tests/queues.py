"""A server by formula and by simulation: instances of a known service time on a clock of their own."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence


class Simulated:
    """`worker.serving.Workers` without a process or a sleep: time jumps to what happens next."""

    def __init__(self, service_s: Callable[[Sequence[int]], float]) -> None:
        self._now = 0.0
        self._service_s = service_s
        self._running: list[tuple[float, int]] = []
        self.asked: list[tuple[int, tuple[int, ...]]] = []

    def now(self) -> float:
        return self._now

    def begin(self, instance: int, items: Sequence[int]) -> None:
        self.asked.append((instance, tuple(items)))
        heapq.heappush(self._running, (self._now + self._service_s(items), instance))

    def wait(self, until: float) -> list[int]:
        if not self._running or until < self._running[0][0]:
            self._now = max(self._now, until)
            return []
        self._now, instance = heapq.heappop(self._running)
        return [instance]


def waits_at_most(t: float, rate: float, service: float) -> float:
    """P(wait in queue <= t) of an M/D/1 queue.

    Erlang 1909, in Crommelin's form (1932); Tijms, A First Course in Stochastic Models (2003), 9.6.2:
    (1 - ρ) Σ_{k=0}^{⌊t/D⌋} (λ(kD - t))^k / k! · e^{-λ(kD - t)}.
    """
    sum_ = 0.0
    for k in range(math.floor(t / service) + 1):
        x = rate * (k * service - t)
        sum_ += x**k / math.factorial(k) * math.exp(-x)
    return (1 - rate * service) * sum_


def mean_wait(rate: float, service: float) -> float:
    """Mean wait in queue of an M/D/1 queue, by Pollaczek and Khinchine: λD² / (2(1 - ρ))."""
    return rate * service**2 / (2 * (1 - rate * service))


def highest_rate(bound: float, q: float, service: float) -> float:
    """The rate at which P(wait + service <= bound) = q in an M/D/1 queue, by bisection."""
    low, high = 1e-9, (1 - 1e-9) / service
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if waits_at_most(bound - service, middle, service) >= q else (low, middle)
    return low
