"""Each metric's unit, its better direction, and how a person reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A stored number: the column's name says its unit, `better` its direction."""

    name: str
    unit: str
    better: Literal["less", "more"]
    label: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="gain", unit="×", better="more", label="gain"),
        Metric(name="latency_p50_s", unit="s", better="less", label="p50"),
        Metric(name="latency_p90_s", unit="s", better="less", label="p90"),
        Metric(name="latency_p95_s", unit="s", better="less", label="p95"),
        Metric(name="throughput_per_s", unit="rows/s", better="more", label="throughput"),
        Metric(name="artifact_bytes", unit="bytes", better="less", label="size"),
        Metric(name="resident_peak_bytes", unit="bytes", better="less", label="peak memory"),
        Metric(name="prepare_s", unit="s", better="less", label="prepare"),
        Metric(name="load_s", unit="s", better="less", label="load"),
        Metric(name="first_answer_s", unit="s", better="less", label="first answer"),
        Metric(name="accuracy", unit="share", better="more", label="accuracy"),
    )
}


def seconds(value: float | None) -> str:
    """A duration with three significant digits and its unit: `812 ns`, `4.31 ms`, `2 min 5 s`."""
    if value is None:
        return "–"
    for limit, scale, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if value < limit:
            return f"{three(value * scale)} {unit}"
    if value < 100:
        return f"{three(value)} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def bytes_(value: float | None) -> str:
    """A size in decimal units as files are listed: `91.1 MB`."""
    if value is None:
        return "–"
    for limit, scale, unit in ((1e3, 1, "B"), (1e6, 1e3, "kB"), (1e9, 1e6, "MB")):
        if value < limit:
            return f"{three(value / scale)} {unit}"
    return f"{three(value / 1e9)} GB"


def ratio(value: float | None) -> str:
    """A gain: `×2.41`."""
    return "–" if value is None else f"×{value:.2f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent: `95.3 %`."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def counted(number: int, noun: str) -> str:
    """`1 pair`, `6 pairs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def three(value: float) -> str:
    """A number with three significant digits, trailing zeros kept: they were measured."""
    if value <= 0:
        return f"{value:.3g}"
    decimals = 2 - math.floor(math.log10(value))
    return f"{value:.{max(0, decimals)}f}"


def two(value: float) -> str:
    """A rough number with two significant digits: `3.2`, `41`."""
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"
