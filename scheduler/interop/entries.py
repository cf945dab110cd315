"""What the readers of other tools' files have in common: the records that they make, and checks of what they read.

Every time is in seconds once it is in a record, whatever unit its file is in; a reader converts, and refuses a unit
that it does not know.
"""

from __future__ import annotations

import gzip
import json
import math
import statistics
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage import errors, keys, records
from storage import statistics as estimates

QUANTILES = (0.5, 0.9, 0.95, 0.99)
"""Percentiles that a result has columns for."""

LIMIT_BYTES = 256 << 20
"""A larger file is no result of one benchmark."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a file tells of the machine and its software. None, or nothing: it does not tell."""

    host: str | None = None
    cpu: str | None = None
    architecture: str | None = None
    logical_cores: int | None = None
    memory_bytes: float | None = None
    kernel: str | None = None
    python: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)  # package → version
    device: str | None = None  # that calls ran on, where it is not the CPU


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """The samples of one process, in the order in which they were taken."""

    samples_ns: tuple[int, ...]
    repeats: int = 1  # calls in one sample
    started_at: float | None = None  # epoch seconds

    @property
    def calls_s(self) -> list[float]:
        """Seconds of one call, for each sample."""
        return [value * 1e-9 / self.repeats for value in self.samples_ns]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One benchmark of a file: what was measured, where, and what the file calls it. None: the file does not tell."""

    tool: str
    version: str | None
    file: str  # its name without the folder
    name: str  # of the benchmark in the file
    digest: str  # of what was measured: the same numbers have the same one, whatever file they are in
    machine: Machine
    kind: records.Kind = "latency"
    model: str | None = None
    strategy: str
    threads: int | None = None
    batch: int | None = None
    length: int | None = None
    input: str | None = None  # what a call gets, in words
    processes: tuple[Process, ...] = ()
    quantiles_s: Mapping[float, float] = field(default_factory=dict)  # where the tool keeps no samples
    centre_s: float | None = None  # likewise: seconds of a call that a gain is taken from; None: it allows no gain
    count: int = 0  # likewise: calls
    throughput_per_s: float | None = None  # rows per second
    resident_peak_bytes: int | None = None
    load_s: float | None = None
    first_answer_s: float | None = None
    measured_at: float | None = None  # epoch seconds
    facts: Mapping[str, str] = field(default_factory=dict)  # what else the tool says of the run
    notes: tuple[str, ...] = ()  # sentences for people

    @property
    def centres_s(self) -> list[float]:
        """One time for each process: the median of its calls, as in our own legs."""
        if self.processes:
            return [statistics.median(one.calls_s) for one in self.processes]
        return [] if self.centre_s is None else [self.centre_s]

    def percentiles(self) -> tuple[records.Percentile, ...]:
        """Those that the samples support; of means over several calls there is a median alone."""
        if not self.processes:
            return tuple(_kept(q, self.quantiles_s.get(q), self.count) for q in QUANTILES)
        calls = [value for one in self.processes for value in one.calls_s]
        repeats = max(one.repeats for one in self.processes)
        found = [estimates.percentile(calls, q) for q in QUANTILES]
        if repeats == 1:
            return tuple(found)
        reason = f"each sample is the mean of up to {repeats:,} calls"
        return (found[0], *(records.Percentile(q=q, value_s=None, withheld=reason) for q in QUANTILES[1:]))


def _kept(q: float, value_s: float | None, count: int) -> records.Percentile:
    needed = estimates.samples_needed(q)
    if value_s is None:
        return records.Percentile(q=q, value_s=None, withheld="the tool did not write it")
    if count < needed:
        return records.Percentile(q=q, value_s=None, withheld=f"{count} samples, {needed} needed")
    return records.Percentile(q=q, value_s=value_s)


def digest(tool: str, measured: Any) -> str:
    """Identity of what a tool measured, of plain data."""
    return keys.digest({"tool": tool, "measured": measured})


def text(path: Path) -> str:
    """A file's text; ForeignError for one that is missing, too large, or no text."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise errors.ForeignError(f"{path}: larger than {LIMIT_BYTES >> 20} MiB: no result of a benchmark")
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as opened:
                return opened.read(LIMIT_BYTES)
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise errors.ForeignError(f"{path}: not a text file") from exc
    except (OSError, EOFError, zlib.error) as exc:
        raise errors.ForeignError(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc


def document(path: Path) -> dict[str, Any]:
    """A file's JSON object; ForeignError with the line for JSON that is cut off or none at all."""
    return parsed(path, text(path))


def parsed(path: Path, content: str) -> dict[str, Any]:
    """The same of a text that was read already."""
    try:
        found = json.loads(content)
    except (json.JSONDecodeError, RecursionError) as exc:
        where = f"line {exc.lineno}, column {exc.colno}: {exc.msg}" if isinstance(exc, json.JSONDecodeError) else exc
        raise errors.ForeignError(f"{path}: no complete JSON ({where}); was it cut off while copied?") from exc
    if not isinstance(found, dict):
        raise errors.ForeignError(f"{path}: a JSON {type(found).__name__} where an object is expected")
    return found


def part(path: Path, where: str, holder: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    """A field that must be there, of a type; ForeignError that names it."""
    found = holder.get(name)
    if not isinstance(found, kind):
        what = "is missing" if found is None else f"is a {type(found).__name__}, not a {kind.__name__}"
        raise errors.ForeignError(f"{path}: {where}{name} {what}")
    return found


def positive(path: Path, where: str, value: Any) -> float:
    """A finite number above 0; ForeignError otherwise."""
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and number > 0):
        raise errors.ForeignError(f"{path}: {where} is {value!r}, where a number above 0 is expected")
    return float(number)


def positives(path: Path, where: str, values: Any) -> list[float]:
    """Numbers above 0, at least one."""
    if not isinstance(values, list) or not values:
        raise errors.ForeignError(f"{path}: {where} holds no numbers")
    return [positive(path, f"{where}[{number}]", value) for number, value in enumerate(values)]


def agree(path: Path, where: str, told: Any, computed: float) -> None:
    """ForeignError where a number that the file tells is not what its samples give: then units are mixed."""
    value = positive(path, where, told)
    if not math.isclose(value, computed, rel_tol=0.01):
        raise errors.ForeignError(
            f"{path}: {where} is {value:g}, but its samples give {computed:g}: its units are mixed, or it was edited"
        )


def whole(value: Any) -> int | None:
    """A positive whole number, or None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def word(value: Any) -> str | None:
    """A text that says something, or None."""
    return " ".join(value.split()) or None if isinstance(value, str) else None


def nanoseconds(seconds: Sequence[float], repeats: int = 1) -> tuple[int, ...]:
    """Samples of `repeats` calls each, from seconds of one call."""
    return tuple(max(1, round(value * repeats * 1e9)) for value in seconds)
