"""Several processes side by side: a pair of crews, baseline and strategy, measured in turn in a closed loop."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from storage import errors, records
from storage.statistics import PairedRound
from worker import cores, nursery, prepare, quiet, rounds, station, steady
from worker.nursery import Tick
from worker.phases import Phases

LOOP_NS = 500_000_000
"""A loop lasts at least this long."""

LOOP_CALLS = 24
"""Calls of each process in a loop, at least: a quarter may be cut as unsettled, whole passes remain."""

LEAD_NS = 20_000_000
"""From the order to start until the start: every process has got the order by then, and none waits for another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What one loop of a crew gave."""

    side: records.Side
    pair: int
    each_per_s: tuple[float, ...]  # calls per second of each process
    settled_ns: int
    window_ns: int

    @property
    def per_s(self) -> float:
        """Calls per second of all processes."""
        return sum(self.each_per_s)


@dataclass(slots=True)
class Run:
    """What all pairs of one job share; `loops` and `alone` grow with every loop."""

    place: station.Station
    phases: Phases
    observer: quiet.Observer
    tick: Tick
    sides: Mapping[records.Side, rounds.Opening]
    threads: Mapping[records.Side, int]  # of each process
    cpus: Mapping[records.Side, Sequence[Sequence[int]]]  # of each process
    loops: list[Rates] = field(default_factory=list)  # of whole crews
    alone: list[Rates] = field(default_factory=list)  # of the first process of a crew while the others rest
    durations: dict[tuple[records.Side, int], int] = field(default_factory=dict)  # ns, by side and processes

    @contextmanager
    def pair(self, number: int) -> Iterator[Pair]:
        """Open pair `number` and measure one process of each side alone; all processes end afterwards."""
        with self.opened(number) as seats:
            pair = Pair(number, seats, self)
            for side in seats:
                pair.measure_alone(side)
            yield pair

    @contextmanager
    def opened(self, number: int) -> Iterator[dict[records.Side, tuple[rounds.Seat, ...]]]:
        """The processes of pair `number`: forked, loaded, warmed up; they end afterwards."""
        with rounds.ended_together(self.phases) as children:
            seats = {side: self._seats(side, children) for side in rounds.opened_in_turn(number)}
            for side, crew in seats.items():
                self._warm(side, crew)
            yield seats

    def _seats(self, side: records.Side, children: list[nursery.Child]) -> tuple[rounds.Seat, ...]:
        opening = self.sides[side]
        if opening.artifact is not None:
            self.place.artifacts.touch(opening.artifact)
        seats = []
        for cpus in self.cpus[side]:
            with self.phases("start"):
                child = self.place.fork(opening.family, self.tick)
                children.append(child)
            with self.phases("load"):
                opened = child.ask(opening.op, {**opening.request, "cpus": list(cpus)}, tick=self.tick)
            seats.append(rounds.Seat(side=side, child=child, opened=opened))
        return tuple(seats)

    def _warm(self, side: records.Side, crew: Sequence[rounds.Seat]) -> None:
        """Each process warms up by itself; a loop's own beginning shows how it goes with all of them."""
        for seat in crew:
            with self.phases("warm-up"):
                warm = seat.child.ask("warm", tick=self.tick, within_s=rounds.ANSWER_S)
            seat.items, seat.pass_ns = warm["items"], warm["pass_ns"]
        call_ns = statistics.median(seat.pass_ns / seat.items for seat in crew)
        # a whole pass over the items, and then some: with all at work each call takes longer than alone
        calls = max(LOOP_CALLS, 2 * crew[0].items)
        for size in (1, len(crew)):
            self.durations.setdefault((side, size), max(LOOP_NS, round(calls * call_ns)))


def run_of(
    place: station.Station,
    case: records.Case,
    prepared: prepare.Sides,
    inputs: prepare.Inputs,
    phases: Phases,
    tick: Tick,
) -> Run:
    """What a case of several instances runs with; Unsupported where they need more CPUs than there are."""
    layouts = {side: case.layout(side) for side in rounds.SIDES}
    for instances, threads in layouts.values():
        if instances * threads > len(place.cpus):
            what = f"{instances} instances × {threads} threads"
            raise errors.Unsupported(f"{what} asked for, this worker may use {len(place.cpus)} CPUs")
    return Run(
        place=place,
        phases=phases,
        observer=quiet.Observer(ignore=place.own_pids()),
        tick=tick,
        sides={side: rounds.opening(prepared[side], layouts[side][1], inputs[side]) for side in rounds.SIDES},
        threads={side: threads for side, (_, threads) in layouts.items()},
        cpus={side: cores.layout(*layouts[side], place.cpus) for side in rounds.SIDES},
    )


class Pair:
    """Baseline and strategy, each a crew of fresh processes, warmed up and waiting."""

    def __init__(self, number: int, seats: Mapping[records.Side, Sequence[rounds.Seat]], run: Run) -> None:
        self.number = number
        self.seats = seats
        self._run = run
        self._rounds = 0

    def measure_round(self) -> tuple[list[records.Leg], PairedRound]:
        """Each crew twice, in an order that cancels a steady drift. Returns its legs and the log gain of the rates."""
        legs: list[records.Leg] = []
        log_gain = 0.0
        for position, side in enumerate(rounds.order(self.number, self._rounds)):
            found, rates = self._loop(side, self.seats[side], position)
            legs += found
            self._run.loops.append(rates)
            log_gain += (1 if side == "strategy" else -1) * math.log(rates.per_s) / 2
        self._rounds += 1
        return legs, PairedRound(pair=self.number, round=self._rounds - 1, log_gain=log_gain)

    def measure_alone(self, side: records.Side) -> None:
        """One process of a crew at work while all others rest: what its share of the whole is compared with."""
        if len(self.seats[side]) == 1:
            return
        _, rates = self._loop(side, self.seats[side][:1], 0)
        self._run.alone.append(rates)

    def _loop(self, side: records.Side, crew: Sequence[rounds.Seat], position: int) -> tuple[list[records.Leg], Rates]:
        run = self._run
        rest(self.seats, crew, run)
        duration = run.durations[side, len(crew)]
        before = nursery.look(run.observer, "loop", *(seat.child for seat in crew))
        started_at = time.time()
        with run.phases("legs"):
            answers = self._answers(crew, duration)
        threads = len(crew) * run.threads[side]
        after = nursery.look(run.observer, "loop", *(seat.child for seat in crew))
        seen = quiet.judge(before, after, cores=len(run.place.cpus), threads=threads)
        parts = _steady_parts(crew, answers)
        # what each process saw by itself cannot be told from the whole: every leg carries its crew's conditions
        legs = [
            records.Leg(
                pair=self.number,
                round=self._rounds,
                position=position,
                side=side,
                samples_ns=tuple(answer["samples_ns"][part.first : part.last]),
                items=seat.items,
                started_at=started_at,
                cpu_ns=seen.cpu_ns // len(crew),
                run_delay_ns=seen.run_delay_ns // len(crew),
                foreign_share=seen.foreign_share,
                steal_share=seen.steal_share,
                threads_burning=round(seen.threads_burning / len(crew)),
                preemptions=answer["preemptions"],
                disturbed=seen.disturbed,
                instance=instance,
                joules=_share(crew, run.observer, before, after, answer["samples_ns"][part.first : part.last]),
            )
            for instance, (seat, answer, part) in enumerate(zip(crew, answers, parts, strict=True))
        ]
        rates = Rates(
            side=side,
            pair=self.number,
            each_per_s=tuple(part.calls_per_s for part in parts),
            settled_ns=max(part.settled_ns for part in parts),
            window_ns=min(part.window_ns for part in parts),
        )
        return legs, rates

    def _answers(self, crew: Sequence[rounds.Seat], duration_ns: int) -> list[dict[str, Any]]:
        start = time.monotonic_ns() + LEAD_NS
        for seat in crew:
            seat.child.begin("loop", {"start_ns": start, "duration_ns": duration_ns})
        tick = rounds.late(self._run.tick, self._run.place.settings.lease)
        answers = [seat.child.answer("loop", tick=tick, within_s=rounds.ANSWER_S) for seat in crew]
        for seat, answer in zip(crew, answers, strict=True):
            seat.peak_bytes = max(seat.peak_bytes, answer["peak_bytes"])
        return answers


def rest(all_seats: Mapping[records.Side, Sequence[rounds.Seat]], crew: Sequence[rounds.Seat], run: Run) -> None:
    """Wait until every process outside a crew has stopped using CPU."""
    busy = {id(seat) for seat in crew}
    with run.phases("wait"):
        for seats in all_seats.values():
            for seat in seats:
                if id(seat) not in busy:
                    quiet.wait_idle(seat.child.pid, rounds.PATIENCE_S)
        run.tick()


def _share(
    crew: Sequence[rounds.Seat],
    observer: quiet.Observer,
    before: quiet.Snapshot,
    after: quiet.Snapshot,
    samples_ns: Sequence[int],
) -> float | None:
    """The energy that one process of a crew stands for: all of them run at the same time."""
    joules = rounds.joules(observer, before, after, samples_ns)
    return None if joules is None else joules / len(crew)


def _steady_parts(crew: Sequence[rounds.Seat], answers: Sequence[Mapping[str, Any]]) -> list[steady.Steady]:
    """The steady part of each process: from when the last one has settled until the first one stops."""
    from_ns = max(_settled_ns(answer) for answer in answers)
    until_ns = min(answer["begun_ns"][-1] + answer["samples_ns"][-1] for answer in answers)
    return [
        steady.steady(answer["begun_ns"], answer["samples_ns"], from_ns, until_ns, seat.items)
        for seat, answer in zip(crew, answers, strict=True)
    ]


def _settled_ns(answer: Mapping[str, Any]) -> int:
    begun: list[int] = answer["begun_ns"]
    return max(0, begun[steady.settled(answer["samples_ns"])])
