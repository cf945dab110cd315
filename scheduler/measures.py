"""What configurations are ranked by: numbers with intervals, and when one is shown to be better (pure).

A gain is taken in turn with the baseline on the same host, so that drift of the machine cancels; a latency by itself
moves with it. A latency is therefore told at its baseline's usual pace: the geometric mean of the baseline's p50 over
all jobs of the same case, divided by the gain. Strategies with one baseline case share this pace (their yardstick),
and compare by their gains' intervals; others (another number of threads) compare by intervals that also hold what the
pace itself is uncertain by.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scheduler import prices
from scheduler.compare import Comparison
from storage import distributions
from storage.statistics import LEVEL

Better = Literal["less", "more"]

MEMORY_WITHIN = 0.01
"""A peak of resident memory has no interval; so much to either side stands for one."""

Interval = tuple[float, float]

_BOUND = re.compile(r"\b(p[\d.]+) ≤ (\S+) ms\b")
"""As `storage.records.ServingSpec.goal` writes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """An estimate with its 95 % intervals; None where the sample supports none."""

    value: float
    near: Interval | None = None  # against measures of the same yardstick
    wide: Interval | None = None  # against all others
    yardstick: Hashable = None  # the baseline case that it was taken against; None: none


@dataclass(frozen=True, kw_only=True, slots=True)
class Yardstick:
    """The baseline of one case, over all jobs that measured it."""

    key: Hashable
    value: float  # geometric mean
    spread: float  # half width of the 95 % interval of its logarithm; 0.0 for one job, which cannot tell


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What measures need besides the row itself."""

    yardsticks: Mapping[tuple[Hashable, str], Yardstick]  # by case and field
    prices: Mapping[tuple[str, str], float]  # of an hour, by platform


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """Something that configurations are ranked by."""

    name: str
    better: Better
    label: str
    of: Callable[[Comparison, Context], Measure | None]  # None: not measured for this kind of row


def context(rows: Iterable[Comparison], prices: Mapping[tuple[str, str], float]) -> Context:
    """Yardsticks of all rows with a number; `prices` of an hour by platform."""
    found: dict[tuple[Hashable, str], list[float]] = {}
    for row in rows:
        for field in _PACES:
            value = getattr(row, field)
            if row.state == "done" and value:
                found.setdefault((_case(row), field), []).append(value)
    return Context(yardsticks={key: _yardstick(key, values) for key, values in found.items()}, prices=prices)


def shown_better(a: Measure, b: Measure, better: Better) -> bool:
    """Whether a's interval lies on b's better side without touching it; never without two intervals.

    Two 95 % intervals that do not touch are a stricter test than one at 5 %: ties are called rather too often.
    """
    same = a.yardstick is not None and a.yardstick == b.yardstick
    own, other = (a.near, b.near) if same else (a.wide, b.wide)
    if own is None or other is None:
        return False
    return own[1] < other[0] if better == "less" else own[0] > other[1]


def ranks_before(a: float, b: float, better: Better) -> bool:
    """Whether estimate a is better than b."""
    return a < b if better == "less" else a > b


def exact(value: float) -> Measure:
    """A number without uncertainty."""
    return Measure(value=value, near=(value, value), wide=(value, value))


def bound(row: Comparison) -> tuple[str, float] | None:
    """What the search for a server's highest rate held to, `("p95", 0.02)` in seconds; None for every other row."""
    found = _BOUND.search(row.input or "") if row.kind == "server" else None
    return None if found is None else (found[1], float(found[2]) / 1e3)


def searched(row: Comparison) -> bool:
    """Whether a server row is the search for a highest rate."""
    return bound(row) is not None


def _yardstick(key: Hashable, values: Sequence[float]) -> Yardstick:
    logs = [math.log(value) for value in values]
    spread = 0.0
    if len(logs) > 1:
        t = distributions.t_quantile((1 + LEVEL) / 2, len(logs) - 1)
        spread = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return Yardstick(key=key, value=math.exp(statistics.fmean(logs)), spread=spread)


def _case(row: Comparison) -> Hashable:
    """All rows of one case share a baseline."""
    where = (row.hardware_key, row.environment_key, row.model, row.model_digest)
    return (*where, row.kind, row.baseline, row.threads, row.input, row.input_digest)


_PACES = ("baseline_latency_p50_s", "baseline_throughput_per_s")


def _latency(row: Comparison, known: Context) -> Measure | None:
    if row.kind == "latency":
        return _at_pace(row, known, "baseline_latency_p50_s", slower=True) or _bare(row.latency_p50_s)
    if row.kind == "server" and not searched(row) and row.latency_p50_s is not None:
        # a server's gain is of mean latencies, so that it does not turn one p50 into the other
        return _own(row, row.latency_p50_s, slower=True)
    return None


def _throughput(row: Comparison, known: Context) -> Measure | None:
    if row.kind != "throughput" and not searched(row):
        return None
    return _at_pace(row, known, "baseline_throughput_per_s", slower=False) or _bare(row.throughput_per_s)


def _cost(row: Comparison, known: Context) -> Measure | None:
    """Of a million rows: the price of the time that they take."""
    rate, price = _throughput(row, known), known.prices.get((row.hardware_key, row.environment_key))
    if rate is None or price is None:
        return None

    def cost(found: Interval | None) -> Interval | None:
        return None if found is None else (prices.per_million(price, found[1]), prices.per_million(price, found[0]))

    value = prices.per_million(price, rate.value)
    return Measure(value=value, near=cost(rate.near), wide=cost(rate.wide), yardstick=rate.yardstick)


def _accuracy(row: Comparison, known: Context) -> Measure | None:
    """Difference from the baseline as a share, from the rows in pairs."""
    del known
    found = row.accuracy
    if found is None:
        return None
    if found.verdict == "baseline":
        return exact(0.0)
    if found.difference is None or found.difference_low is None or found.difference_high is None:
        return None
    interval = (found.difference_low, found.difference_high)
    return Measure(value=found.difference, near=interval, wide=interval)


def _size(row: Comparison, known: Context) -> Measure | None:
    del known
    return None if row.artifact_bytes is None else exact(row.artifact_bytes)


def _memory(row: Comparison, known: Context) -> Measure | None:
    del known
    value = memory(row)
    if value is None:
        return None
    interval = (value * (1 - MEMORY_WITHIN), value * (1 + MEMORY_WITHIN))
    return Measure(value=value, near=interval, wide=interval)


def memory(row: Comparison) -> float | None:
    """Peak bytes of all instances together; what they share is counted for each."""
    return None if row.resident_peak_bytes is None else float(row.resident_peak_bytes * (row.instances or 1))


def _at_pace(row: Comparison, known: Context, field: str, *, slower: bool) -> Measure | None:
    pace = known.yardsticks.get((_case(row), field))
    if row.gain is None or pace is None:
        return None
    value = pace.value / row.gain if slower else pace.value * row.gain
    return _measure(row, value, pace.key, pace.spread, slower=slower)


def _own(row: Comparison, value: float, *, slower: bool) -> Measure:
    return _measure(row, value, None, 0.0, slower=slower)


def _bare(value: float | None) -> Measure | None:
    return None if value is None else Measure(value=value)


def _measure(row: Comparison, value: float, key: Hashable, spread: float, *, slower: bool) -> Measure:
    """The gain's relative interval around a value."""
    if row.gain is None or row.gain_low is None or row.gain_high is None:
        return Measure(value=value, yardstick=key)
    down, up = math.log(row.gain / row.gain_low), math.log(row.gain_high / row.gain)
    below, above = (up, down) if slower else (down, up)
    near = (value * math.exp(-below), value * math.exp(above))
    wide = (value * math.exp(-math.hypot(below, spread)), value * math.exp(math.hypot(above, spread)))
    return Measure(value=value, near=near, wide=wide, yardstick=key)


OBJECTIVES: Mapping[str, Objective] = {
    one.name: one
    for one in (
        Objective(name="latency", better="less", label="p50", of=_latency),
        Objective(name="throughput", better="more", label="rows/s", of=_throughput),
        Objective(name="cost", better="less", label="cost of a million", of=_cost),
        Objective(name="accuracy", better="more", label="accuracy, points", of=_accuracy),
        Objective(name="size", better="less", label="size", of=_size),
        Objective(name="memory", better="less", label="peak memory", of=_memory),
    )
}
"""Everything that a choice or a front may be about, by name."""
