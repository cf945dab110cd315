"""Platforms as something to choose among: what each is called, how many hosts it has, what an hour costs (pure)."""

from __future__ import annotations

import fnmatch
import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from scheduler import labels
from scheduler.across import Where
from scheduler.compare import Comparison
from storage import errors, records
from storage.views import HostView


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """One hardware with one software."""

    where: Where
    name: str  # as little as tells it from the others
    hosts: int  # registered there now; where there is none, that measured there
    cores: int  # physical
    price: float | None = None  # of an hour, mean over its hosts that have one


def machines(
    rows: Iterable[Comparison],
    platforms: Iterable[records.Platform],
    hosts: Iterable[HostView],
    prices: Mapping[str, float],
) -> dict[Where, Machine]:
    """Every platform that rows are of; `prices` of an hour by host."""
    measured: dict[Where, set[str]] = {}
    for row in rows:
        measured.setdefault((row.hardware_key, row.environment_key), set()).update(row.hosts)
    known = [one for one in platforms if _where(one) in measured]
    names = labels.labels(known)
    registered: dict[Where, set[str]] = {}
    for host in hosts:
        registered.setdefault(_where(host.platform), set()).add(host.name)
    return {
        _where(one): _machine(one, names[one.key], registered.get(_where(one), set()), measured[_where(one)], prices)
        for one in known
    }


def hourly(found: Mapping[Where, Machine]) -> dict[Where, float]:
    """Prices of an hour, of those that have one."""
    return {where: one.price for where, one in found.items() if one.price is not None}


def repriced(prices: Mapping[str, float], given: Mapping[str, float], hosts: Collection[str]) -> dict[str, float]:
    """Prices by host, with those given for patterns over host names; QueryError for a pattern that fits none."""
    found = dict(prices)
    for pattern, price in given.items():
        fitting = [host for host in hosts if fnmatch.fnmatchcase(host.lower(), pattern.lower())]
        if not fitting:
            there = ", ".join(sorted(hosts)) or "none"
            near = errors.nearest(pattern, hosts)
            raise errors.QueryError(f"--price: no host is called {pattern!r}{near} (there is {there})")
        found.update(dict.fromkeys(fitting, price))
    return found


def _machine(
    platform: records.Platform,
    label: tuple[str, ...],
    registered: set[str],
    measured: set[str],
    prices: Mapping[str, float],
) -> Machine:
    first, *more = label
    found = [prices[host] for host in sorted(registered | measured) if host in prices]
    return Machine(
        where=_where(platform),
        name=f"{first} ({', '.join(more)})" if more else first,
        hosts=len(registered) or max(1, len(measured)),
        cores=platform.hardware.physical_cores,
        price=statistics.fmean(found) if found else None,
    )


def _where(platform: records.Platform) -> Where:
    return platform.hardware_key, platform.environment_key
