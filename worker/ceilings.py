"""A `ceilings` job: what this machine can do at most, measured step by step in fresh processes.

A step is one short measurement, looked at for disturbances as a leg is. A disturbed one is taken again; of all takes
the best counts, for a ceiling is a maximum, and it keeps what disturbed it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import psutil

from storage import ceilings, errors, records
from worker import cores, nursery, quiet, station
from worker.nursery import Tick
from worker.phases import Phases

Tell = Callable[[Mapping[str, Any]], None]

FAMILY = "torch"
"""The nursery of the measured processes."""

TAKES = 3
"""A disturbed step is taken so often, at most."""

PRODUCT_S, READ_S, COPY_S, NOISE_S = 1.0, 0.1, 0.3, 2.0
"""Seconds of a step, without its preparation."""

SMALLEST_SET = 1 << 19
"""Bytes of the smallest working set that is read: it fits in every core's second-level cache of today."""

BEYOND_CACHE = 8
"""The largest working set is so many times the caches that the machine shows: nothing of it stays in them."""

LARGEST_SETS = (1 << 28, 1 << 32)
"""Bytes of the largest working set, at least and at most."""

MEMORY_SHARE = 8
"""A working set takes one part in so many of what a measured process may allocate, at most."""

KNEE = 1.5
"""A working set is read clearly faster than memory from this ratio on."""

FLAT = 1.25
"""Memory is reached where the two largest working sets are read at rates within this ratio."""

ANSWER_S = 120.0
"""A measured process that says nothing for so long hangs: a step takes seconds."""


@dataclass(slots=True)
class Bench:
    """What all steps of one job share."""

    place: station.Station
    tick: Tick
    tell: Tell
    observer: quiet.Observer
    phases: Phases
    steps: int  # in all, for the progress
    done: int = 0

    @contextmanager
    def seat(self, threads: int) -> Iterator[Seat]:
        """A fresh process, bound to its CPUs, with its threads set."""
        with ExitStack() as stack:
            with self.phases("start"):
                child = stack.enter_context(self.place.child(FAMILY, self.tick))
            options = {"threads": threads, "cpus": cores.choose(threads, self.place.cpus)}
            child.ask("ceiling", {"what": "settle", "options": options}, tick=self.tick, within_s=ANSWER_S)
            yield Seat(self, child, threads)


class Seat:
    """One measured process, and its steps."""

    def __init__(self, bench: Bench, child: nursery.Child, threads: int) -> None:
        self._bench = bench
        self._child = child
        self.threads = threads

    def best(self, what: str, rate: str | None, **options: Any) -> dict[str, Any]:
        """The best of the takes of one step by the number called `rate`; None: of the least disturbed, the last.

        Its document has `disturbed`, the reasons of that take.
        """
        found: dict[str, Any] = {}
        for _ in range(TAKES):
            seen = self._take(what, options)
            if not found or rate is None or seen[rate] > found[rate]:
                found = seen
            if not seen["disturbed"]:
                break
        self._bench.done += 1
        return found

    def ask(self, what: str) -> dict[str, Any]:
        """One step that nothing disturbs enough to look."""
        return self._child.ask("ceiling", {"what": what}, tick=self._bench.tick, within_s=ANSWER_S)

    def _take(self, what: str, options: Mapping[str, Any]) -> dict[str, Any]:
        bench = self._bench
        bench.tell({"phase": f"{what}, {self.threads} threads", "done": bench.done, "total": bench.steps})
        before = nursery.look(bench.observer, "ceiling", self._child)
        with bench.phases("measuring"):
            request = {"what": what, "options": dict(options)}
            seen = self._child.ask("ceiling", request, tick=bench.tick, within_s=ANSWER_S)
        judged = quiet.judge(
            before,
            nursery.look(bench.observer, "ceiling", self._child),
            cores=len(bench.place.cpus),
            threads=self.threads,
        )
        return {**seen, "disturbed": judged.disturbed}


def measure(place: station.Station, tick: Tick, tell: Tell) -> tuple[ceilings.CeilingsMeasurement, list[records.Leg]]:
    """Measure every ceiling of this machine by thread count; there are no legs."""
    if "torch" not in place.platform.environment.packages:
        raise errors.Unsupported(
            "ceilings are measured with PyTorch, not installed here; pip install 'quantfleet[worker]'"
        )
    counts, sets = thread_counts(place), working_sets(place)
    precisions = get_args(ceilings.Precision)
    steps = len(counts) * (len(precisions) + len(sets) + 1) + 1
    phases = Phases()
    bench = Bench(
        place=place, tick=tick, tell=tell, observer=quiet.Observer(ignore=place.own_pids()), phases=phases, steps=steps
    )
    with bench.seat(1) as seat:
        timer, noise = ceilings.Timer(**seat.ask("timer")), ceilings.Noise(**seat.best("noise", None, seconds=NOISE_S))
    products: list[ceilings.Product] = []
    bandwidths: list[ceilings.Bandwidth] = []
    for threads in counts:
        with bench.seat(threads) as seat:
            products += [_product(seat, precision) for precision in precisions]
            bandwidths += [*(_bandwidth(seat, "read", size, READ_S) for size in sets)]
            bandwidths.append(_bandwidth(seat, "copy", sets[-1], COPY_S))
    seen, note = cache_seen([one for one in bandwidths if one.operation == "read" and one.threads == counts[0]])
    seconds = phases.seconds()
    flags, notes = _flags(products, bandwidths, noise)
    return ceilings.CeilingsMeasurement(
        products=tuple(products),
        bandwidths=tuple(bandwidths),
        timer=timer,
        noise=noise,
        cache_seen_bytes=seen,
        cache_note=note,
        measured_s=seconds.get("measuring", 0.0),
        overhead={name: s for name, s in seconds.items() if name != "measuring"},
        flags=flags,
        notes=notes,
    ), []


def thread_counts(place: station.Station) -> tuple[int, ...]:
    """One thread, as many as physical cores, as many as logical ones, as far as this worker may use them."""
    most = len(place.cpus)
    hardware = place.platform.hardware
    return tuple(sorted({1, min(hardware.physical_cores, most), min(hardware.logical_cores, most)}))


def working_sets(place: station.Station) -> tuple[int, ...]:
    """Bytes of the working sets that are read: doubling, from a core's cache to well beyond the last level."""
    caches = sum(place.platform.hardware.cache_bytes.values())
    room = min(place.memory_limit(), psutil.virtual_memory().available) // MEMORY_SHARE
    least, most = LARGEST_SETS
    largest = max(SMALLEST_SET, min(max(least, BEYOND_CACHE * caches), most, room))
    return tuple(SMALLEST_SET << step for step in range(int(math.log2(largest / SMALLEST_SET)) + 1))


def cache_seen(reads: Sequence[ceilings.Bandwidth]) -> tuple[int | None, str]:
    """The largest working set that is read clearly faster than memory, and a sentence on that; pure.

    `reads` are those of one thread. None where the rates show no knee, or memory was not reached.
    """
    ordered = sorted(reads, key=lambda one: one.set_bytes)
    memory = ordered[-1].bytes_per_s
    if len(ordered) < 3 or not 1 / FLAT <= ordered[-2].bytes_per_s / memory <= FLAT:
        return None, "not seen: the rate still changes at the largest working set"
    fast = [one.set_bytes for one in ordered[:-2] if one.bytes_per_s >= KNEE * memory]
    if not fast:
        return None, f"not seen: no working set is read ×{KNEE:g} as fast as memory"
    return max(fast), f"the largest working set that one thread reads at ×{KNEE:g} memory's rate or more"


def _product(seat: Seat, precision: ceilings.Precision) -> ceilings.Product:
    seen = seat.best("product", "ops_per_s", precision=precision, seconds=PRODUCT_S)
    return ceilings.Product(precision=precision, threads=seat.threads, **seen)


def _bandwidth(seat: Seat, operation: ceilings.Operation, size: int, seconds: float) -> ceilings.Bandwidth:
    seen = seat.best(operation, "bytes_per_s", set_bytes=size, seconds=seconds)
    return ceilings.Bandwidth(operation=operation, threads=seat.threads, **seen)


def _flags(
    products: Sequence[ceilings.Product], bandwidths: Sequence[ceilings.Bandwidth], noise: ceilings.Noise
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Marks, and a sentence for each."""
    steps: list[ceilings.Product | ceilings.Bandwidth | ceilings.Noise] = [*products, *bandwidths, noise]
    bad = [step for step in steps if step.disturbed]
    if not bad:
        return (), ()
    example = bad[0].disturbed[0]
    note = f"{len(bad)} of {len(steps)} steps stayed disturbed ({example}): their ceilings may be higher"
    return ("disturbed",), (note,)
