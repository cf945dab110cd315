"""What a fleet has planned, does and lacks, as tables that fit the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from scheduler import labels, progress
from scheduler.cli import plan_table, tables
from scheduler.cli.tables import Column, clean
from scheduler.estimate import Estimate
from scheduler.plan import IMPOSSIBLE, PLANNED, Entry, Plan
from scheduler.progress import Place, Progress
from scheduler.targets import Route
from storage import metrics, queries, records
from storage.queries import HostView

SHOWN_HOSTS = 4
"""Most host names in a cell."""

Titles = Mapping[str, Sequence[str]]
"""Platform key → the lines that tell it from the others."""

ENDED = {"failed": "red", "dead": "red", "unsupported": "yellow", "cancelled": "yellow"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRow:
    """One target of a plan."""

    title: str
    hosts: str
    states: Mapping[str, int]
    left: Estimate

    @property
    def there(self) -> int:
        """Entries that are in the database already."""
        return sum(count for state, count in self.states.items() if state not in (PLANNED, IMPOSSIBLE))


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceRow:
    """One place of a study."""

    title: str
    place: Place


def plan(
    planned: Plan, estimates: Mapping[Route, Estimate], guess: Estimate, hosts: Sequence[HostView], width: int
) -> Iterator[RenderableType]:
    """A row for each target, why some cannot run, and a closing line with counts and the time it may take."""
    titles = labels.labels(platform for target, _ in planned.by_target() for platform in target.platforms)
    rows = [
        PlanRow(
            title=_title(target.route, titles),
            hosts=_host_list([host for host in hosts if host.name in target.hosts]),
            states=Counter(entry.state for entry in entries),
            left=estimates[target.route],
        )
        for target, entries in planned.by_target()
    ]
    yield from tables.folded(_PLAN_KEYS, _PLAN, [("", rows)], width)
    yield from _reasons(planned)
    yield plan_table.closing(planned, guess)


def standing(found: Progress, width: int) -> Iterator[RenderableType]:
    """A row for each place of a study, and what its waiting jobs wait for."""
    titles = labels.labels(host.platform for place in found.places for host in place.hosts)
    rows = [PlaceRow(title=_title(place.route, titles), place=place) for place in found.places]
    if rows:
        yield from tables.folded(_PLACE_KEYS, _PLACE, [("", rows)], width)
    for place in found.places:
        reason = progress.waits_for(place, found.hosts)
        if reason:
            what = f"{metrics.counted(place.open, 'job')} for {route_name(place.route)} wait: {reason}"
            yield _line(what, "yellow")


def failures(groups: Sequence[queries.FailureGroup], study: str) -> Iterator[RenderableType]:
    """Jobs that ended without a result, by their reasons, each with the command that tries them again."""
    reasons: dict[tuple[str, str], list[queries.FailureGroup]] = {}
    for group in groups:
        reasons.setdefault((group.state, group.message or "no reason given"), []).append(group)
    for (state, message), part in reasons.items():
        yield _line(f"{sum(group.count for group in part)} {state}: {message}", ENDED.get(state, ""))
        where = _few(sorted({group.host for group in part if group.host}))
        what = _few(sorted({f"{group.model} {group.strategy}" for group in part}))
        yield Padding(
            Text(clean(f"{what}{f', on {where}' if where else ''}"), style="dim", overflow="fold"), (0, 0, 0, 2)
        )
    for state in dict.fromkeys(state for state, _ in reasons):
        yield Text(f"try again: quantfleet retry {study} --state {state}", style="dim", overflow="fold")


def route_name(route: Route) -> str:
    """Where jobs belong, in a few words."""
    platform_key, host = route
    if host is not None:
        return host
    return "any host" if platform_key == records.ANY_PLATFORM else f"platform {platform_key[:8]}"


def time_left(found: Progress) -> str:
    """How long it may take, or that it waits; empty when nothing is open."""
    if not found.open:
        return ""
    return "waits for hosts" if found.left_s is None else f"about {metrics.seconds(found.left_s)} left"


def _title(route: Route, titles: Titles) -> str:
    """Where jobs belong, with what that is."""
    return "\n".join([route_name(route), *titles.get(route[0], ())])


def _ended_on(place: Place) -> str:
    """The hosts with how many jobs each has ended: `a 12, b (away for 3 min) 7`."""
    gone = sorted(set(place.ended_on) - {host.name for host in place.hosts})
    lines = [f"{_host(host)} {place.ended_on.get(host.name, 0)}" for host in place.hosts]
    return _cell([*lines, *(f"{name} {place.ended_on[name]}" for name in gone)])


def _host_list(hosts: Iterable[HostView]) -> str:
    return _cell([_host(host) for host in hosts])


def _host(host: HostView) -> str:
    return host.name if host.standing == "here" else f"{host.name} ({progress.standing(host)})"


def _cell(lines: Sequence[str]) -> str:
    shown = [*lines[:SHOWN_HOSTS], *([f"and {len(lines) - SHOWN_HOSTS} more"] if len(lines) > SHOWN_HOSTS else [])]
    return "\n".join(shown) or tables.NOTHING


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN_HOSTS]) + (
        f" and {len(names) - SHOWN_HOSTS} more" if len(names) > SHOWN_HOSTS else ""
    )


def _count(states: Mapping[str, int], *which: str) -> str:
    return str(sum(states.get(state, 0) for state in which) or tables.NOTHING)


def _about(place: Place) -> str:
    if not place.open:
        return tables.NOTHING
    return "waits" if place.left_s is None else metrics.seconds(place.left_s)


def _reasons(planned: Plan) -> Iterator[RenderableType]:
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in planned.entries:
        for kind, reason in (("cannot run", entry.reason), ("note", entry.caution)):
            if reason:
                found.setdefault((kind, reason), []).append(entry)
    for (kind, reason), entries in found.items():
        where = _few(list(dict.fromkeys(route_name(entry.target.route) for entry in entries)))
        yield _line(f"{kind}: {reason} ({metrics.counted(len(entries), 'case')}; {where})", "yellow")


def _line(text: str, style: str) -> Text:
    return Text(clean(text), style=style, overflow="fold")


_PLAN_KEYS: tuple[Column[PlanRow], ...] = (Column(title="for", cell=lambda row: row.title, left=True),)
_PLAN: tuple[Column[PlanRow], ...] = (
    Column(title="hosts", cell=lambda row: row.hosts, left=True),
    Column(title="new", cell=lambda row: _count(row.states, PLANNED)),
    Column(title="there", cell=lambda row: str(row.there or tables.NOTHING)),
    Column(title="cannot run", cell=lambda row: _count(row.states, IMPOSSIBLE)),
    Column(
        title="one host needs",
        cell=lambda row: metrics.seconds(row.left.seconds) if row.left.seconds else tables.NOTHING,
    ),
)
_PLACE_KEYS: tuple[Column[PlaceRow], ...] = (Column(title="for", cell=lambda row: row.title, left=True),)
_PLACE: tuple[Column[PlaceRow], ...] = (
    Column(title="hosts and jobs ended", cell=lambda row: _ended_on(row.place), left=True),
    Column(title="running", cell=lambda row: _count(row.place.states, "running")),
    Column(title="waiting", cell=lambda row: _count(row.place.states, "queued")),
    Column(title="done", cell=lambda row: _count(row.place.states, "done")),
    Column(title="failed", cell=lambda row: _count(row.place.states, "failed", "dead")),
    Column(title="no result", cell=lambda row: _count(row.place.states, "unsupported", "cancelled")),
    Column(title="left", cell=lambda row: _about(row.place)),
)
