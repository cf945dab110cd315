"""What is measured, and what a tool says of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BASELINE, STRATEGY = "fp32", "int8-dynamic"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Case:
    """One number of the sweep: the median latency of a call, one row of `length` tokens."""

    length: int
    threads: int
    strategy: str  # "fp32" or "int8-dynamic"

    def __str__(self) -> str:
        return f"{self.strategy}, {self.length} tokens, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of one case. None: the tool did not get so far, or does not tell."""

    case: Case
    wall_s: float  # until the number was there, of everything that the tool started for it
    median_s: float | None = None  # of one call, as the tool reports it
    timed_s: float | None = None  # seconds of calls behind it
    threads: int | None = None  # of the measured process, that really used CPU
    beside: float = 0.0  # cores that the tool's other processes used meanwhile
    reason: str = ""  # why there is no number


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """What every tool is given."""

    model: Path
    seconds: int  # of timed calls of each case, where a tool lets one set it
    processes: int  # fresh processes of each case, where a tool lets one set it (pyperf)


def cases(lengths: Iterable[int], threads: Iterable[int]) -> list[Case]:
    """The sweep, baseline before strategy."""
    return [
        Case(length=length, threads=count, strategy=strategy)
        for length in lengths
        for count in threads
        for strategy in (BASELINE, STRATEGY)
    ]
