"""A `server` job: requests that come by themselves, at a given rate or at the highest that keeps a bound."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np

from storage import records
from storage.statistics import PairedRound
from worker import (
    arrivals,
    crews,
    dispatch,
    gains,
    nursery,
    prepare,
    quiet,
    rounds,
    search,
    server_facts,
    serving,
    station,
)
from worker.nursery import Tick
from worker.phases import Phases
from worker.server_facts import Job, Run, requests_needed

PAIRS = 4
"""Pairs of crews at a given rate, an even number: each side is opened first as often as the other."""

SEARCHES = 4
"""Searches on each side, at most; as many as the time allows."""

MOST_REQUESTS = 100_000
"""Requests in one run, at most."""

FIRST_LOAD = 0.5
"""Where a search begins: this share of what the instances could answer one request at a time."""


def measure(
    place: station.Station, case: records.Case, budget: records.Budget, tick: Tick, tell: gains.Tell
) -> tuple[records.ServerMeasurement, list[records.Leg]]:
    """Measure one case. Raises what `nursery.Child.ask` raises, and whatever `tick` raises to stop."""
    assert case.serving is not None  # noqa: S101 - a server case says how it serves
    phases = Phases()
    prepared = prepare.sides(place, case, phases, tick, tell)
    with phases("inputs"):
        inputs, digest = prepare.inputs(place, case, tick)
    run = crews.run_of(place, case, prepared, inputs, phases, tick)
    job = Job(run=run, spec=case.serving, inputs=inputs, budget=budget, tell=tell)
    for number in _pairs(job):
        with run.opened(number) as seats:
            job.tally.opened.append(seats)
            job.call_s |= {side: _warm_batches(job, side, seats[side]) for side in seats}
            _measure_pair(job, number, seats)
    return server_facts.measurement(job, case, prepared, digest), job.tally.legs


def _pairs(job: Job) -> Iterator[int]:
    """Numbers of the pairs: all of them at a given rate, as many as there is time for in a search."""
    if job.spec.rate_per_s is not None:
        yield from range(PAIRS)
        return
    for number in range(SEARCHES):
        if number and job.elapsed_s * (number + 1) / number > job.budget.max_seconds:
            return
        yield number


def _warm_batches(job: Job, side: records.Side, crew: Sequence[rounds.Seat]) -> list[float]:
    request = {"inputs": job.inputs[side], "max_batch": job.spec.max_batch}
    with job.run.phases("warm-up"):
        answers = [
            seat.child.ask("batches", request, tick=job.run.tick, within_s=rounds.ANSWER_S)["took_ns"] for seat in crew
        ]
    return [statistics.median(took) / 1e9 for took in zip(*answers, strict=True)]


def _measure_pair(job: Job, number: int, seats: gains.Seats) -> None:
    """Both sides, the one that was opened first before the other; the log gain of the pair."""
    values = {}
    for side in seats:
        if job.spec.rate_per_s is None:
            values[side] = _highest(job, number, side, seats)
        else:
            values[side] = 1 / _mean_latency(job, number, side, seats, job.spec.rate_per_s)
    log_gain = math.log(values["strategy"] / values["baseline"])
    job.tally.counted.append(
        PairedRound(pair=number, round=0, log_gain=log_gain if math.isfinite(log_gain) else math.nan)
    )
    legs = [run.leg for side in rounds.SIDES for run in job.counted(side) if run.pair == number]
    job.tally.disturbed_rounds += rounds.disturbed(legs)


def _mean_latency(job: Job, number: int, side: records.Side, seats: gains.Seats, rate: float) -> float:
    """Mean latency in seconds at the given rate, of the requests that count."""
    seconds = job.budget.max_seconds / (2 * PAIRS)
    job.tell({"phase": f"{side} at {rate:g} requests/s, pair {number + 1} of {PAIRS}"})
    count = max(2, min(round(rate * seconds), MOST_REQUESTS))
    run = serve(job, number, side, seats, rate, count, seed=number)
    samples = run.leg.samples_ns
    return max(statistics.fmean(samples) / 1e9, 1e-9) if samples else math.nan


def _highest(job: Job, number: int, side: records.Side, seats: gains.Seats) -> float:
    """The highest rate that keeps the bound, NaN where none was found."""
    spec, until = job.spec, _until(job, number)
    assert spec.bound_s is not None  # noqa: S101 - a search has both
    assert spec.quantile is not None  # noqa: S101
    bound_s, call_s = spec.bound_s, job.call_s[side][0]

    def attempt(rate: float, repeat: int) -> search.Trial:
        count = min(requests_needed(spec, rate), MOST_REQUESTS)
        if time.monotonic() + count / rate > until:
            raise search.TimeIsOver
        job.tell({"phase": f"{side}: searching, {rate:.3g} requests/s"})
        run = serve(job, number, side, seats, rate, count, seed=100 * number + repeat, patience_s=bound_s)
        late = np.nan_to_num(run.served.latency_s[run.served.settled], nan=math.inf)
        return search.Trial(latencies_s=late.tolist(), overloaded=run.served.overloaded)

    if call_s > bound_s and not spec.cache:  # even a request that never waits is late
        found = search.Found()
    else:
        first = FIRST_LOAD * len(seats[side]) / call_s
        found = search.highest(attempt, bound_s=bound_s, q=spec.quantile, first=first)
    job.found[side].append(found)
    return math.nan if found.holds is None or found.misses is None else found.holds.rate_per_s


def _until(job: Job, number: int) -> float:
    """When this side's search has to end: half of the time is the first side's of the first pair."""
    first_side = not any(len(found) > number for found in job.found.values())
    share = 0.5 if number == 0 and first_side else 1.0
    return job.began + share * job.budget.max_seconds


def serve(
    job: Job,
    pair: int,
    side: records.Side,
    seats: gains.Seats,
    rate: float,
    count: int,
    *,
    seed: int,
    patience_s: float | None = None,
) -> Run:
    """One run: `count` requests at a rate, the same for both sides where the seed is.

    Nothing is begun later than `patience_s` after the last arrival, by default a quarter of the run and a second at
    least.
    """
    run, crew = job.run, seats[side]
    times = arrivals.poisson(rate, count, seed)
    items = arrivals.mix(crew[0].items, job.spec.zipf, count, seed)
    end = float(times[-1])
    crews.rest(seats, crew, run)
    before = nursery.look(run.observer, "serve", *(seat.child for seat in crew))
    started_at = time.time()
    with run.phases("legs"):
        late = rounds.late(run.tick, run.place.settings.lease)
        desk = dispatch.Crew([seat.child for seat in crew], late, rounds.ANSWER_S)
        give_up = end + (max(1.0, end / 4) if patience_s is None else patience_s)
        served = serving.run(times, items, job.rules, len(crew), desk, give_up)
    after = nursery.look(run.observer, "serve", *(seat.child for seat in crew))
    seen = quiet.judge(before, after, cores=len(run.place.cpus), threads=len(crew) * run.threads[side])
    for seat in crew:
        seat.peak_bytes = max(seat.peak_bytes, seat.child.ask("memory", tick=run.tick)["peak_bytes"])
    latency = served.latency_s[served.settled]
    leg = records.Leg(
        pair=pair,
        round=len(job.runs[side]),
        position=list(seats).index(side),
        side=side,
        samples_ns=tuple(int(ns) for ns in latency[~np.isnan(latency)] * 1e9),
        items=crew[0].items,
        started_at=started_at,
        cpu_ns=seen.cpu_ns,
        run_delay_ns=seen.run_delay_ns,
        foreign_share=seen.foreign_share,
        steal_share=seen.steal_share,
        threads_burning=round(seen.threads_burning / len(crew)),
        preemptions=0,
        disturbed=seen.disturbed,
    )
    done = Run(pair=pair, rate_per_s=rate, served=served, leg=leg, dispatch_s=desk.beyond_s)
    job.runs[side].append(done)
    job.tally.legs.append(leg)
    return done
