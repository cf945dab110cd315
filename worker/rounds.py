"""One pair of fresh processes, measured in turn: A B B A, then B A A B, and so on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from storage import records
from storage.statistics import PairedRound, leg_time_ns
from worker import cores, nursery, prepare, quiet, station
from worker.nursery import Tick
from worker.phases import Phases

LEG_NS = 100_000_000
"""A leg lasts at least this long, so that it averages over scheduling and timer interrupts."""

REWARM_NS = 10_000_000
"""Time after a leg's start that is not counted: the caches were the partner's."""

CALLS: tuple[tuple[int, int], ...] = ((60_000_000, 8), (250_000_000, 4))
"""Calls in a leg, at least, for calls faster than so many ns; slower ones are not repeated within a leg.

Six pairs of two rounds then hold the 130 samples that p95 needs, or the 64 that p90 needs, even when the time is
over in the last pair's first round.
"""

PATIENCE_S = 2.0
"""Wait at most so long for the partner's thread pool to stop spinning before a leg."""

ANSWER_S = 600.0
"""A measured process that answers to neither warm-up nor leg for so long hangs (or was stopped): it is killed."""

LONG_LEG_S = 5.0
"""A leg is left alone for so long; beyond that a heartbeat of some ms moves no number, and the lease needs it."""

SIDES = prepare.SIDES


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """How a side's measured process is opened."""

    family: str  # of the nursery that it comes from
    op: str  # of worker.child.OPERATIONS
    request: Mapping[str, Any]  # its affinity apart
    artifact: str | None = None  # key of the artifact that it reads


def opening(prepared: prepare.Prepared, threads: int, inputs: str) -> Opening:
    """A prepared model, with the calls that it will be asked."""
    request = {**prepare.opening(prepared, threads), "inputs": inputs}
    return Opening(family=station.family(prepared.strategy), op="open", request=request, artifact=prepared.artifact.key)


@dataclass(slots=True)
class Seat:
    """One side of a pair: its process and what was seen of it."""

    side: records.Side
    child: nursery.Child
    opened: Mapping[str, Any]
    items: int = 1
    passes: int = 1
    pass_ns: int = 0
    peak_bytes: int = 0


class Pair:
    """Baseline and strategy, each in a fresh process of its own, warmed up and waiting."""

    def __init__(self, number: int, seats: Mapping[records.Side, Seat], threads: int, run: Run) -> None:
        self.number = number
        self._seats = seats
        self._threads = threads
        self._run = run
        self.rounds = 0

    @property
    def seats(self) -> Mapping[records.Side, Sequence[Seat]]:
        """The processes of each side: one."""
        return {side: (seat,) for side, seat in self._seats.items()}

    def measure_round(self) -> tuple[list[records.Leg], PairedRound]:
        """Run one round: each side twice, in an order that cancels a steady drift. Returns its legs and log gain."""
        legs = [self._leg(side, position) for position, side in enumerate(order(self.number, self.rounds))]
        self.rounds += 1
        return legs, PairedRound(pair=self.number, round=self.rounds - 1, log_gain=_log_gain(legs))

    def _leg(self, side: records.Side, position: int) -> records.Leg:
        seat, run = self._seats[side], self._run
        partner = self._seats[SIDES[1 - SIDES.index(side)]]
        with run.phases("wait"):
            quiet.wait_idle(partner.child.pid, PATIENCE_S)
            run.tick()
        before = nursery.look(run.observer, "leg", seat.child)
        started_at = time.time()
        with run.phases("legs"):
            request = {"passes": seat.passes, "rewarm_ns": REWARM_NS}
            answer = seat.child.ask("leg", request, tick=late(run.tick, run.place.settings.lease), within_s=ANSWER_S)
        after = nursery.look(run.observer, "leg", seat.child)
        seen = quiet.judge(before, after, cores=run.cores, threads=self._threads)
        seat.peak_bytes = max(seat.peak_bytes, answer["peak_bytes"])
        return records.Leg(
            pair=self.number,
            round=self.rounds,
            position=position,
            side=side,
            samples_ns=tuple(answer["samples_ns"]),
            items=seat.items,
            started_at=started_at,
            cpu_ns=seen.cpu_ns,
            run_delay_ns=seen.run_delay_ns,
            foreign_share=seen.foreign_share,
            steal_share=seen.steal_share,
            threads_burning=seen.threads_burning,
            preemptions=answer["preemptions"],
            disturbed=seen.disturbed,
            repeats=seat.opened.get("repeats", 1),
            joules=joules(run.observer, before, after, answer["samples_ns"]),
        )


@dataclass(slots=True)
class Run:
    """What all pairs of one job share."""

    place: station.Station
    phases: Phases
    observer: quiet.Observer
    tick: Tick
    cores: int
    sides: Mapping[records.Side, Opening]
    threads: int
    passes: dict[records.Side, int]

    @contextmanager
    def pair(self, number: int) -> Iterator[Pair]:
        """Open pair `number`: fork, load, warm up; both processes end afterwards."""
        with ended_together(self.phases) as children:
            seats = {side: self._seat(side, children) for side in opened_in_turn(number)}
            for seat in seats.values():
                self._warm(seat)
            yield Pair(number, seats, self.threads, self)

    def _seat(self, side: records.Side, children: list[nursery.Child]) -> Seat:
        opening = self.sides[side]
        with self.phases("start"):
            child = self.place.fork(opening.family, self.tick)
            children.append(child)
        request = {**opening.request, "cpus": cores.choose(self.threads, self.place.cpus)}
        if opening.artifact is not None:
            self.place.artifacts.touch(opening.artifact)
        with self.phases("load"):
            return Seat(side=side, child=child, opened=child.ask(opening.op, request, tick=self.tick))

    def _warm(self, seat: Seat) -> None:
        with self.phases("warm-up"):
            warm = seat.child.ask("warm", tick=self.tick, within_s=ANSWER_S)
        seat.items, seat.pass_ns = warm["items"], warm["pass_ns"]
        # every pair repeats the first one's count, so that each process weighs alike in the percentiles
        seat.passes = self.passes.setdefault(seat.side, passes_for(seat.pass_ns, seat.items))


@contextmanager
def ended_together(phases: Phases) -> Iterator[list[nursery.Child]]:
    """A list of processes to add to: all of them end with the block, at once where something went wrong."""
    children: list[nursery.Child] = []
    try:
        yield children
    except BaseException:
        for child in children:
            child.kill()
        raise
    finally:
        with phases("close"):
            for child in children:
                child.leave()
            for child in children:
                child.close()


def joules(
    observer: quiet.Observer, before: quiet.Snapshot, after: quiet.Snapshot, samples_ns: Sequence[int]
) -> float | None:
    """Energy of the machine while the counted calls ran: their share of the time between two snapshots."""
    used = observer.joules(before, after)
    return None if used is None else used * sum(samples_ns) / max(1, after.at_ns - before.at_ns)


def opened_in_turn(number: int) -> tuple[records.Side, records.Side]:
    """The sides in the order in which pair `number` is opened: which comes first moves its times a little."""
    return SIDES if number % 2 == 0 else SIDES[::-1]


def order(number: int, rounds: int) -> tuple[records.Side, ...]:
    """The sides of a pair's next round: A B B A cancels a steady drift."""
    first, second = SIDES if (rounds + number) % 2 == 0 else SIDES[::-1]
    return first, second, second, first


def late(tick: Tick, lease_s: float) -> Tick:
    """`tick`, but not before a leg has turned out to be a long one."""
    quiet_until = time.monotonic() + min(LONG_LEG_S, lease_s / 4)

    def late() -> None:
        if time.monotonic() > quiet_until:
            tick()

    return late


def passes_for(pass_ns: int, items: int) -> int:
    """Passes over the distinct calls in one leg."""
    enough = math.ceil(LEG_NS / max(pass_ns, 1))
    calls = next((calls for limit, calls in CALLS if pass_ns / items < limit), 1)
    return max(enough, math.ceil(calls / items))


def disturbed(legs: list[records.Leg]) -> bool:
    """Whether any leg of a round was disturbed."""
    return any(leg.disturbed for leg in legs)


def _log_gain(legs: list[records.Leg]) -> float:
    """ln(baseline ÷ strategy) of one round, from the mean log time of each side's legs."""
    total = 0.0
    for leg in legs:
        sign = 1 if leg.side == "baseline" else -1
        total += sign * math.log(leg_time_ns(leg.samples_ns, leg.items) / leg.repeats) / 2
    return total
