"""Made-up results of a chain such as Roblox's: a smaller model, no padding, int8, one process a core."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from scheduler import compare, shapes
from scheduler.compare import Comparison
from scheduler.shapes import Shape
from storage import records
from storage.views import JobView, ResultView
from tests import fleets

BASELINE, STUDENT = "torch/fp32", "distil:layers=3+torch/fp32"
INT8, ONNX = "distil:layers=3+torch/int8-dynamic", "distil:layers=3+onnxruntime/int8-dynamic"

DUAL = fleets.platform(physical_cores=2, logical_cores=4)
QUAD = fleets.platform("Intel(R) Xeon(R) CPU @ 2.20GHz", physical_cores=4, logical_cores=8)
SINGLE = fleets.platform("AMD EPYC 7B12", physical_cores=1, logical_cores=2)


def compared(views: Iterable[ResultView]) -> list[Comparison]:
    """As `compare` does it, without predictions."""
    return compare.compare(views, lambda job_id: None)


def shape(padding: str = "max:128", instances: int = 1, threads: int = 2) -> Shape:
    return Shape(batch=1, length="dataset", padding=padding, instances=instances, threads=threads)


def throughput(
    where: records.Platform,
    gain: float,
    strategy: str,
    own: Shape,
    base: Shape | None = None,
    *,
    efficiency: tuple[float, float, float] | None = None,
    **given: Any,
) -> ResultView:
    """A gain with an interval of ±5 %; `base`: the baseline's shape, the own one by default."""
    told = None if efficiency is None else dict(zip(("value", "low", "high"), efficiency, strict=True))
    values = {
        "kind": "throughput",
        "strategy": strategy,
        "input": shapes.label("throughput", own, base or own),
        "batch": own.batch,
        "length": own.length,
        "padding": own.padding,
        "threads": own.threads,
        "instances": own.instances,
        "input_digest": f"rows, {own.padding}",
        "throughput_per_s": 50.0 * gain,
        "document": {"strategy_load": {"efficiency": told}},
    }
    return fleets.latency(where, gain, **{**values, **given})


def waiting(**given: Any) -> JobView:
    """A job of a chain that is queued."""
    fields = {field.name: None for field in dataclasses.fields(JobView)}
    values = {"id": "abcdef0123", "kind": "throughput", "model": "minilm", "state": "queued", "baseline": BASELINE}
    return JobView(**{**fields, **values, **given})


GAINS: Mapping[tuple[str, str, bool], float] = {
    (BASELINE, "max:128", False): 1.0,
    (STUDENT, "max:128", False): 2.0,
    (STUDENT, "longest", False): 8.0,
    (INT8, "longest", False): 12.0,
    (ONNX, "longest", False): 16.0,
    (ONNX, "longest", True): 24.0,
    (INT8, "longest", True): 18.0,
    (BASELINE, "longest", False): 3.0,
}
"""Strategy, padding, one process a core → gain over one process on all cores, padded."""


def chain(
    where: records.Platform, *, factor: float = 1.0, without: Iterable[tuple[str, str, bool]] = (), host: str = "one"
) -> list[ResultView]:
    """A study like examples/roblox.yaml on one machine; `factor` scales every gain but the baseline's own."""
    cores = where.hardware.physical_cores
    base = shape(threads=cores)
    found = []
    for key, gain in GAINS.items():
        strategy, padding, spread = key
        own = shape(padding, cores, 1) if spread else shape(padding, 1, cores)
        if key not in set(without) and not (spread and cores == 1):
            scaled = gain if key == (BASELINE, "max:128", False) else gain * factor
            found.append(throughput(where, scaled, strategy, own, base, host=host))
    return found
