"""Throughput and tensor jobs with real processes, on a tiny model; and paddings that differ between the sides."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import errors, operations, records, rows
from storage.statistics import leg_time_ns
from worker import latency, prepare, station, tensor, throughput

SHORT = records.Budget(precision=0.9, max_seconds=0.1, min_pairs=2)


def _nothing() -> None:
    pass


def _untold(_progress: object) -> None:
    pass


def loaded(model: records.ModelRef, instances: int, threads: int = 1, **more: Any) -> records.Case:
    return records.Case(
        kind="throughput",
        model=model,
        strategy="torch/int8-dynamic",
        baseline="torch/fp32",
        threads=threads,
        instances=instances,
        **{"input": records.InputSpec(batch=2, length=8, calls=1), **more},
    )


def single(name: str, baseline: str = "", **operand: Any) -> records.Case:
    return records.Case(
        kind="tensor",
        model=records.NUMBERS,
        strategy=name,
        baseline=baseline or operations.parse(name).reference,
        threads=1,
        tensor=records.TensorSpec(**{"shape": (48, 32), **operand}),
    )


def test_instances_answer_side_by_side_each_on_cpus_of_its_own(place: station.Station, model: records.ModelRef) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two instances need two CPUs")
    with place.exclusive(_nothing):
        found, legs = throughput.measure(place, loaded(model, 2), SHORT, _nothing, _untold)

    load = found.strategy_load
    assert (found.instances, len(load.each_per_s), {leg.instance for leg in legs}) == (2, 2, {0, 1})
    assert load.rate_per_s == pytest.approx(sum(load.each_per_s), rel=0.2)
    assert load.alone_per_s > 0
    assert 0 < load.efficiency.value < 1.5
    assert load.efficiency.low is not None
    assert found.strategy.throughput_per_s == load.rate_per_s
    assert found.gain is not None
    # the gain is that of the rates, and both calls of two rows count twice
    assert found.gain is not None
    assert found.gain.value == pytest.approx(load.rate_per_s / found.baseline_load.rate_per_s, rel=0.5)
    assert min(len(leg.samples_ns) for leg in legs) >= 12
    calls_per_s = 1e9 / np.mean([np.mean(leg.samples_ns) for leg in legs if leg.side == "strategy"])
    assert load.rate_per_s == pytest.approx(2 * 2 * calls_per_s, rel=0.5)
    assert (found.strategy.threads_set, found.strategy.threads_observed) == (1, 1)


def test_many_instances_meet_one_with_many_threads(place: station.Station, model: records.ModelRef) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two instances need two CPUs")
    with place.exclusive(_nothing):
        case = loaded(model, 2, baseline_layout=(1, 2))
        found, legs = throughput.measure(place, case, SHORT, _nothing, _untold)

    assert (found.baseline.threads_set, found.strategy.threads_set) == (2, 1)
    assert {(leg.side, leg.instance) for leg in legs} == {("baseline", 0), ("strategy", 0), ("strategy", 1)}


def test_one_instance_is_its_own_measure(place: station.Station, model: records.ModelRef) -> None:
    with place.exclusive(_nothing):
        found, legs = throughput.measure(place, loaded(model, 1), SHORT, _nothing, _untold)

    assert found.strategy_load.efficiency == records.Interval(value=1.0, low=1.0, high=1.0)
    assert found.strategy_load.alone_per_s == found.strategy_load.rate_per_s
    assert {leg.instance for leg in legs} == {0}


def test_more_instances_than_cpus_are_unsupported(place: station.Station, model: records.ModelRef) -> None:
    many = len(place.cpus) + 1
    with place.exclusive(_nothing), pytest.raises(errors.Unsupported, match=f"{many} instances × 1 threads"):
        throughput.measure(place, loaded(model, many), SHORT, _nothing, _untold)


def test_an_instance_that_dies_is_a_crash_with_its_signal(place: station.Station, model: records.ModelRef) -> None:
    def kill(_progress: object) -> None:
        import psutil

        nursery = place.nursery("torch").pid
        assert nursery is not None
        psutil.Process(nursery).children()[0].kill()

    budget = dataclasses.replace(SHORT, precision=1e-9, max_seconds=30.0)
    with place.exclusive(_nothing), pytest.raises(errors.ChildDied, match="SIGKILL"):
        throughput.measure(place, loaded(model, 1), budget, _nothing, kill)


@pytest.mark.parametrize("name", list(operations.OPERATIONS))
def test_every_operation_runs_and_answers_as_its_mathematics_says(place: station.Station, name: str) -> None:
    rows_of_input = 4 if name.startswith("linear/") else None
    with place.exclusive(_nothing):
        found, legs = tensor.measure(place, single(name, rows=rows_of_input), SHORT, _nothing, _untold)

    bounds = {"fp32": 1e-5, "bf16": 0.02}
    assert found.max_error is not None
    assert found.max_error <= bounds.get(operations.parse(name).precision, 0.1)
    assert (found.same_operation, found.shape, found.strategy.threads_set) == (True, (48, 32), 1)
    assert found.strategy.facts["ran"]
    assert {leg.repeats for leg in legs if (leg.pair, leg.side) == (0, "strategy")} == {found.repeats["strategy"]}


def test_what_is_shorter_than_the_clock_can_tell_is_timed_several_at_once(place: station.Station) -> None:
    with place.exclusive(_nothing):
        found, legs = tensor.measure(place, single("mul/fp32", shape=(2, 2)), SHORT, _nothing, _untold)

    for leg in legs:
        assert found.timer_ns <= 0.01 * float(np.median(leg.samples_ns))
    median = found.strategy.percentiles[0].value_s
    assert median is not None
    sample = next(leg for leg in legs if leg.side == "strategy")
    assert median * 1e9 == pytest.approx(leg_time_ns(sample.samples_ns, 1) / sample.repeats, rel=0.5)


def test_unlike_operations_are_known_to_be(place: station.Station) -> None:
    with place.exclusive(_nothing):
        found, _ = tensor.measure(
            place, single("mul/int8-qfunctional", baseline="matmul/fp32"), SHORT, _nothing, _untold
        )

    assert (found.same_operation, found.max_error, found.weight) == (False, None, None)
    assert "operation" in found.flags
    assert found.gain is not None
    row = rows.result(found, records.NUMBERS)
    assert found.gain is not None
    assert (row["gain"], row["document"]["same_operation"]) == (found.gain.value, False)


def test_a_layers_weight_is_found_and_a_wrong_name_is_told_with_the_nearest(
    place: station.Station, model: records.ModelRef
) -> None:
    case = single("linear/int8-dynamic", rows=1, shape=None, layer="bert.encoder.layer.0.output.dense")
    case = dataclasses.replace(case, model=model)
    with place.exclusive(_nothing):
        found, _ = tensor.measure(place, case, SHORT, _nothing, _untold)
        wrong = dataclasses.replace(case, tensor=records.TensorSpec(layer="bert.encoder.layer.0.output.dens", rows=1))
        with pytest.raises(errors.ModelError, match=r"bert\.encoder\.layer\.0\.output\.dense"):
            tensor.measure(place, wrong, SHORT, _nothing, _untold)

    assert found.weight_digest == found.input_digest
    assert found.weight is not None  # kept for reports
    assert found.weight["layer"] == "bert.encoder.layer.0.output.dense"
    assert sum(found.weight["values"]["counts"]) == found.shape[0] * found.shape[1]
    assert any("quantized::linear_dynamic" in name for name in found.strategy.facts["ran"])


def test_the_sides_may_pad_the_same_rows_in_their_own_ways(
    place: station.Station, model: records.ModelRef, rows: records.DatasetRef
) -> None:
    spec = records.InputSpec(batch=2, length="dataset", calls=3, padding="sorted", baseline_padding="max:32")
    case = dataclasses.replace(
        loaded(model, 1, input=spec, dataset=rows), kind="latency", instances=None, strategy="torch/fp32"
    )
    with place.exclusive(_nothing):
        files, digest = prepare.inputs(place, case, _nothing)
        found, _ = latency.measure(place, case, SHORT, _nothing, _untold)

    calls = {side: np.load(Path(file)) for side, file in files.items()}
    shapes = {side: {arrays[name].shape for name in arrays.files} for side, arrays in calls.items()}
    assert shapes["baseline"] == {(2, 32)}
    assert all(length < 32 for _, length in shapes["strategy"])
    tokens = {
        side: sum(int(arrays[name].sum()) for name in arrays.files if "mask" in name) for side, arrays in calls.items()
    }
    assert tokens["baseline"] == tokens["strategy"], "the same tokens, padding apart"
    assert found.input_digest == digest
