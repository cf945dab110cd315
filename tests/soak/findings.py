"""What a soak found: the books, what is left behind, and which processes grow."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import tables
from storage.database import Database
from tests import services
from tests.soak import trend
from tests.soak.samples import BACKEND, Sampler
from tests.soak.trend import Bound, Point, Trend, Verdict
from tests.soak.trouble import Strike

MIB = 2**20

MEMORY = Bound(hourly=4 * MIB, least=2 * MIB)
"""100 MiB a day is too much for what is to run for months; less than 2 MiB in all is no trend."""

DESCRIPTORS = Bound(hourly=6, least=3)
"""Of 1,024 that a process may have."""

COSTS_WORKER = ("worker", "launcher", "everything")
"""Whose death may take a message along that was taken from the queue and not yet acknowledged."""


UNACKNOWLEDGED = "%d messages were taken and never acknowledged, %d workers died"


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """One number of the processes of one role, over their lives and from each to the next."""

    within: Trend | None
    between: Trend | None
    bound: Bound

    @property
    def verdict(self) -> Verdict | None:
        """`grows` when either does; None when nobody lived long enough to tell."""
        worst_first: tuple[Verdict, ...] = ("grows", "open", "flat")
        seen = {self.bound.verdict(each) for each in (self.within, self.between) if each is not None}
        return next((word for word in worst_first if word in seen), None)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        parts = {"within": self.within, "between": self.between}
        told = {name: None if part is None else dataclasses.asdict(part) for name, part in parts.items()}
        return {"verdict": self.verdict, **told}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """All processes of one role at one place."""

    where: str
    role: str
    lives: int
    longest_s: float
    memory_now: float  # private bytes of the youngest, when it was last seen
    descriptors_now: float
    memory: Growth
    descriptors: Growth


def rows(sampler: Sampler) -> list[Row]:
    """What the samples say, by place and role."""
    memory, descriptors = sampler.lives("private"), sampler.lives("descriptors")
    return [_row(*key, memory[key], descriptors[key]) for key in memory]


def _row(where: str, role: str, memory: list[list[Point]], descriptors: list[list[Point]]) -> Row:
    return Row(
        where=where,
        role=role,
        lives=len(memory),
        longest_s=max(life[-1][0] - life[0][0] for life in memory),
        memory_now=memory[-1][-1][1],
        descriptors_now=descriptors[-1][-1][1],
        memory=_growth(role, memory, MEMORY),
        descriptors=_growth(role, descriptors, DESCRIPTORS),
    )


def _growth(role: str, lives: list[list[Point]], bound: Bound) -> Growth:
    """Of a server's backends each serves another client: they are no generations."""
    between = None if role == BACKEND else trend.between(lives)
    return Growth(within=trend.within(lives), between=between, bound=bound)


def growing(found: Iterable[Row]) -> list[str]:
    """The roles that grow, told for a person."""
    told = []
    for row in found:
        for what, growth in (("memory", row.memory), ("descriptors", row.descriptors)):
            if growth.verdict == "grows":
                told.append(f"{what} of the {row.role} of {row.where} grows: {growth.document()}")
    return told


def attempts(db: Database) -> Counter[str]:
    """How attempts ended → how many."""
    query = sa.select(tables.attempt.c.state, sa.func.count().label("times")).group_by(tables.attempt.c.state)
    with db.read() as connection:
        return Counter({row.state: row.times for row in connection.execute(query)})


def books(db: Database, *, planned: int, states: Counter[str], strikes: Sequence[Strike]) -> list[str]:
    """What is wrong with the numbers of jobs, results and attempts; nothing, when all is well.

    That each job has its one result and its attempts are in order is the fault suite's closing check.
    """
    problems = []
    with db.read() as connection:
        results = connection.execute(sa.select(sa.func.count()).select_from(tables.result)).scalar_one()
        measured = connection.execute(sa.select(sa.func.count(tables.result.c.job_id.distinct()))).scalar_one()
    if not planned == results == measured == states["done"] == states.total():
        problems.append(f"{planned} jobs planned, {dict(states)}, {results} results of {measured} jobs")
    ended = attempts(db)
    crashes = ended["crash"] + ended["expired"]
    if crashes > len(strikes):
        problems.append(f"{crashes} crashes were counted after {len(strikes)} strikes")
    if ended["error"]:
        problems.append(f"{ended['error']} attempts ended in ordinary errors: {_errors(db)}")
    return problems


def left_in_redis(redis: services.Redis, strikes: Sequence[Strike]) -> list[str]:
    """What is wrong with what lies in Redis when nothing is to be done."""
    waiting, taken = messages(redis)
    problems = [f"{waiting} messages still lie in queues"] if waiting else []
    deaths = sum(strike.victim in COSTS_WORKER for strike in strikes)
    if taken > deaths:
        problems.append(UNACKNOWLEDGED % (taken, deaths))
    return problems


def messages(redis: services.Redis) -> tuple[int, int]:
    """Messages that wait in queues; and those that a worker took and did not acknowledge."""
    client = redis.client()
    return sum(client.llen(key) for key in client.scan_iter(_type="list")), client.hlen("unacked")


def _errors(db: Database) -> list[str]:
    query = sa.select(tables.attempt.c.message).where(tables.attempt.c.state == "error").limit(3)
    with db.read() as connection:
        return [str(text) for text in connection.execute(query).scalars()]
