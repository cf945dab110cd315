"""The stopping rules of a gain, on rounds that a test makes up."""

from __future__ import annotations

import math
import random
import time

from storage import records
from storage.statistics import PairedRound
from worker import gains, rounds


class ScriptedPair:
    """A pair whose rounds give what a script says; a true value is a good round, None a disturbed one."""

    def __init__(self, number: int, gains: list[float | None]) -> None:
        self.number = number
        self.gains = gains
        self.rounds = 0

    def measure_round(self) -> tuple[list[records.Leg], PairedRound]:
        gain = self.gains[min(self.rounds, len(self.gains) - 1)]
        self.rounds += 1
        leg = records.Leg(
            pair=self.number,
            round=self.rounds - 1,
            position=0,
            side="strategy",
            samples_ns=(1,),
            items=1,
            started_at=0.0,
            cpu_ns=0,
            run_delay_ns=0,
            foreign_share=0.0,
            steal_share=0.0,
            threads_burning=1,
            preemptions=0,
            disturbed=() if gain is not None else ("other processes used 1.0 cores",),
        )
        return [leg], PairedRound(pair=self.number, round=self.rounds - 1, log_gain=math.log(gain or 1.0))


def _fill(tally: gains.Tally, script: list[float | None], budget: records.Budget, began: float) -> str:
    pair = ScriptedPair(len(tally.opened), script)
    tally.opened.append({})
    tally.pair_costs.append(0.5)
    return gains._fill(pair, tally, budget, began, lambda progress: None)  # type: ignore[arg-type]


def test_it_stops_for_precision_only_after_the_least_number_of_pairs() -> None:
    tally, budget = gains.Tally(), records.Budget(precision=0.03, max_seconds=1e9, min_pairs=6)

    stops = [_fill(tally, [2.0, 2.001], budget, time.monotonic()) for _ in range(6)]

    assert stops == ["", "", "", "", "", "precision"]
    assert tally.estimate().pairs == 6


def test_a_disturbed_round_is_measured_again_and_not_counted() -> None:
    tally = gains.Tally()

    _fill(tally, [None, None, 2.0, 2.0], records.Budget(min_pairs=6), time.monotonic())

    assert tally.repeated_rounds == 2
    assert tally.disturbed_rounds == 0
    assert [round(math.exp(one.log_gain), 6) for one in tally.counted] == [2.0, 2.0]
    assert len(tally.legs) == 4, "disturbed legs are kept, as evidence"


def test_what_stays_disturbed_counts_in_the_end_and_is_known_to_be() -> None:
    tally = gains.Tally()

    _fill(tally, [None], records.Budget(min_pairs=6), time.monotonic())

    assert tally.repeated_rounds == gains.RETRIES
    assert tally.disturbed_rounds == len(tally.counted) == gains.MIN_ROUNDS


def test_when_the_time_is_over_the_least_number_of_pairs_still_comes_with_a_round_each() -> None:
    tally, budget = gains.Tally(), records.Budget(precision=1e-6, max_seconds=0.0, min_pairs=3)
    draw = random.Random(1)

    stops = [_fill(tally, [draw.uniform(1, 3)], budget, time.monotonic() - 1) for _ in range(4)]

    assert stops == ["", "", "", "max_seconds"], "three pairs are odd: one side was opened first more often"
    assert len(tally.counted) == 4


def test_the_reason_that_is_shown_is_the_most_frequent_one() -> None:
    legs, _ = ScriptedPair(0, [None]).measure_round()

    assert gains._reasons(legs) == "other processes used 1.0 cores"
    assert rounds.disturbed(legs)
