"""What more threads give: one case at several thread counts (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.report.contents import Line, Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaling:
    """A strategy's latencies by its number of threads; it has at least two."""

    slice: int  # of all thread counts
    place: Place
    model: str
    input: str | None
    strategy: str
    threads: tuple[int, ...]  # rising
    latency_s: tuple[float, ...]  # p50, in that order

    @property
    def speedups(self) -> tuple[float, ...]:
        """Latency with the fewest threads ÷ latency with each count."""
        return tuple(self.latency_s[0] / seconds for seconds in self.latency_s)

    @property
    def efficiency(self) -> float:
        """The last speed-up ÷ how many times more threads it took."""
        return self.speedups[-1] * self.threads[0] / self.threads[-1]


def scalings(lines: Iterable[Line], slice_of: Callable[[Line], int]) -> tuple[Scaling, ...]:
    """Cases of one content with two thread counts or more; only latencies, whose call is the same at every count.

    The quickest is first in each slice. `slice_of` gives the slice that stands for all thread counts of a line.
    """
    groups: dict[tuple[object, ...], dict[int, Line]] = {}
    for line in lines:
        row = line.found
        if row.kind == "latency" and row.latency_p50_s is not None and row.threads is not None:
            key = (slice_of(line), row.strategy, row.baseline, row.model_digest, row.input_digest)
            groups.setdefault(key, {}).setdefault(row.threads, line)
    found = [_scaling([by[count] for count in sorted(by)], slice_of) for by in groups.values() if len(by) > 1]
    return tuple(sorted(found, key=lambda one: (one.slice, min(one.latency_s))))


def _scaling(lines: Sequence[Line], slice_of: Callable[[Line], int]) -> Scaling:
    first = lines[0]
    return Scaling(
        slice=slice_of(first),
        place=first.place,
        model=first.found.model,
        input=first.found.input,
        strategy=first.found.strategy,
        threads=tuple(line.found.threads or 0 for line in lines),
        latency_s=tuple(line.found.latency_p50_s or 0.0 for line in lines),
    )
