"""The timed loop, and the warm-up before it."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Call = Callable[[], object]

WINDOW_NS = 60_000_000
"""A warm-up window lasts at least this long: shorter ones are dominated by single hiccups."""

STABLE = 0.03
"""A window whose median is lower by less than this is not faster than another."""

CAP_NS = 3_000_000_000
"""Warm-up ends here at the latest; what is not stable by then shows as variance, not as bias."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmUp:
    """How a warm-up went."""

    calls: int
    seconds: float
    stable: bool
    pass_ns: int  # time of one pass over all distinct calls, from the last window


def warm_up(calls: Sequence[Call]) -> WarmUp:
    """Run passes over `calls` until they no longer get faster (see `settled`), or `CAP_NS` is over."""
    began = time.perf_counter_ns()
    medians: list[float] = []
    done = 0
    while True:
        passes = _window(calls)
        done += len(passes) * len(calls)
        medians.append(statistics.median(passes))
        stable = settled(medians)
        spent = time.perf_counter_ns() - began
        if stable or spent > CAP_NS:
            return WarmUp(calls=done, seconds=spent / 1e9, stable=stable, pass_ns=round(medians[-1]))


def settled(medians: Sequence[float]) -> bool:
    """Whether the two newest windows are no faster than the fastest before them.

    One-sided on purpose: what is not warm is slow. To wait until windows are alike both ways is to wait for a
    neighbour to come to rest, which says nothing about the process and on a busy machine takes seconds.
    """
    return len(medians) >= 3 and min(medians[-2:]) > (1 - STABLE) * min(medians[:-2])


def run_leg(calls: Sequence[Call], passes: int, rewarm_ns: int) -> list[int]:
    """Nanoseconds of each call of `passes` passes, in order; a few calls before them are not counted.

    While its partner ran, this process slept: its first calls find cold caches and a sleeping core. Such calls
    are made for `rewarm_ns` (at least one, at most one pass) and thrown away. The garbage collector rests.
    """
    clock = time.perf_counter_ns
    samples: list[int] = []
    keep = samples.append
    gc.disable()
    try:
        _rewarm(calls, rewarm_ns)
        for _ in range(passes):
            for call in calls:
                start = clock()
                call()
                keep(clock() - start)
    finally:
        gc.enable()
    return samples


def run_loop(calls: Sequence[Call], start_ns: int, duration_ns: int) -> tuple[list[int], list[int]]:
    """Call without a pause from one moment on, for a time: when each call began, and how long it took, in ns.

    `start_ns` is of the monotonic clock, which all processes share; beginnings are told relative to it. A call that
    began in time is finished and counted. The garbage collector rests.
    """
    clock = time.perf_counter_ns
    begun: list[int] = []
    took: list[int] = []
    while (wait := start_ns - time.monotonic_ns()) > 0:
        time.sleep(wait / 1e9)
    offset = clock() - time.monotonic_ns()
    origin, now = start_ns + offset, clock()
    gc.disable()
    try:
        while True:
            for call in calls:
                start = now
                call()
                now = clock()
                begun.append(start - origin)
                took.append(now - start)
                if now - origin >= duration_ns:
                    return begun, took
    finally:
        gc.enable()


def resolution_ns() -> int:
    """The smallest step that the clock shows, in ns; what lies below it cannot be timed singly."""
    clock = time.perf_counter_ns
    steps = []
    for _ in range(1000):
        before = clock()
        while (after := clock()) == before:
            pass
        steps.append(after - before)
    return min(steps)


def _rewarm(calls: Sequence[Call], rewarm_ns: int) -> None:
    began = time.perf_counter_ns()
    most = max(len(calls), 3)
    for index in range(most):
        calls[index % len(calls)]()
        if time.perf_counter_ns() - began > rewarm_ns:
            return


def _window(calls: Sequence[Call]) -> list[int]:
    """Times of whole passes until `WINDOW_NS` are over, at least one."""
    began = time.perf_counter_ns()
    passes: list[int] = []
    while True:
        start = time.perf_counter_ns()
        for call in calls:
            call()
        end = time.perf_counter_ns()
        passes.append(end - start)
        if end - began > WINDOW_NS:
            return passes
