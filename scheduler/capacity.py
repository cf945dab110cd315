"""How many machines of each kind a load takes, and what they cost an hour (pure).

A rate counts as what was seen of it, and every offer says what that is:

- `server`: requests came at random and were answered, so that waiting is in the percentiles. A search found the highest
  rate that keeps its bound; at a given rate the machine may be able to do more.
- `busy`: instances that never rest (kind throughput). Requests that come at random wait besides, without end at that
  very rate, so that the number of machines is the least that could do.
- `extrapolated`: one caller of a latency job × the instances that fit. Nobody saw that machine at work so, and it is
  told only when asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scheduler import demands, measures
from scheduler.across import Where
from scheduler.demands import Judged, Limit
from scheduler.machines import Machine
from scheduler.measures import Interval
from scheduler.points import Point, Workload

Evidence = Literal["server", "busy", "extrapolated"]

EVIDENCE: Mapping[Evidence, str] = {
    "server": "requests came at random and were answered in time",
    "busy": "instances that never rest: random arrivals wait besides, so that this many machines is the least",
    "extrapolated": "one caller's rate × the instances that fit: nobody measured that, and p95 is without waiting",
}
"""What a rate was seen as, the most trustworthy first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What all machines together are asked: model and length, however they are called."""

    model: str
    model_digest: str | None
    length: int | str | None

    @property
    def name(self) -> str:
        """`minilm, l16`."""
        return f"{self.model}, {self.length if isinstance(self.length, str) else f'l{self.length}'}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Offer:
    """One kind of machine with the configuration that takes the fewest of them."""

    machine: Machine
    judged: Judged
    evidence: Evidence
    rate: float  # rows per second of one machine
    interval: Interval | None  # 95 %, of the rate
    instances: int  # processes side by side
    hosts: int  # that carry the load at the interval's lower end
    hosts_least: int  # that carry it at the interval's upper end
    notes: tuple[str, ...]

    @property
    def total(self) -> float | None:
        """Price of an hour of all hosts."""
        return None if self.machine.price is None else self.hosts * self.machine.price

    @property
    def total_least(self) -> float | None:
        """The same with `hosts_least`."""
        return None if self.machine.price is None else self.hosts_least * self.machine.price


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Capacity:
    """The answer for one model and length."""

    request: Request
    load: float  # rows per second
    offers: tuple[Offer, ...]  # the cheapest first; without prices the fewest hosts
    ties: tuple[Offer, ...]  # whose price may be as low as the first's
    unshown: tuple[Judged, ...]  # of a higher rate than their machine's offer, not shown to keep the limits
    withheld: Mapping[Where, str]  # platforms without an offer, and why
    nearest: tuple[Judged, ...]  # where there is no offer at all: what comes nearest to the limits

    @property
    def unlike(self) -> bool:
        """Whether the offers' rates were not seen as the same."""
        return len({offer.evidence for offer in self.offers}) > 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rate:
    value: float
    interval: Interval | None
    instances: int

    @property
    def least(self) -> float:
        return self.value if self.interval is None else self.interval[0]


def capacity(
    found: Iterable[Point],
    load: float,
    limits: Sequence[Limit],
    machines: Mapping[Where, Machine],
    *,
    extrapolate: bool = False,
) -> list[Capacity]:
    """An answer for each model and length; `machines` holds at least the platforms of all points."""
    groups: dict[Request, dict[Where, list[Point]]] = {}
    for point in found:
        groups.setdefault(_request(point.workload), {}).setdefault(point.where, []).append(point)
    allowed: tuple[Evidence, ...] = ("server", "busy", "extrapolated") if extrapolate else ("server", "busy")
    return [_capacity(request, by, load, limits, machines, allowed) for request, by in groups.items()]


def evidence(point: Point) -> Evidence:
    """What the rate of a point was seen as."""
    found: dict[str, Evidence] = {"server": "server", "throughput": "busy"}
    return found.get(point.workload.kind, "extrapolated")


def _request(workload: Workload) -> Request:
    return Request(model=workload.model, model_digest=workload.model_digest, length=workload.length)


def _capacity(
    request: Request,
    platforms: Mapping[Where, Sequence[Point]],
    load: float,
    limits: Sequence[Limit],
    machines: Mapping[Where, Machine],
    allowed: Sequence[Evidence],
) -> Capacity:
    offers, withheld, judged, unshown = [], {}, [], []
    for where, own in platforms.items():
        usable = [point for point in own if evidence(point) in allowed]
        verdicts = demands.judge(usable, limits)
        offer = _offer(verdicts, load, machines[where])
        judged += [one for one in verdicts if one.state != "met"]
        if offer is not None:
            offers.append(offer)
            unshown += [one for one in verdicts if one.state == "not shown" and _ahead(one, offer)]
        else:
            withheld[where] = _why(verdicts, own)
    offers.sort(key=_order)
    return Capacity(
        request=request,
        load=load,
        offers=tuple(offers),
        ties=tuple(_ties(offers)),
        unshown=tuple(unshown),
        withheld=withheld,
        nearest=() if offers else tuple(sorted(judged, key=lambda one: one.distance)[:5]),
    )


def _offer(judged: Sequence[Judged], load: float, machine: Machine) -> Offer | None:
    """Of the most trustworthy evidence that keeps the limits, the configuration of the highest rate."""
    met = [(one, rate) for one in judged if one.state == "met" and (rate := _rate(one.point, machine)) is not None]
    order = list(EVIDENCE)
    met.sort(key=lambda pair: (order.index(evidence(pair[0].point)), -pair[1].least))
    if not met:
        return None
    first, rate = met[0]
    return Offer(
        machine=machine,
        judged=first,
        evidence=evidence(first.point),
        rate=rate.value,
        interval=rate.interval,
        instances=rate.instances,
        hosts=_hosts(load, rate.least),
        hosts_least=_hosts(load, rate.value if rate.interval is None else rate.interval[1]),
        notes=tuple(_notes(first.point, rate)),
    )


def _ahead(one: Judged, offer: Offer) -> bool:
    """Whether it would take the offer's place: seen as the same or better, at a higher rate."""
    order = list(EVIDENCE)
    own, rate = order.index(evidence(one.point)), _rate(one.point, offer.machine)
    if rate is None or own > order.index(offer.evidence):
        return False
    return own < order.index(offer.evidence) or rate.value > offer.rate


def _hosts(load: float, rate: float) -> int:
    """Hosts of a rate for a load; what floating point adds to a whole number takes no host more."""
    return math.ceil(load / rate * (1 - 1e-9))


def _rate(point: Point, machine: Machine) -> _Rate | None:
    """Rows per second of one machine; None where the server was overloaded or found none."""
    kind, instances = evidence(point), point.row.instances or 1
    if kind != "extrapolated":
        found = point.measures.get("throughput")
        if found is not None:
            return _Rate(value=found.value, interval=found.wide, instances=instances)
        rate = point.row.throughput_per_s
        return _Rate(value=rate, interval=None, instances=instances) if rate and "latency" in point.measures else None
    fits = max(1, machine.cores // (point.row.threads or 1))
    latency = point.measures.get("latency")
    if latency is None:
        return None
    rows = fits * (point.row.batch or 1)
    interval = None if latency.wide is None else (rows / latency.wide[1], rows / latency.wide[0])
    return _Rate(value=rows / latency.value, interval=interval, instances=fits)


def _notes(point: Point, rate: _Rate) -> Iterable[str]:
    kind = evidence(point)
    if kind == "server" and not measures.searched(point.row):
        yield "seen at this rate only: it may be able to do more, and fewer hosts may do"
    elif kind == "server" and rate.interval is None:
        yield "one search, no interval: its rate scatters (docs/measurement.md), so that one host more may be needed"
    if kind == "extrapolated" and rate.instances > 1:
        yield f"as if {rate.instances} processes side by side took nothing from one another"


def _why(judged: Sequence[Judged], every: Sequence[Point]) -> str:
    if not judged:
        kinds = {point.workload.kind for point in every}
        return f"only {' and '.join(sorted(kinds))} was measured there, which is no rate of the whole machine"
    nearest = min(judged, key=lambda one: one.distance)
    if nearest.state == "met":
        return "no rate was found there: overloaded, or the search found none"
    return f"nothing keeps the limits; the nearest, {nearest.point.configuration.name}: {'; '.join(nearest.missed)}"


def _order(offer: Offer) -> tuple[bool, float, int, float]:
    return offer.total is None, offer.total or 0.0, offer.hosts, -offer.rate


def _ties(offers: Sequence[Offer]) -> Iterable[Offer]:
    """Offers whose price (where there is none, whose number of hosts) may be as low as the first's."""
    for offer in offers[1:]:
        first = offers[0]
        if first.total is not None and offer.total_least is not None:
            tied = offer.total_least <= first.total
        else:
            tied = first.total is None and offer.total is None and offer.hosts_least <= first.hosts
        if tied:
            yield offer
