"""What a machine can do at most: the records of a `ceilings` job (standard library only).

A ceiling is a maximum: the best of many short runs counts, and beside it stands what a usual run reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from storage import records

Precision = Literal["fp32", "bf16", "int8"]
"""What matrix products are measured in."""

Operation = Literal["copy", "read"]
"""How memory is used: one array written from another, or one array read."""

MACHINE = records.ModelRef(name="machine", source="none", location="machine")
"""What stands where a case names its model: the job is about the machine itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """The best rate of dense matrix products in one precision."""

    precision: Precision
    threads: int
    ops_per_s: float  # best run; a multiplication and its addition are two operations
    usual_per_s: float  # median run of that size
    size: int  # rows and columns of the square matrices of the best rate
    kernel: str  # what computed it
    runs: int  # of that size
    disturbed: tuple[str, ...] = ()  # reasons; empty for a good one


@dataclass(frozen=True, kw_only=True, slots=True)
class Bandwidth:
    """The best rate at which a working set was read or copied.

    Bytes moved are those read plus those written, as in STREAM (McCalpin, 1995): the line that a cache fetches
    before it is written (write-allocate) is not counted.
    """

    operation: Operation
    threads: int
    bytes_per_s: float  # best run
    usual_per_s: float  # median run
    set_bytes: int  # working set: the array that is read, or both arrays of a copy
    runs: int
    disturbed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Timer:
    """The clock that samples are taken with."""

    resolution_ns: int  # smallest difference between two readings that is not zero
    call_ns: float  # median cost of one reading


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Run-to-run noise of one fixed kernel on one thread."""

    kernel_s: float  # median time of the kernel
    variation: float  # standard deviation ÷ mean
    p99_ratio: float  # 99th percentile ÷ median
    runs: int
    disturbed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CeilingsMeasurement:
    """The result of a `ceilings` job."""

    products: tuple[Product, ...]
    bandwidths: tuple[Bandwidth, ...]
    timer: Timer
    noise: Noise
    cache_seen_bytes: int | None  # largest working set that is read clearly faster than memory
    cache_note: str  # a sentence on that
    measured_s: float
    overhead: Mapping[str, float] = field(default_factory=dict)  # seconds by phase
    flags: tuple[str, ...] = ()  # "disturbed"
    notes: tuple[str, ...] = ()  # sentences for people

    @property
    def threads(self) -> tuple[int, ...]:
        """The thread counts that were measured, in order."""
        return tuple(sorted({one.threads for one in self.products}))


def case() -> records.Case:
    """The case of a `ceilings` job: no model, no strategy."""
    return records.Case(kind="ceilings", model=MACHINE, strategy="", baseline="")
