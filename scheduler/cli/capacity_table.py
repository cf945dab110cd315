"""Machines for a load, for people: a table of offers for each model and length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from scheduler import amounts
from scheduler.capacity import EVIDENCE, Capacity, Offer
from scheduler.cli import tables
from scheduler.cli.decide_tables import TIED, Machines, dim, layout_cell, loss, missed, strategy_cell, texts
from scheduler.demands import Limit
from storage import metrics


def render(
    found: Sequence[Capacity],
    limits: Sequence[Limit],
    machines: Machines,
    width: int,
    *,
    extrapolate: bool,
) -> RenderableType:
    """A table of offers for each model and length."""
    parts: list[RenderableType] = []
    for one in found:
        under = f" with {texts(limits)}" if limits else ""
        title = tables.clean(f"{one.request.name}: {one.load:g} rows/s{under}")
        parts += [Text(title, style="bold", overflow="fold")]
        parts += [*_capacity(one, machines, width), Text()]
    if any("latency" in reason for one in found for reason in one.withheld.values()) and not extrapolate:
        parts.append(dim("to measure rates: a study of kind server with a bound, or of kind throughput"))
        parts.append(dim("--extrapolate multiplies one caller's rate by the instances that fit, and marks it so"))
    return Group(*parts)


def _capacity(found: Capacity, machines: Machines, width: int) -> Iterator[RenderableType]:
    tied = {id(one) for one in found.ties}

    def place(one: Offer) -> str:
        return TIED if id(one) in tied else str(found.offers.index(one) + 1)

    if found.offers:
        keys = (tables.Column(title="", cell=place, always=True), *_OFFER)
        yield from tables.folded(keys, _OFFERED, [("", found.offers)], width)
        yield from _offer_notes(found)
    lines = [f"{machines[one.point.where].name}: {missed(one)}" for one in found.unshown]
    yield from tables.listed("of a higher rate, but not shown to keep the limits", lines)
    lines = [f"{machines[where].name}: {reason}" for where, reason in found.withheld.items()]
    yield from tables.listed("no offer", lines)
    yield from tables.listed("nothing keeps the limits; the nearest", [missed(one) for one in found.nearest])


def _offer_notes(found: Capacity) -> Iterator[RenderableType]:
    if found.ties:
        yield dim(f"{TIED} tie: by its rate's interval it may cost as little as the first, or take as few hosts")
    for kind in dict.fromkeys(offer.evidence for offer in found.offers):
        yield dim(f"{kind}: {EVIDENCE[kind]}")
    if found.unlike:
        yield dim("the rates above were not seen as the same: do not read their order as shown")
    if any(offer.total is None for offer in found.offers):
        yield dim("no price: --price HOST=0.34, or the host's label price, gives what an hour costs")
    lines = [f"{offer.machine.name}: {note}" for offer in found.offers for note in offer.notes]
    yield from tables.listed("notes", lines)


def _rate(offer: Offer) -> str:
    interval = "" if offer.interval is None else f" {amounts.between(offer.interval, offer.rate, metrics.three)}"
    return f"{metrics.three(offer.rate)}{interval}"


def _hosts(offer: Offer) -> str:
    return str(offer.hosts) if offer.hosts == offer.hosts_least else f"{offer.hosts_least}–{offer.hosts}"


def _money(value: float | None) -> str:
    return tables.NOTHING if value is None else f"{value:.2f}"


_OFFER: tuple[tables.Column[Offer], ...] = (
    tables.Column(title="machine", cell=lambda one: one.machine.name.replace(" (", "\n("), left=True),
)
_OFFERED: tuple[tables.Column[Offer], ...] = (
    tables.Column(title="hosts", cell=_hosts, always=True),
    tables.Column(title="an hour", cell=lambda one: _money(one.total)),
    tables.Column(title="rows/s of one [95 %]", cell=_rate, left=True),
    tables.Column(title="seen as", cell=lambda one: one.evidence, left=True),
    tables.Column(title="strategy", cell=lambda one: strategy_cell(one.judged.point.configuration), left=True),
    tables.Column(title="layout", cell=lambda one: layout_cell(one.judged.point.configuration), left=True),
    tables.Column(title="p95", cell=lambda one: metrics.seconds(one.judged.point.row.latency_p95_s)),
    tables.Column(title="loss [95 %]", cell=lambda one: loss(one.judged.point), left=True),
    tables.Column(title="one an hour", cell=lambda one: _money(one.machine.price)),
)
