"""How far jobs are and what they wait for, by the places where they belong; the arithmetic is pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler import estimate
from scheduler.estimate import Typical
from scheduler.targets import Route
from storage import queries, records
from storage.database import Database
from storage.queries import HostView, JobGroup, JobView, StudyView

RECENT = 20
"""Studies that are told of where none is named, besides those with jobs to do: to count a year's takes seconds."""

MAX_SECONDS = 60.0
"""Budget of a job when its study does not say: the default of a study file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One platform, one named host or any host, and how far its jobs are."""

    platform_key: str  # or records.ANY_PLATFORM
    host: str | None  # the one host that the jobs are for
    hosts: tuple[HostView, ...]  # that may run them now
    states: Mapping[str, int]  # job state → count
    ended_on: Mapping[str, int]  # host → jobs that came to their end there
    left: estimate.Estimate  # of what is still to be measured, one after the other

    @property
    def route(self) -> Route:
        """What its jobs have in common, and their queue."""
        return self.platform_key, self.host

    @property
    def open(self) -> int:
        """Jobs that have not come to their end."""
        return sum(count for state, count in self.states.items() if state not in records.TERMINAL)

    @property
    def here(self) -> tuple[HostView, ...]:
        """The hosts that serve it now."""
        return tuple(host for host in self.hosts if host.standing == "here")

    @property
    def left_s(self) -> float | None:
        """Seconds until it is done with the hosts that serve it now; None when none does."""
        if not self.open:
            return 0.0
        return self.left.seconds / len(self.here) if self.here else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a study is, or everything."""

    places: tuple[Place, ...]
    running: tuple[JobView, ...]
    hosts: tuple[HostView, ...]  # every known one

    @property
    def states(self) -> dict[str, int]:
        """Job state → count."""
        return dict(sum((Counter(place.states) for place in self.places), Counter[str]()))

    @property
    def jobs(self) -> int:
        """How many jobs there are."""
        return sum(self.states.values())

    @property
    def open(self) -> int:
        """Jobs that have not come to their end."""
        return sum(place.open for place in self.places)

    @property
    def left_s(self) -> float | None:
        """Seconds until all is done: the slowest place's; None while a place waits for its hosts."""
        parts = [place.left_s for place in self.places]
        return None if None in parts else max((part for part in parts if part is not None), default=0.0)


def look(
    db: Database, study: str | None, typical: Callable[[str], Typical], max_seconds: float = MAX_SECONDS
) -> Progress:
    """The progress of a study (its name or id) or of everything, from a few counts however many jobs there are."""
    hosts = queries.hosts(db)
    return Progress(
        places=places(queries.groups(db, study=study), hosts, typical, max_seconds),
        running=tuple(queries.jobs(db, study=study, states="running")),
        hosts=tuple(hosts),
    )


def places(
    groups: Iterable[JobGroup], hosts: Sequence[HostView], typical: Callable[[str], Typical], max_seconds: float
) -> tuple[Place, ...]:
    """Counts by the places where the jobs belong, those with known hosts first, by their names."""
    routes: dict[Route, list[JobGroup]] = {}
    for group in groups:
        routes.setdefault((group.platform_key, group.wanted_host), []).append(group)
    found = (_place(route, part, hosts, typical, max_seconds) for route, part in routes.items())
    return tuple(sorted(found, key=_order))


def max_seconds(view: StudyView) -> float:
    """The budget of a study's latency jobs, for estimates."""
    spec = (view.document or {}).get("spec", {})
    return float(spec.get("max_seconds", MAX_SECONDS))


def waits_for(place: Place, hosts: Collection[HostView]) -> str | None:
    """Why nobody takes a place's jobs now; None when somebody does, or nothing is left."""
    if not place.open or place.here:
        return None
    if place.hosts:
        return "; ".join(f"{host.name} is {standing(host)}" for host in place.hosts)
    if place.host is None:
        return "no known host is of this platform"
    if any(host.name == place.host for host in hosts):
        return f"{place.host} has other hardware or software now; `quantfleet backfill` plans for what it is"
    return f"no host is called {place.host} now"


def standing(host: HostView) -> str:
    """A host's standing in words: `here`, `stopped`, `away for 3 min`."""
    return f"away for {lasting(host.unseen_s)}" if host.standing == "away" else host.standing


def lasting(seconds: float) -> str:
    """A time that nobody measured, roughly: `40 s`, `3 min`, `5 h`, `12 days`."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


def serves(host: HostView, platform_key: str, wanted_host: str | None) -> bool:
    """Whether a host may run the jobs of a platform, or those for a host."""
    return platform_key in (host.platform.key, records.ANY_PLATFORM) and wanted_host in (None, host.name)


def _place(
    route: Route,
    groups: Sequence[JobGroup],
    hosts: Sequence[HostView],
    typical: Callable[[str], Typical],
    max_seconds: float,
) -> Place:
    states, ended_on = Counter[str](), Counter[str]()
    still: Counter[estimate.CaseKey] = Counter()
    for group in groups:
        states[group.state] += group.count
        if group.state not in records.TERMINAL:
            still[group.kind, group.model, group.strategy] += group.count
        elif group.host is not None:
            ended_on[group.host] += group.count
    return Place(
        platform_key=route[0],
        host=route[1],
        hosts=tuple(host for host in hosts if serves(host, *route)),
        states=dict(states),
        ended_on=dict(ended_on),
        left=estimate.of_cases(still.items(), max_seconds, typical(route[0]) if still else {}),
    )


def _order(place: Place) -> tuple[bool, str, str]:
    return not place.hosts, place.hosts[0].name if place.hosts else place.host or "", place.platform_key
