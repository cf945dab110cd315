"""Ceilings as tables and as plain data."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from scheduler import labels, progress
from scheduler.calibration import Machine
from scheduler.cli import tables
from scheduler.cli.tables import NOTHING, Column, clean
from storage import ceilings, metrics, records

HOW = "`quantfleet hardware calibrate` measures it"


def document(machine: Machine) -> dict[str, Any]:
    """A hardware as `--json` shows it; rates are per second."""
    return {
        "hardware_key": machine.key,
        "cpu": machine.hardware.cpu,
        "hosts": list(machine.hosts),
        "hardware": records.to_document(machine.hardware),
        "state": None if machine.job is None else machine.job.state,
        "message": None if machine.job is None else machine.job.message,
        "ceilings": _ceilings(machine),
    }


def listed(found: Sequence[Machine], now: float, width: int) -> Iterator[RenderableType]:
    """One row for each hardware; rates are those of all its threads."""
    if not found:
        yield Text(f"the database knows no hardware yet: {HOW}")
        return
    when: Column[Machine] = Column(title="measured", cell=functools.partial(_state, now), left=True)
    yield from tables.folded(_KEYS, (*_LIST, when), [("", found)], width)
    yield Text("\nGFLOP/s, GOP/s and GB/s on one thread / on most; `quantfleet hardware show` has all", style="dim")


def shown(found: Sequence[Machine], now: float, width: int) -> Iterator[RenderableType]:
    """Each hardware in full."""
    if not found:
        yield Text(f"the database knows no hardware yet: {HOW}")
    for machine in found:
        yield Text(clean(f"{machine.hardware.cpu}"), style="bold")
        yield Text(clean(f"hardware {machine.key[:8]}, {', '.join(machine.hosts) or 'no host now'}"))
        if machine.ceilings is None:
            yield Text(clean(f"no ceilings: {_state(now, machine)}; {HOW}\n"))
        else:
            yield from _shown(machine, machine.ceilings.measurement, now, width)


def _shown(
    machine: Machine, measured: ceilings.CeilingsMeasurement, now: float, width: int
) -> Iterator[RenderableType]:
    yield Text()
    by_threads = [(count, measured) for count in measured.threads]
    yield from tables.folded(_THREADS, _RATES, [("", by_threads)], width)
    reads = sorted({one.set_bytes for one in measured.bandwidths if one.operation == "read"})
    columns: list[Column[int]] = [
        Column(title=metrics.counted(count, "thread"), cell=functools.partial(_read_at, measured, count))
        for count in measured.threads
    ]
    yield Text("\nread GB/s by working set", style="italic")
    yield from tables.folded(_SETS, columns, [("", reads)], width)
    yield Text()
    for line in _lines(machine, measured, now):
        yield Text(clean(line), overflow="fold")
    yield Text()


def _lines(machine: Machine, measured: ceilings.CeilingsMeasurement, now: float) -> Iterator[str]:
    seen = "" if measured.cache_seen_bytes is None else f"{measured.cache_seen_bytes >> 10:,} KiB: "
    told = machine.hardware.cache_bytes
    shows = ", ".join(f"{name.upper()} {size >> 10:,} KiB" for name, size in told.items()) or "nothing"
    yield f"last-level cache: {seen}{measured.cache_note}; the machine shows {shows}"
    yield f"timer: resolution {measured.timer.resolution_ns} ns, {measured.timer.call_ns:.0f} ns a reading"
    noise = measured.noise
    yield (
        f"noise of a kernel of {metrics.seconds(noise.kernel_s)} on one thread: "
        f"{metrics.percent(noise.variation)} (standard deviation ÷ mean), p99 ×{noise.p99_ratio:.2f} the median, "
        f"{noise.runs:,} runs"
    )
    kernels = dict.fromkeys(f"{one.precision} {one.kernel}" for one in measured.products)
    yield f"products by {', '.join(kernels)}; the best of square matrices counts, usual runs in brackets"
    yield "copy counts bytes read and bytes written; no write-allocate"
    if machine.ceilings is not None:
        ago = progress.lasting(max(0.0, now - machine.ceilings.finished_at))
        yield f"measured on {machine.ceilings.host} {ago} ago"
    yield from (f"note: {note}" for note in measured.notes)


def _ceilings(machine: Machine) -> dict[str, Any] | None:
    if machine.ceilings is None:
        return None
    view = machine.ceilings
    where = {"job_id": view.job_id, "platform_key": view.platform_key, "host": view.host}
    measured = records.to_document(view.measurement)
    del measured["schema"]
    return {**where, "finished_at": view.finished_at, **measured}


def _state(now: float, machine: Machine) -> str:
    """When it was measured, or what is being done about it."""
    job, lines = machine.job, []
    if machine.ceilings is not None:
        lines.append(f"{progress.lasting(max(0.0, now - machine.ceilings.finished_at))} ago")
        lines += machine.ceilings.measurement.flags
    if job is not None and job.state != "done":
        lines.append(job.state if job.message is None or job.state == "running" else f"{job.state}: {job.message}")
    return "\n".join(lines) or "not measured"


def _pair(values: Sequence[float | None]) -> str:
    """`90.1 / 171`: on one thread and on most."""
    shown = [metrics.three(value / 1e9) if value else NOTHING for value in dict.fromkeys(values)]
    return " / ".join(shown) if any(values) else NOTHING


def _product(precision: str, machine: Machine) -> str:
    if machine.ceilings is None:
        return NOTHING
    measured = machine.ceilings.measurement
    return _pair([_rate(measured, precision, count) for count in _ends(measured)])


def _memory(operation: str, machine: Machine) -> str:
    if machine.ceilings is None:
        return NOTHING
    measured = machine.ceilings.measurement
    return _pair([_moved(measured, operation, count) for count in _ends(measured)])


def _ends(measured: ceilings.CeilingsMeasurement) -> tuple[int, ...]:
    return tuple(dict.fromkeys((measured.threads[0], measured.threads[-1])))


def _rate(measured: ceilings.CeilingsMeasurement, precision: str, threads: int) -> float | None:
    found = [one for one in measured.products if (one.precision, one.threads) == (precision, threads)]
    return found[0].ops_per_s if found else None


def _moved(measured: ceilings.CeilingsMeasurement, operation: str, threads: int) -> float | None:
    """The rate of memory: that of the largest working set."""
    found = [one for one in measured.bandwidths if (one.operation, one.threads) == (operation, threads)]
    return max(found, key=lambda one: one.set_bytes).bytes_per_s if found else None


def _rate_cell(precision: str, row: tuple[int, ceilings.CeilingsMeasurement]) -> str:
    threads, measured = row
    for one in measured.products:
        if (one.precision, one.threads) == (precision, threads):
            mark = "!" if one.disturbed else ""
            return f"{metrics.three(one.ops_per_s / 1e9)} ({metrics.three(one.usual_per_s / 1e9)}){mark}"
    return NOTHING


def _moved_cell(operation: str, row: tuple[int, ceilings.CeilingsMeasurement]) -> str:
    rate = _moved(row[1], operation, row[0])
    return NOTHING if rate is None else metrics.three(rate / 1e9)


def _read_at(measured: ceilings.CeilingsMeasurement, threads: int, set_bytes: int) -> str:
    for one in measured.bandwidths:
        if (one.operation, one.threads, one.set_bytes) == ("read", threads, set_bytes):
            return metrics.three(one.bytes_per_s / 1e9) + ("!" if one.disturbed else "")
    return NOTHING


def _set_name(set_bytes: int) -> str:
    return f"{set_bytes >> 20} MiB" if set_bytes >= 1 << 20 else f"{set_bytes >> 10} KiB"


def _cache(machine: Machine) -> str:
    seen = None if machine.ceilings is None else machine.ceilings.measurement.cache_seen_bytes
    return NOTHING if seen is None else _set_name(seen)


def _noise(machine: Machine) -> str:
    return NOTHING if machine.ceilings is None else metrics.percent(machine.ceilings.measurement.noise.variation)


_KEYS: tuple[Column[Machine], ...] = (
    Column(title="hardware", cell=lambda one: f"{one.key[:8]}\n{labels.short_cpu(one.hardware.cpu)}", left=True),
)
_LIST: tuple[Column[Machine], ...] = (
    Column(title="fp32", cell=functools.partial(_product, "fp32")),
    Column(title="bf16", cell=functools.partial(_product, "bf16")),
    Column(title="int8", cell=functools.partial(_product, "int8")),
    Column(title="read", cell=functools.partial(_memory, "read")),
    Column(title="copy", cell=functools.partial(_memory, "copy")),
    Column(title="cache", cell=_cache),
    Column(title="noise", cell=_noise),
)
_THREADS: tuple[Column[tuple[int, ceilings.CeilingsMeasurement]], ...] = (
    Column(title="threads", cell=lambda row: str(row[0])),
)
_RATES: tuple[Column[tuple[int, ceilings.CeilingsMeasurement]], ...] = (
    Column(title="fp32 (GFLOP/s)", cell=functools.partial(_rate_cell, "fp32")),
    Column(title="bf16 (GFLOP/s)", cell=functools.partial(_rate_cell, "bf16")),
    Column(title="int8 (GOP/s)", cell=functools.partial(_rate_cell, "int8")),
    Column(title="memory read (GB/s)", cell=functools.partial(_moved_cell, "read")),
    Column(title="memory copy (GB/s)", cell=functools.partial(_moved_cell, "copy")),
)
_SETS: tuple[Column[int], ...] = (Column(title="working set", cell=_set_name),)
