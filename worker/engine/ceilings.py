"""What a machine can do at most, one short measurement at a time: matrix products, memory, clock, noise.

Each function measures for some seconds in this process, with as many threads as `settle` has set, and answers in
plain JSON data that becomes a record of `storage.ceilings`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from storage import errors
from worker.engine import onednn

Call = Callable[[], object]

SIZES = (256, 512, 1024, 2048, 4096)
"""Rows and columns of the square matrices: small ones stay in a core's caches, large ones fill many threads."""

LONGEST_CALL_S = 0.25
"""No size is tried whose single call would take longer than this at the best rate so far: a kernel without
hardware support runs at a hundredth of the others' rate."""

LEAST_RUNS = 3
"""Runs of each size or working set, at least."""

ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")
"""Libraries of packed int8 products that PyTorch may carry, see torch.backends.quantized.supported_engines."""

NOISE_KERNEL_S = 0.001
NOISE_SIZE = 128
"""The noise's kernel: products of 128 × 128 matrices (192 KiB, in a core's own caches), as many as fill 1 ms."""

CLOCK_READINGS = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """Times of one call, run again and again."""

    best_s: float
    usual_s: float  # median
    runs: int


def settle(threads: int, cpus: Sequence[int]) -> dict[str, Any]:
    """Bind this process to CPUs and set its threads; what PyTorch has set."""
    os.sched_setaffinity(0, cpus)
    torch.set_num_threads(threads)
    return {"threads": torch.get_num_threads()}


def product(precision: str, seconds: float) -> dict[str, Any]:
    """The best rate of square matrix products, over the kernels that there are for a precision and over `SIZES`."""
    kernels = dict(_KERNELS[precision]())
    share = seconds / (len(kernels) * len(SIZES))
    found = [one for name, prepare in kernels.items() for one in _sizes(name, prepare, share)]
    if not found:
        raise errors.Unsupported(f"PyTorch has no matrix product of {precision} on this CPU")
    best = max(found, key=lambda one: float(one["ops_per_s"]))
    told = onednn.kernels(kernels[best["kernel"]](best["size"]))
    return {**best, "kernel": ", ".join([best["kernel"], *told])}


def read(set_bytes: int, seconds: float) -> dict[str, Any]:
    """The best rate of summing float32 values; `set_bytes` is the array."""
    array = torch.ones(max(1, set_bytes // 4))
    return _moved(array.sum, array.nbytes, set_bytes, seconds)


def copy(set_bytes: int, seconds: float) -> dict[str, Any]:
    """The best rate of copying float32 values, bytes read plus bytes written; `set_bytes` is both arrays."""
    source = torch.ones(max(1, set_bytes // 8))
    target = torch.empty_like(source)
    return _moved(lambda: target.copy_(source), 2 * source.nbytes, set_bytes, seconds)


def timer() -> dict[str, Any]:
    """Resolution and cost of `time.perf_counter_ns`, by reading it again and again."""
    clock = time.perf_counter_ns
    readings = [0] * CLOCK_READINGS
    with _undisturbed():
        for index in range(CLOCK_READINGS):
            readings[index] = clock()
    steps = np.diff(np.array(readings, dtype=np.int64))
    moved = np.diff(np.flatnonzero(steps), prepend=-1)  # readings until the clock moved on, one by one
    return {"resolution_ns": int(steps[steps > 0].min()), "call_ns": float(np.median(steps[steps > 0] / moved))}


def noise(seconds: float) -> dict[str, Any]:
    """Spread of one fixed kernel of about 1 ms, run again and again for so long."""
    left, right, out = (torch.ones(NOISE_SIZE, NOISE_SIZE) for _ in range(3))
    one = _timed(lambda: torch.mm(left, right, out=out), 0.05).best_s
    products = max(1, round(NOISE_KERNEL_S / one))

    def kernel() -> None:
        for _ in range(products):
            torch.mm(left, right, out=out)

    times = np.array(_times(kernel, seconds))
    return {
        "kernel_s": float(np.median(times)),
        "variation": float(times.std(ddof=1) / times.mean()),
        "p99_ratio": float(np.percentile(times, 99) / np.median(times)),
        "runs": len(times),
    }


def _sizes(name: str, prepare: Callable[[int], Call], seconds: float) -> Iterator[dict[str, Any]]:
    """Rates of one kernel by size, as long as a call stays short."""
    best = 0.0
    for size in SIZES:
        operations = 2 * size**3
        if best and operations / best > LONGEST_CALL_S:
            return
        try:
            seen = _timed(prepare(size), seconds)
        except (NotImplementedError, RuntimeError):  # a library without this product on this CPU
            return
        best = max(best, operations / seen.best_s)
        rates = {"ops_per_s": operations / seen.best_s, "usual_per_s": operations / seen.usual_s}
        yield {**rates, "size": size, "kernel": name, "runs": seen.runs}


def _moved(call: Call, bytes_: int, set_bytes: int, seconds: float) -> dict[str, Any]:
    seen = _timed(call, seconds)
    rates = {"bytes_per_s": bytes_ / seen.best_s, "usual_per_s": bytes_ / seen.usual_s}
    return {**rates, "set_bytes": set_bytes, "runs": seen.runs}


def _timed(call: Call, seconds: float) -> Timed:
    call()  # memory is touched, threads are started
    times = _times(call, seconds)
    return Timed(best_s=min(times), usual_s=statistics.median(times), runs=len(times))


def _times(call: Call, seconds: float) -> list[float]:
    """Seconds of each call, again and again for so long, `LEAST_RUNS` at least."""
    clock = time.perf_counter_ns
    times: list[float] = []
    with _undisturbed():
        until = clock() + round(1e9 * seconds)
        while len(times) < LEAST_RUNS or clock() < until:
            start = clock()
            call()
            times.append((clock() - start) / 1e9)
    return times


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _float_kernels(dtype: torch.dtype) -> Iterator[tuple[str, Callable[[int], Call]]]:
    def prepare(size: int) -> Call:
        left, right = (torch.ones(size, size, dtype=dtype) for _ in range(2))
        return lambda: torch.mm(left, right)

    yield "torch.mm", prepare


def _int8_kernels() -> Iterator[tuple[str, Callable[[int], Call]]]:
    """Products of int8: PyTorch's own, and linear layers with weights packed for each library that it carries."""

    def plain(size: int) -> Call:
        left, right = (torch.ones(size, size, dtype=torch.int8) for _ in range(2))
        return lambda: torch._int_mm(left, right)

    yield "torch._int_mm", plain
    for engine in ENGINES:
        if engine in torch.backends.quantized.supported_engines:
            yield f"quantized.linear ({engine})", _packed(engine)


def _packed(engine: str) -> Callable[[int], Call]:
    def prepare(size: int) -> Call:
        torch.backends.quantized.engine = engine
        linear: Any = torch.ops.quantized.linear
        packed = torch.ops.quantized.linear_prepack(
            torch.quantize_per_tensor(torch.ones(size, size), 0.1, 0, torch.qint8), None
        )
        rows = torch.quantize_per_tensor(torch.ones(size, size), 0.1, 0, torch.quint8)
        return lambda: linear(rows, packed, 1.0, 0)

    return prepare


_KERNELS: Mapping[str, Callable[[], Iterator[tuple[str, Callable[[int], Call]]]]] = {
    "fp32": lambda: _float_kernels(torch.float32),
    "bf16": lambda: _float_kernels(torch.bfloat16),
    "int8": _int8_kernels,
}

MEASUREMENTS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "settle": settle,
    "product": product,
    "read": read,
    "copy": copy,
    "timer": timer,
    "noise": noise,
}
"""What can be asked for, by name."""
