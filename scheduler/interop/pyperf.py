"""pyperf's JSON, file format 1.0: benchmarks, each of runs, each run a fresh process with its values.

A value is the mean of one call over `loops × inner_loops` calls, in the unit that the metadata names (`second` where
they name none). Metadata that benchmarks or runs share stand further out in the file and hold for all below.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scheduler.interop import entries
from scheduler.interop.entries import Entry
from scheduler.interop.optimum_benchmark import kernel
from storage import errors

TOOL = "pyperf"

FORMAT = "1.0"
"""The file format that pyperf writes since its version 1.0."""

UNIT = "second"

OURS = "quantfleet_jobs"
"""Metadata of a benchmark that quantfleet wrote: its jobs."""

_SHARED = ("hostname", "cpu_model_name", "cpu_machine", "cpu_count", "platform", "python_version", "perf_version")


def mine(document: Mapping[str, Any]) -> bool:
    """Whether this may be one of this tool's files."""
    return "version" in document and isinstance(document.get("benchmarks"), list)


def read(path: Path, document: Mapping[str, Any]) -> list[Entry]:
    """The benchmarks of a file; ForeignError for another format, for values that are no times, and without values."""
    version = document.get("version")
    if version != FORMAT:
        raise errors.ForeignError(
            f"{path}: pyperf file format {version!r}; this version reads {FORMAT}, which pyperf 1.0 to 2.11 write "
            f"(pyperf {'of a newer version' if _newer(version) else 'before 1.0'} wrote it)"
        )
    shared = _metadata(path, "", document)
    found = [_benchmark(path, number, one, shared) for number, one in enumerate(document["benchmarks"])]
    if not found:
        raise errors.ForeignError(f"{path}: a pyperf file without benchmarks")
    return found


def _newer(version: Any) -> bool:
    major = str(version).partition(".")[0]
    return isinstance(version, str) and major.isdigit() and int(major) >= 1


def _metadata(path: Path, where: str, holder: Mapping[str, Any]) -> dict[str, Any]:
    return dict(entries.part(path, where, {"metadata": {}, **holder}, "metadata", dict))


def _benchmark(path: Path, number: int, one: Any, shared: Mapping[str, Any]) -> Entry:
    where = f"benchmarks[{number}]."
    if not isinstance(one, dict):
        raise errors.ForeignError(f"{path}: {where[:-1]} is no object")
    common = {**shared, **_metadata(path, where, one)}
    runs = entries.part(path, where, one, "runs", list)
    told = [{**common, **_metadata(path, f"{where}runs.", run)} for run in runs if isinstance(run, dict)]
    if any(OURS in each for each in told):
        raise errors.ForeignError(f"{path}: written by `quantfleet interop export`: these results are quantfleet's own")
    name = next((text for each in told if (text := entries.word(each.get("name")))), None) or path.stem
    _check_unit(path, name, told)
    processes = [
        _process(path, f"{name}, run {place}", run, each)
        for place, (run, each) in enumerate(zip(runs, told, strict=False))
        if run.get("values")
    ]
    if not processes:
        raise errors.ForeignError(f"{path}: {name} has no values, only calibration runs")
    return _entry(path, name, tuple(processes), told)


def _check_unit(path: Path, name: str, told: list[dict[str, Any]]) -> None:
    units = {each.get("unit", UNIT) for each in told}
    if units != {UNIT}:
        raise errors.ForeignError(
            f"{path}: {name} is in {', '.join(sorted(map(repr, units)))}, not in {UNIT!r}: only times are imported"
        )


def _process(path: Path, where: str, run: Mapping[str, Any], told: Mapping[str, Any]) -> entries.Process:
    values = entries.positives(path, where, run["values"])
    loops = [entries.whole(told.get(name, 1)) for name in ("loops", "inner_loops")]
    if None in loops:
        raise errors.ForeignError(f"{path}: {where}: loops are {told.get('loops')!r} × {told.get('inner_loops', 1)!r}")
    repeats = math.prod(count or 1 for count in loops)
    # a value of the wrong unit shows in the run's own duration, where that is told
    duration = told.get("duration")
    if isinstance(duration, (int, float)) and math.fsum(values) * repeats > 2 * duration + 0.1:
        raise errors.ForeignError(
            f"{path}: {where}: values of {math.fsum(values) * repeats:g} s in a run of {duration:g} s: units are mixed"
        )
    return entries.Process(
        samples_ns=entries.nanoseconds(values, repeats), repeats=repeats, started_at=_epoch(told.get("date"))
    )


def _entry(path: Path, name: str, processes: tuple[entries.Process, ...], told: list[dict[str, Any]]) -> Entry:
    common = {key: told[0].get(key) for key in _SHARED if all(each.get(key) == told[0].get(key) for each in told)}
    peaks = [peak for each in told if (peak := entries.whole(each.get("mem_max_rss") or each.get("command_max_rss")))]
    starts = [one.started_at for one in processes if one.started_at is not None]
    measured = [[list(one.samples_ns), one.repeats, one.started_at] for one in processes]
    python = entries.word(common.get("python_version"))
    most = max(one.repeats for one in processes)
    return Entry(
        tool=TOOL,
        version=entries.word(common.get("perf_version")),
        file=path.name,
        name=name,
        digest=entries.digest(TOOL, {"name": name, "runs": measured}),
        machine=entries.Machine(
            host=entries.word(common.get("hostname")),
            cpu=entries.word(common.get("cpu_model_name")),
            architecture=entries.word(common.get("cpu_machine")) or _architecture(common.get("platform")),
            logical_cores=entries.whole(common.get("cpu_count")),
            kernel=kernel(common.get("platform")),
            python=None if python is None else python.split()[0],
        ),
        strategy=path.name.removesuffix(".gz").removesuffix(".json"),
        input=name,
        processes=processes,
        resident_peak_bytes=max(peaks, default=None),
        measured_at=max(starts, default=None),
        notes=(f"p50 is the median of means over up to {most:,} calls each",) if most > 1 else (),
    )


def _architecture(platform: Any) -> str | None:
    found = re.search(r"\b(x86_64|aarch64|arm64|i686)\b", platform) if isinstance(platform, str) else None
    return found.group(1) if found else None


def _epoch(date: Any) -> float | None:
    """pyperf writes the machine's local time without its zone; taken as UTC, it may be off by half a day."""
    try:
        when = datetime.datetime.fromisoformat(date) if isinstance(date, str) else None
    except ValueError:
        return None
    return None if when is None else when.replace(tzinfo=when.tzinfo or datetime.UTC).timestamp()
