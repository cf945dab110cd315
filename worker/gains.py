"""From rounds in turn to a gain: pairs and rounds until it is as precise as wanted, or the time is over."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from storage import metrics, records
from storage.statistics import (
    GainEstimate,
    PairedRound,
    gain_interval,
    next_step,
    percentile,
)
from worker import rounds
from worker.phases import MEASURING, Phases

QUANTILES = (0.5, 0.9, 0.95, 0.99)

MIN_ROUNDS = 2
"""Rounds in a pair, at least: one alone tells nothing about the variance within."""

RETRIES = 3
"""Disturbed rounds of one pair that are measured again before one of them has to count."""

DISTURBED_SHARE = 0.2
"""A result whose counted rounds are disturbed beyond this share is marked, and left out of comparisons."""

Tell = Callable[[Mapping[str, Any]], None]

Seats = Mapping[records.Side, Sequence[rounds.Seat]]
"""The measured processes of each side."""


class Pair(Protocol):
    """Baseline and strategy, opened afresh."""

    @property
    def seats(self) -> Seats:
        """Its processes."""

    def measure_round(self) -> tuple[list[records.Leg], PairedRound]:
        """One round in turn: its legs and what it says about the gain."""


OpenPair = Callable[[int], AbstractContextManager[Pair]]
"""Opens pair number N, from 0."""


@dataclass(slots=True)
class Tally:
    """What the rounds so far have given."""

    legs: list[records.Leg] = field(default_factory=list)  # every leg that was run
    counted: list[PairedRound] = field(default_factory=list)
    counted_legs: list[records.Leg] = field(default_factory=list)
    disturbed_rounds: int = 0  # counted although disturbed
    repeated_rounds: int = 0  # measured again, not counted
    opened: list[Seats] = field(default_factory=list)
    pair_costs: list[float] = field(default_factory=list)  # seconds before a pair's first round
    round_costs: list[float] = field(default_factory=list)

    def estimate(self) -> GainEstimate:
        """The gain as of now."""
        return gain_interval(self.counted)


def collect(open_pair: OpenPair, budget: records.Budget, tell: Tell) -> tuple[Tally, str]:
    """Measure pairs until the gain is precise enough or the time is over; why it stopped.

    Raises what `nursery.Child.ask` raises, and whatever a tick raises to stop.
    """
    tally = Tally()
    began = time.monotonic()
    stopped = ""
    while not stopped:
        with open_pair(len(tally.opened)) as pair:
            tally.pair_costs.append(time.monotonic() - began - sum(tally.pair_costs) - sum(tally.round_costs))
            tally.opened.append(pair.seats)
            stopped = _fill(pair, tally, budget, began, tell)
    return tally, stopped


def common(
    case: records.Case,
    budget: records.Budget,
    tally: Tally,
    stopped: str,
    phases: Phases,
    sides: Sequence[records.SideFacts],
) -> dict[str, Any]:
    """The fields that every measurement of a gain has, but for the input's digest; `sides`: baseline, strategy."""
    estimate = tally.estimate()
    flags, notes = _flags(case, budget, tally, estimate, sides)
    return {
        "gain": estimate.interval,
        "baseline": sides[0],
        "strategy": sides[1],
        "pairs": estimate.pairs,
        "rounds": estimate.rounds,
        "variance_between": estimate.variance_between,
        "variance_within": estimate.variance_within,
        "stopped": stopped,
        "measured_s": phases.of(*MEASURING),
        "overhead": {name: s for name, s in phases.seconds().items() if name not in MEASURING},
        "measuring": {name: s for name, s in phases.seconds().items() if name in MEASURING},
        "flags": flags,
        "notes": notes,
    }


def side(
    side: records.Side,
    strategy: str,
    artifact: records.Artifact,
    tally: Tally,
    throughput_per_s: float | None = None,
    *,
    rows: int = 1,
) -> records.SideFacts:
    """What the legs and the processes of one side have shown; `throughput_per_s` is the caller's to say.

    `rows`: rows in one call.
    """
    samples, pairs = samples_s(tally, side), pairs_of(tally, side)
    seats = [seat for seats in tally.opened for seat in seats[side]]

    def middle(name: str) -> float:
        return float(statistics.median(seat.opened[name] for seat in seats))

    return records.SideFacts(
        strategy=strategy,
        artifact=artifact,
        load_s=middle("load_s"),
        first_answer_s=middle("first_answer_s"),
        resident_before_bytes=round(middle("resident_before_bytes")),
        resident_loaded_bytes=round(middle("resident_loaded_bytes")),
        resident_peak_bytes=max(seat.peak_bytes for seat in seats),
        threads_set=seats[0].opened["threads_set"],
        threads_observed=round(statistics.median([leg.threads_burning for leg in _legs(tally, side)] or [0])),
        percentiles=tuple(percentile(samples, q, groups=pairs) for q in QUANTILES),
        throughput_per_s=throughput_per_s,
        facts=seats[0].opened["facts"],
        joules_per_row=_joules_per_row(_legs(tally, side), rows),
    )


def samples_s(tally: Tally, side: records.Side) -> npt.NDArray[np.float64]:
    """Seconds of every counted call of one side."""
    times = [ns / leg.repeats for leg in _legs(tally, side) for ns in leg.samples_ns]
    return np.array(times, dtype=np.float64) / 1e9


def pairs_of(tally: Tally, side: records.Side) -> list[int]:
    """Which pair of processes each of `samples_s` is from."""
    return [leg.pair for leg in _legs(tally, side) for _ in leg.samples_ns]


def _joules_per_row(legs: Sequence[records.Leg], rows: int) -> float | None:
    told = [leg for leg in legs if leg.joules is not None]
    calls = sum(len(leg.samples_ns) * leg.repeats for leg in told)
    return sum(leg.joules or 0.0 for leg in told) / (calls * rows) if calls else None


def _legs(tally: Tally, side: records.Side) -> list[records.Leg]:
    return [leg for leg in tally.counted_legs if leg.side == side]


def _fill(pair: Pair, tally: Tally, budget: records.Budget, began: float, tell: Tell) -> str:
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
    for name, side in zip(rounds.SIDES, sides, strict=True):
        if not _legs(tally, name):
            continue  # a server that was asked nothing: nothing was observed
        asked = case.layout(name)[1]
        if side.threads_set != asked or side.threads_observed != asked:
            flags.append("threads")
            notes.append(
                f"{side.strategy}: {asked} threads asked for, {side.threads_set} set, {side.threads_observed} burnt CPU"
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
