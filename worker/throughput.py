"""A `throughput` job: rows per second of several processes side by side, each on cores of its own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from storage import records
from storage.statistics import PairedRound, gain_interval
from worker import crews, gains, prepare, rounds, station
from worker.nursery import Tick
from worker.phases import Phases


def measure(
    place: station.Station, case: records.Case, budget: records.Budget, tick: Tick, tell: gains.Tell
) -> tuple[records.ThroughputMeasurement, list[records.Leg]]:
    """Measure one case. Raises what `nursery.Child.ask` raises, and whatever `tick` raises to stop."""
    phases = Phases()
    prepared = prepare.sides(place, case, phases, tick, tell)
    with phases("inputs"):
        inputs, digest = prepare.inputs(place, case, tick)
    run = crews.run_of(place, case, prepared, inputs, phases, tick)
    tally, stopped = gains.collect(run.pair, budget, tell)
    loads = {side: _load(side, case, run) for side in rounds.SIDES}
    rows = 1 if case.input is None else case.input.batch
    sides = [
        gains.side(side, prepared[side].strategy, prepared[side].artifact, tally, loads[side].rate_per_s, rows=rows)
        for side in rounds.SIDES
    ]
    fields = gains.common(case, budget, tally, stopped, phases, sides)
    fields["notes"] = (*fields["notes"], *prepare.notes(prepared["strategy"]))
    measured = records.ThroughputMeasurement(
        **fields,
        input_digest=digest,
        instances=len(run.cpus["strategy"]),
        baseline_load=loads["baseline"],
        strategy_load=loads["strategy"],
    )
    return measured, tally.legs


def _load(side: records.Side, case: records.Case, run: crews.Run) -> records.Load:
    batch = 1 if case.input is None else case.input.batch
    loops = [loop for loop in run.loops if loop.side == side]
    alone = [loop for loop in run.alone if loop.side == side] or loops
    return records.Load(
        rate_per_s=batch * statistics.median(loop.per_s for loop in loops),
        each_per_s=tuple(
            batch * statistics.median(rates) for rates in zip(*(loop.each_per_s for loop in loops), strict=True)
        ),
        alone_per_s=batch * statistics.median(loop.per_s for loop in alone),
        efficiency=_efficiency(loops, alone),
        settled_s=statistics.median(loop.settled_ns for loop in loops) / 1e9,
        window_s=min(loop.window_ns for loop in loops) / 1e9,
    )


def _efficiency(loops: Sequence[crews.Rates], alone: Sequence[crews.Rates]) -> records.Interval:
    """Rate of all ÷ (instances × rate of one alone), the pair as the random unit as for a gain."""
    single = {loop.pair: loop.per_s for loop in alone if len(loop.each_per_s) == 1}
    ratios = [
        PairedRound(pair=loop.pair, round=0, log_gain=math.log(loop.per_s / (len(loop.each_per_s) * single[loop.pair])))
        for loop in loops
        if loop.pair in single and len(loop.each_per_s) > 1
    ]
    if not ratios:  # one instance: it is alone already
        return records.Interval(value=1.0, low=1.0, high=1.0)
    return gain_interval(ratios).interval
