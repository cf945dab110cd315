"""Tensor operations of `storage.operations` on a layer's weight, ready to be timed."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from storage import keys, operations, records
from worker.artifacts import INPUTS, ArtifactStore
from worker.engine import layers, schemes, timing
from worker.engine.strategies import torch_dynamic

RESOLUTION_SHARE = 0.005
"""The clock's step may be this share of what it times; shorter operations are timed several at once. Half of the 1 %
that is promised: an operation gets faster while it is repeated."""

WARM_NS = 5_000_000
"""An operation is repeated for so long before it is timed for the first time."""

MOST_REPEATS = 1 << 16

SEED = 20210

_FILE = "operand.npy"

_FACTS = 1
"""Counted up where more is known of an operand than before: those that are kept are made again."""

Run = Callable[[], torch.Tensor]


@dataclass(slots=True)
class Opened:
    """One operation on its operands; looks like a session to whoever times it."""

    call: Callable[[], object]  # `repeats` operations
    repeats: int
    threads: int
    first_answer_s: float
    facts: Mapping[str, Any] = field(default_factory=dict)

    def calling(self) -> AbstractContextManager[object]:
        """What timed calls are made inside of."""
        stack = contextlib.ExitStack()
        stack.enter_context(torch.inference_mode())
        return stack


def prepare_operand(model: records.ModelRef, spec: records.TensorSpec, cache: Path) -> dict[str, Any]:
    """The weight [out, in] as a float32 file of numpy's, its shape and digest, and of a layer's weight its histograms.

    Raises ModelError for a layer that the model does not have (the nearest ones are named) or that has no matrix.
    """
    layer = None if spec.shape is not None else layers.find(model, spec.layer or "")
    weight = layer.weight if layer is not None else _random(spec.shape or (1, 1))
    digest = layers.digest(weight)
    store = ArtifactStore(cache / INPUTS)
    recipe = {"operand": digest, "facts": _FACTS}
    key = keys.digest(recipe)

    def build(folder: Path) -> dict[str, Any]:
        np.save(folder / _FILE, weight.numpy(), allow_pickle=False)
        return {} if layer is None else {"weight": schemes.outline(weight)}

    facts = store.make(key, recipe, build).facts
    return {
        "path": str(store.folder(key) / _FILE),
        "shape": list(weight.shape),
        "digest": digest,
        "bytes": 4 * weight.numel(),
        "weight": None if layer is None else {"layer": layer.name, "type": layer.kind, **facts["weight"]},
    }


def open_operation(operand: Path, spec: records.TensorSpec, name: str, threads: int) -> Opened:
    """One operation with its operands in memory, for a number of intra-op threads."""
    operation = operations.parse(name)
    torch.set_num_threads(threads)
    torch_dynamic.set_engine("auto")
    weight = torch.from_numpy(np.load(operand, allow_pickle=False))
    with torch.inference_mode():
        run, answer = _BUILD[operation.name](weight, spec.rows or 1)
        began = time.perf_counter()
        run()
        first = time.perf_counter() - began
        reference = _reference(operation, weight, spec.rows or 1)
        error = float((answer() - reference).abs().max() / reference.abs().max())
        resolution = timing.resolution_ns()
        repeats = _repeats(run, resolution)
        facts = {
            "operation": operation.name,
            "means": operation.means,
            "timer_ns": resolution,
            "max_error": error,
            "ran": _ran(run),
            "engine": torch.backends.quantized.engine,
        }
    return Opened(
        call=_several(run, repeats),
        repeats=repeats,
        threads=torch.get_num_threads(),
        first_answer_s=first,
        facts=facts,
    )


def _random(shape: tuple[int, int]) -> torch.Tensor:
    """Normal numbers of the size that a layer's weights have."""
    draw = np.random.default_rng(SEED)
    return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32) / np.float32(math.sqrt(shape[1])))


def _several(run: Run, repeats: int) -> Callable[[], object]:
    if repeats == 1:
        return run

    def call() -> None:
        for _ in range(repeats):
            run()

    return call


def _repeats(run: Run, resolution_ns: int) -> int:
    """How many operations make the clock's step a small share of their time: a power of two."""
    clock = time.perf_counter_ns
    warm = clock() + WARM_NS
    while clock() < warm:
        run()
    repeats = 1
    while repeats < MOST_REPEATS:
        call = _several(run, repeats)
        times = []
        for _ in range(20):
            start = clock()
            call()
            times.append(clock() - start)
        if resolution_ns <= RESOLUTION_SHARE * min(times):
            break
        repeats *= 2
    return repeats


def _ran(run: Run) -> dict[str, float]:
    """What torch's profiler saw: operator → share of the CPU time, the largest first."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        run()
    spent = {event.key: float(event.self_cpu_time_total) for event in profile.key_averages()}
    total = sum(spent.values()) or 1.0
    largest = sorted(spent.items(), key=lambda item: -item[1])
    return {name: round(time_us / total, 3) for name, time_us in largest if time_us >= 0.01 * total}


def _other(weight: torch.Tensor) -> torch.Tensor:
    """The right operand of a matrix product: the weight itself where that is possible."""
    return weight if weight.shape[0] == weight.shape[1] else weight.t()


def _activations(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """Normal numbers [rows, in], the same for every precision."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn((rows, weight.shape[1]), generator=generator)


def _reference(operation: operations.Operation, weight: torch.Tensor, rows: int) -> torch.Tensor:
    if operation.mathematics == "matmul":
        return weight @ _other(weight)
    if operation.mathematics == "mul":
        return weight * weight
    return torch.nn.functional.linear(_activations(weight, rows), weight)


Built = tuple[Run, Callable[[], torch.Tensor]]
"""What is timed, and its answer as float32."""


def _matmul(dtype: torch.dtype) -> Callable[[torch.Tensor, int], Built]:
    def build(weight: torch.Tensor, _rows: int) -> Built:
        left, right = weight.to(dtype), _other(weight).to(dtype)
        run = functools.partial(torch.mm, left, right)
        return run, lambda: run().float()

    return build


def _mul(dtype: torch.dtype) -> Callable[[torch.Tensor, int], Built]:
    def build(weight: torch.Tensor, _rows: int) -> Built:
        one = weight.to(dtype)
        run = functools.partial(torch.mul, one, one)
        return run, lambda: run().float()

    return build


def _linear(dtype: torch.dtype) -> Callable[[torch.Tensor, int], Built]:
    def build(weight: torch.Tensor, rows: int) -> Built:
        inputs, weights = _activations(weight, rows).to(dtype), weight.to(dtype)
        run = functools.partial(torch.nn.functional.linear, inputs, weights)
        return run, lambda: run().float()

    return build


def _quantized(weight: torch.Tensor) -> torch.Tensor:
    """As the book's chapter 8 does it: one scale for the whole range, zero point 0."""
    scale = float(weight.max() - weight.min()) / 255
    return torch.quantize_per_tensor(weight, scale, 0, torch.qint8)


def _qfunctional(name: str) -> Callable[[torch.Tensor, int], Built]:
    def build(weight: torch.Tensor, _rows: int) -> Built:
        one = _quantized(weight)
        other = one if name == "mul" or weight.shape[0] == weight.shape[1] else _quantized(weight.t().contiguous())
        functional = torch.ao.nn.quantized.QFunctional()
        # the scale of the answer: the chapter leaves it at 1, at which every answer would round to 0
        exact = weight * weight if name == "mul" else weight @ _other(weight)
        functional.scale = float(exact.abs().max()) / 127
        compute = getattr(functional, name)
        run = functools.partial(compute, one, other)
        return run, lambda: run().dequantize()

    return build


def _int_mm(weight: torch.Tensor, _rows: int) -> Built:
    scale = float(weight.abs().max()) / 127
    left = torch.round(weight / scale).to(torch.int8)
    right = _other(left).contiguous()
    run = functools.partial(torch._int_mm, left, right)
    return run, lambda: run().float() * scale * scale


def _packed_matmul(weight: torch.Tensor, _rows: int) -> Built:
    exact = weight @ _other(weight)
    low, high = float(weight.min()), float(weight.max())
    # 7 bits of activations, as everywhere: without VNNI the sums of 8 would saturate
    scale = max((high - low) / 127, 1e-12)
    left = torch.quantize_per_tensor(weight, scale, round(-low / scale), torch.quint8)
    right = torch_dynamic.quantize_weight(_other(weight).t().contiguous(), per_channel=False)
    packed = torch.ops.quantized.linear_prepack(right, None)
    out_scale = float(exact.max() - exact.min()) / 255
    zero = round(-float(exact.min()) / out_scale)
    run = functools.partial(torch.ops.quantized.linear, left, packed, out_scale, zero)
    return run, lambda: run().dequantize()


def _dynamic_linear(weight: torch.Tensor, rows: int) -> Built:
    quantized = torch_dynamic.packed(torch_dynamic.quantize_weight(weight, per_channel=False))
    inputs = _activations(weight, rows)
    run = functools.partial(quantized, inputs)
    return run, run


_BUILD: Mapping[str, Callable[[torch.Tensor, int], Built]] = {
    "matmul/fp32": _matmul(torch.float32),
    "matmul/bf16": _matmul(torch.bfloat16),
    "matmul/int8-qfunctional": _qfunctional("matmul"),
    "matmul/int8": _int_mm,
    "matmul/int8-packed": _packed_matmul,
    "mul/fp32": _mul(torch.float32),
    "mul/bf16": _mul(torch.bfloat16),
    "mul/int8-qfunctional": _qfunctional("mul"),
    "linear/fp32": _linear(torch.float32),
    "linear/bf16": _linear(torch.bfloat16),
    "linear/int8-dynamic": _dynamic_linear,
}
"""How each operation is built."""
