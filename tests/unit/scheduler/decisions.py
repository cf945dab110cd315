"""Comparisons made up for tests of choices: one call, one row; and its point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from scheduler import points
from scheduler.across import Where
from scheduler.compare import Comparison
from scheduler.machines import Machine
from scheduler.paired import Accuracy
from scheduler.points import Point
from storage import records
from tests import builders

BASELINE, INT8, BF16, PRUNED = "torch/fp32", "torch/int8-dynamic", "torch/bf16", "prune-ffn:0.5+torch/fp32"
BIG: Where = ("hardware-big", "software")
OLD: Where = ("hardware-old", "software")
BASE_S = 0.020
"""The baseline's p50."""


def row(
    strategy: str = INT8, gain: float = 2.0, *, within: float | None = 0.02, where: Where = BIG, **given: Any
) -> Comparison:
    """A latency row: baseline 20 ms ÷ gain, whose interval is ± `within` (None: it has none); percentiles are ± 1 %."""
    values: dict[str, Any] = {
        "hardware_key": where[0],
        "environment_key": where[1],
        "cpu": where[0],
        "hosts": ("one",),
        "model": "minilm",
        "model_digest": "m1",
        "strategy": strategy,
        "baseline": BASELINE,
        "threads": 1,
        "input": "b1×l16",
        "batch": 1,
        "length": 16,
        "job_ids": ("1",),
        "state": "done",
        "gain": gain,
        "gain_low": None if within is None else gain * (1 - within),
        "gain_high": None if within is None else gain * (1 + within),
        "latency_p50_s": BASE_S / gain,
        "latency_p95_s": 1.2 * BASE_S / gain,
        "baseline_latency_p50_s": BASE_S,
        "artifact_bytes": 50_000_000,
        "resident_peak_bytes": 400_000_000,
    }
    found = {**values, **given}
    for name in ("latency_p50", "latency_p90", "latency_p95"):
        value = found.get(f"{name}_s")
        if value is not None:
            found = {f"{name}_low_s": 0.99 * value, f"{name}_high_s": 1.01 * value, **found}
    return Comparison(**found)


def throughput(
    strategy: str = INT8, rate: float = 100.0, *, within: float | None = 0.02, where: Where = BIG, **given: Any
) -> Comparison:
    """So many rows per second of 2 instances; the baseline's are 50."""
    values = {
        "kind": "throughput",
        "input": "b1×l16, 2 instances",
        "instances": 2,
        "throughput_per_s": rate,
        "baseline_throughput_per_s": 50.0,
        "baseline_latency_p50_s": None,
    }
    return row(strategy, rate / 50.0, within=within, where=where, **{**values, **given})


def served(rate: float = 100.0, *, where: Where = BIG, label: str = "p95 ≤ 20 ms", **given: Any) -> Comparison:
    """The highest rate of a server that keeps a bound (or another label: a given rate); no interval."""
    values = {"kind": "server", "input": f"b1×l16, 2 instances, {label}", "latency_p95_s": 0.019}
    return throughput(rate=rate, within=None, where=where, **{**values, **given})


def loss(points_lost: float, within: float = 0.2) -> Accuracy:
    """An accuracy so many points below the baseline's, ± `within` points."""
    share, half = points_lost / 100, within / 100
    return Accuracy(
        accuracy=0.95 - share,
        rows=3000,
        baseline_accuracy=0.95,
        difference=-share,
        difference_low=-share - half,
        difference_high=-share + half,
        verdict="no loss shown",
    )


UNCHANGED = Accuracy(accuracy=0.95, rows=3000, verdict="baseline")
"""The baseline's own accuracy."""


def plotted(*rows: Comparison, prices: Mapping[Where, float] | None = None) -> tuple[Point, ...]:
    """The points of rows."""
    return points.plot(rows, prices).points


def names(found: Iterable[Any]) -> list[str]:
    """Strategies of points, or of what holds one."""
    return [getattr(one, "point", one).configuration.strategy for one in found]


def near(value: float, within: float | None = None) -> Any:
    """A number that equals `value` but for rounding, wherever it stands."""
    return pytest.approx(value, abs=within)


def machine(where: Where = BIG, *, cores: int = 2, price: float | None = None) -> Machine:
    """A platform with one host."""
    return Machine(where=where, name=where[0], hosts=1, cores=cores, price=price)


def label(**changes: Any) -> str:
    """What a case is called, as a row carries it."""
    text = builders.case(**changes).label
    assert text is not None
    return text


def served_case(**serving: Any) -> str:
    """The label of a server's case."""
    return label(instances=2, serving=records.ServingSpec(**serving))
