"""A `latency` job: pairs and rounds until the gain is as precise as wanted, or the time is over."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from storage import metrics, records
from storage.statistics import (
    GainEstimate,
    PairedRound,
    gain_interval,
    next_step,
    percentile,
)
from worker import prepare, quiet, rounds, station
from worker.nursery import Tick
from worker.phases import MEASURING, Phases

QUANTILES = (0.5, 0.9, 0.95, 0.99)

MIN_ROUNDS = 2
"""Rounds in a pair, at least: one alone tells nothing about the variance within."""

RETRIES = 3
"""Disturbed rounds of one pair that are measured again before one of them has to count."""

DISTURBED_SHARE = 0.2
"""A result whose counted rounds are disturbed beyond this share is marked, and left out of comparisons."""

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(slots=True)
class Tally:
    """What the rounds so far have given."""

    legs: list[records.Leg] = field(default_factory=list)  # every leg that was run
    counted: list[PairedRound] = field(default_factory=list)
    counted_legs: list[records.Leg] = field(default_factory=list)
    disturbed_rounds: int = 0  # counted although disturbed
    repeated_rounds: int = 0  # measured again, not counted
    opened: list[Mapping[records.Side, rounds.Seat]] = field(default_factory=list)
    pair_costs: list[float] = field(default_factory=list)  # seconds before a pair's first round
    round_costs: list[float] = field(default_factory=list)

    def estimate(self) -> GainEstimate:
        """The gain as of now."""
        return gain_interval(self.counted)


def measure(
    place: station.Station, case: records.Case, budget: records.Budget, tick: Tick, tell: Tell
) -> tuple[records.LatencyMeasurement, list[records.Leg]]:
    """Measure one case. Raises what `nursery.Child.ask` raises, and whatever `tick` raises to stop."""
    phases = Phases()
    run, digest = _prepared(place, case, phases, tick, tell)
    tally = Tally()
    began = time.monotonic()
    stopped = ""
    while not stopped:
        with run.pair(len(tally.opened)) as pair:
            tally.pair_costs.append(time.monotonic() - began - sum(tally.pair_costs) - sum(tally.round_costs))
            tally.opened.append(pair.seats)
            stopped = _fill(pair, tally, budget, began, tell)
    return _measurement(case, budget, run, tally, stopped, digest), tally.legs


def _prepared(
    place: station.Station, case: records.Case, phases: Phases, tick: Tick, tell: Tell
) -> tuple[rounds.Run, str]:
    assert case.threads is not None  # noqa: S101 - a latency case has threads
    with phases("prepare"):
        sides: dict[records.Side, prepare.Prepared] = {
            "baseline": prepare.model(place, case, case.baseline, tick, tell),
            "strategy": prepare.model(place, case, case.strategy, tick, tell),
        }
    with phases("inputs"):
        inputs, digest = prepare.inputs(place, case, tick)
    run = rounds.Run(
        place=place,
        phases=phases,
        observer=quiet.Observer(ignore=place.own_pids()),
        tick=tick,
        cores=len(place.cpus),
        sides=sides,
        inputs=inputs,
        threads=case.threads,
        passes={},
    )
    return run, digest


def _fill(pair: rounds.Pair, tally: Tally, budget: records.Budget, began: float, tell: Tell) -> str:
    """Measure rounds of one pair until the next step is another pair; why to stop altogether, or ''."""
    counted = repeated = 0
    while True:
        start = time.monotonic()
        legs, result = pair.measure_round()
        tally.legs += legs
        tally.round_costs.append(time.monotonic() - start)
        bad = rounds.disturbed(legs)
        over = time.monotonic() - began > budget.max_seconds
        if bad and repeated < RETRIES and not over:
            repeated += 1
            tally.repeated_rounds += 1
            continue
        counted += 1
        tally.disturbed_rounds += bad
        tally.counted.append(result)
        tally.counted_legs += legs
        estimate = tally.estimate()
        tell(_progress(tally, estimate, budget, time.monotonic() - began))
        stopped = _stop(estimate, counted, budget, over)
        if stopped or _enough(tally, estimate, counted, budget, over):
            return stopped


def _stop(estimate: GainEstimate, counted: int, budget: records.Budget, over: bool) -> str:
    # an even number of pairs: the side that is opened first in a pair is up to 2 % slower, whichever it is
    if estimate.pairs < budget.min_pairs or estimate.pairs % 2 or (counted < MIN_ROUNDS and not over):
        return ""
    if estimate.precision is not None and estimate.precision <= budget.precision:
        return "precision"
    if over:
        return "max_seconds"
    return ""


def _enough(tally: Tally, estimate: GainEstimate, counted: int, budget: records.Budget, over: bool) -> bool:
    """Whether this pair has given what it can: a fresh pair narrows the interval more for its time."""
    if over:
        return True
    if counted < MIN_ROUNDS:
        return False
    if estimate.pairs < budget.min_pairs:
        return True
    costs = statistics.fmean(tally.pair_costs), statistics.fmean(tally.round_costs)
    return next_step(estimate, *costs, rounds_in_last_pair=counted) == "pair"


def _progress(tally: Tally, estimate: GainEstimate, budget: records.Budget, elapsed: float) -> dict[str, Any]:
    return {
        "phase": "measuring",
        "pairs": estimate.pairs,
        "rounds": estimate.rounds,
        "repeated": tally.repeated_rounds,
        "gain": estimate.interval.value,
        "gain_low": estimate.interval.low,
        "gain_high": estimate.interval.high,
        "elapsed_s": elapsed,
        "max_seconds": budget.max_seconds,
    }


def _measurement(
    case: records.Case, budget: records.Budget, run: rounds.Run, tally: Tally, stopped: str, digest: str
) -> records.LatencyMeasurement:
    estimate = tally.estimate()
    baseline = _side("baseline", case, run, tally)
    strategy = _side("strategy", case, run, tally)
    flags, notes = _flags(case, budget, tally, estimate, (baseline, strategy))
    return records.LatencyMeasurement(
        gain=estimate.interval,
        baseline=baseline,
        strategy=strategy,
        pairs=estimate.pairs,
        rounds=estimate.rounds,
        variance_between=estimate.variance_between,
        variance_within=estimate.variance_within,
        stopped=stopped,
        measured_s=run.phases.of(*MEASURING),
        overhead={name: s for name, s in run.phases.seconds().items() if name not in MEASURING},
        flags=flags,
        input_digest=digest,
        notes=(*notes, *prepare.notes(run.sides["strategy"])),
    )


def _side(side: records.Side, case: records.Case, run: rounds.Run, tally: Tally) -> records.SideFacts:
    legs = [leg for leg in tally.counted_legs if leg.side == side]
    samples = np.array([ns for leg in legs for ns in leg.samples_ns], dtype=np.float64) / 1e9
    seats = [seats[side] for seats in tally.opened]
    batch = 1 if case.input is None else case.input.batch

    def middle(name: str) -> float:
        return float(statistics.median(seat.opened[name] for seat in seats))

    return records.SideFacts(
        strategy=run.sides[side].strategy,
        artifact=run.sides[side].artifact,
        load_s=middle("load_s"),
        first_answer_s=middle("first_answer_s"),
        resident_before_bytes=round(middle("resident_before_bytes")),
        resident_loaded_bytes=round(middle("resident_loaded_bytes")),
        resident_peak_bytes=max(seat.peak_bytes for seat in seats),
        threads_set=seats[0].opened["threads_set"],
        threads_observed=round(statistics.median(leg.threads_burning for leg in legs)),
        percentiles=tuple(percentile(samples, q) for q in QUANTILES),
        throughput_per_s=batch / float(samples.mean()),
        facts=seats[0].opened["facts"],
    )


def _flags(
    case: records.Case,
    budget: records.Budget,
    tally: Tally,
    estimate: GainEstimate,
    sides: Sequence[records.SideFacts],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Marks for tables, and a sentence for each."""
    flags: list[str] = []
    notes: list[str] = []
    if tally.disturbed_rounds > DISTURBED_SHARE * estimate.rounds:
        flags.append("disturbed")
        notes.append(
            f"{tally.disturbed_rounds} of {estimate.rounds} rounds stayed disturbed: {_reasons(tally.counted_legs)}"
        )
    for side in sides:
        if case.threads not in (side.threads_set, None) or side.threads_observed != case.threads:
            flags.append("threads")
            notes.append(
                f"{side.strategy}: {case.threads} threads asked for, {side.threads_set} set, "
                f"{side.threads_observed} burnt CPU"
            )
    if estimate.precision is None or estimate.precision > budget.precision:
        flags.append("wide")
        reached = "no interval" if estimate.precision is None else f"±{100 * estimate.precision:.1f} %"
        notes.append(f"{reached} where ±{100 * budget.precision:g} % was asked for: the time was over")
    if tally.repeated_rounds:
        notes.append(f"measured again: {metrics.counted(tally.repeated_rounds, 'disturbed round')}")
    return tuple(dict.fromkeys(flags)), tuple(dict.fromkeys(notes))


def _reasons(legs: Sequence[records.Leg]) -> str:
    """The most frequent reason, as an example."""
    seen = [reason for leg in legs for reason in leg.disturbed]
    return statistics.mode(seen) if seen else "unknown"
