"""A `latency` job: the time of one call, of baseline and strategy in turn."""

from __future__ import annotations

from storage import records
from worker import gains, prepare, quiet, rounds, station
from worker.nursery import Tick
from worker.phases import Phases


def measure(
    place: station.Station, case: records.Case, budget: records.Budget, tick: Tick, tell: gains.Tell
) -> tuple[records.LatencyMeasurement, list[records.Leg]]:
    """Measure one case. Raises what `nursery.Child.ask` raises, and whatever `tick` raises to stop."""
    phases = Phases()
    prepared = prepare.sides(place, case, phases, tick, tell)
    with phases("inputs"):
        inputs, digest = prepare.inputs(place, case, tick)
    run = _run(place, case, prepared, inputs, phases, tick)
    tally, stopped = gains.collect(run.pair, budget, tell)
    sides = [_side(side, case, prepared[side], tally) for side in rounds.SIDES]
    fields = gains.common(case, budget, tally, stopped, phases, sides)
    fields["notes"] = (*fields["notes"], *prepare.notes(prepared["strategy"]))
    return records.LatencyMeasurement(**fields, input_digest=digest), tally.legs


def _run(
    place: station.Station,
    case: records.Case,
    prepared: prepare.Sides,
    inputs: prepare.Inputs,
    phases: Phases,
    tick: Tick,
) -> rounds.Run:
    assert case.threads is not None  # noqa: S101 - a latency case has threads
    return rounds.Run(
        place=place,
        phases=phases,
        observer=quiet.Observer(ignore=place.own_pids()),
        tick=tick,
        cores=len(place.cpus),
        sides={side: rounds.opening(prepared[side], case.threads, inputs[side]) for side in rounds.SIDES},
        threads=case.threads,
        passes={},
    )


def _side(side: records.Side, case: records.Case, prepared: prepare.Prepared, tally: gains.Tally) -> records.SideFacts:
    batch = 1 if case.input is None else case.input.batch
    rate = batch / float(gains.samples_s(tally, side).mean())
    return gains.side(side, prepared.strategy, prepared.artifact, tally, rate, rows=batch)
