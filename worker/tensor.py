"""A `tensor` job: one operation on a layer's weight against another, in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage import operations, records, strategies
from worker import gains, quiet, rounds, station
from worker.nursery import Tick
from worker.phases import Phases

FAMILY = "torch"


def measure(
    place: station.Station, case: records.Case, budget: records.Budget, tick: Tick, tell: gains.Tell
) -> tuple[records.TensorMeasurement, list[records.Leg]]:
    """Measure one case. Raises what `nursery.Child.ask` raises, and whatever `tick` raises to stop."""
    assert case.threads is not None  # noqa: S101 - a tensor case has threads
    phases = Phases()
    with phases("inputs"):
        operand = _operand(place, case, tick)
    names: Mapping[records.Side, str] = {"baseline": case.baseline, "strategy": case.strategy}
    run = rounds.Run(
        place=place,
        phases=phases,
        observer=quiet.Observer(ignore=place.own_pids()),
        tick=tick,
        cores=len(place.cpus),
        sides={side: _opening(case, operand, names[side]) for side in rounds.SIDES},
        threads=case.threads,
        passes={},
    )
    tally, stopped = gains.collect(run.pair, budget, tell)
    sides = [gains.side(side, names[side], _artifact(operand), tally) for side in rounds.SIDES]
    fields = gains.common(case, budget, tally, stopped, phases, sides)
    alike = operations.same(case.strategy, case.baseline)
    if not alike:
        fields["flags"] = (*fields["flags"], "operation")
    measured = records.TensorMeasurement(
        **fields,
        input_digest=operand["digest"],
        same_operation=alike,
        shape=tuple(operand["shape"]),
        weight_digest=operand["digest"],
        timer_ns=max(side.facts["timer_ns"] for side in sides),
        repeats={side: tally.opened[0][side][0].opened["repeats"] for side in rounds.SIDES},
        max_error=sides[1].facts["max_error"] if alike else None,
        weight=operand["weight"],
    )
    return measured, tally.legs


def _operand(place: station.Station, case: records.Case, tick: Tick) -> dict[str, Any]:
    request = {
        "model": records.to_document(case.model),
        "tensor": records.to_document(case.tensor),
        "cache": str(place.settings.cache),
    }
    with place.child(strategies.PREPARER, tick) as child:
        return child.ask("operand", request, tick=tick)


def _opening(case: records.Case, operand: Mapping[str, Any], operation: str) -> rounds.Opening:
    request = {
        "operand": operand["path"],
        "tensor": records.to_document(case.tensor),
        "operation": operation,
        "threads": case.threads,
    }
    return rounds.Opening(family=FAMILY, op="tensor", request=request)


def _artifact(operand: Mapping[str, Any]) -> records.Artifact:
    """The weight stands for what is prepared elsewhere."""
    return records.Artifact(key=operand["digest"], size_bytes=operand["bytes"], prepare_s=0.0, cached=True)
