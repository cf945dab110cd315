"""What inferences cost on hosts that carry a price: a label `price` per hour, in whatever currency (pure)."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from scheduler.compare import Comparison
from storage import errors
from storage.views import HostView

LABEL = "price"
"""The label of a host that says what it costs an hour: `--label price=0.34`."""

MILLION = 1_000_000


def prices(hosts: Iterable[HostView]) -> dict[str, float]:
    """Price of an hour by host, of those that have one; SettingsError for a price that is no positive number."""
    return {host.name: _price(host) for host in hosts if LABEL in host.labels}


def priced(rows: Sequence[Comparison], by_host: Mapping[str, float]) -> list[Comparison]:
    """Throughput rows with what a million inferences cost, where every host that measured them has a price."""
    return [_priced(row, [by_host[host] for host in row.hosts if host in by_host]) for row in rows]


def per_million(price_per_hour: float, rows_per_s: float) -> float:
    """What a million rows cost on a host that is busy with nothing else."""
    return price_per_hour / 3600 / rows_per_s * MILLION


def _priced(row: Comparison, found: Sequence[float]) -> Comparison:
    # one caller's rate (latency) says nothing of what a whole machine can do
    if row.kind != "throughput" or not found or len(found) < len(row.hosts):
        return row
    price = statistics.fmean(found)
    return dataclasses.replace(
        row,
        cost_per_million=_cost(price, row.throughput_per_s),
        baseline_cost_per_million=_cost(price, row.baseline_throughput_per_s),
    )


def _cost(price: float, rows_per_s: float | None) -> float | None:
    return None if not rows_per_s else per_million(price, rows_per_s)


def _price(host: HostView) -> float:
    text = host.labels[LABEL]
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 < price < math.inf:
        raise errors.SettingsError(
            f"host {host.name} has the label {LABEL}={text}: expected what it costs an hour, such as {LABEL}=0.34"
        )
    return price
