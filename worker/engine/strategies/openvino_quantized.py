"""OpenVINO with weights, or weights and activations, quantized by NNCF. Opening a session imports no NNCF.

Weights that NNCF compresses are multiplied in two ways: the CPU plugin quantizes activations call by call, in groups,
where the CPU has dot products of int8 (`DYNAMIC_QUANTIZATION_GROUP_SIZE`, 32 by default), or decompresses the weights.
Its execution graph looks the same both times, so `Int8Dynamic` proves by numbers that the first happens.
"""

from __future__ import annotations

import logging
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as operations

from storage import errors, strategies
from worker.engine import libraries
from worker.engine.strategies import base, openvino

_ON_ARM = platform.machine() == "aarch64"

_GROUP = "18446744073709551615" if _ON_ARM else "32"
"""Activations of a row that share a scale: the plugin's default; KleidiAI's kernels for Arm take whole rows only."""

_FLOAT_ACTIVATIONS = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}

_LEAST_GROUP = 16
"""Smallest group that a row of weights falls back to before it is kept in int8."""

_LOW = {"i8": "int8", "u8": "uint8", "i4": "int4", "u4": "uint4"}
"""OpenVINO's names of the types that weights are compressed to."""


class Quantized(openvino.Compiled):
    """What starts from the float graph."""

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """The converted float graph."""
        return strategies.parse("openvino/fp32")


class Int8WeightOnly(Quantized):
    """`openvino/int8-weight-only`: int8 weights (embeddings too), a scale and zero point a row."""

    properties: Mapping[str, str] = _FLOAT_ACTIVATIONS

    def mode(self) -> str:
        """NNCF's name of the weights' quantization."""
        return "int8_asym"

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """The weights alone: whether activations are quantized is chosen when the graph is compiled."""
        return {"strategy": "openvino/int8-weight-only", "mode": self.mode()}

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Quantize the float graph's weights."""
        return _compress(source, folder, mode=self.mode())


class Int8Dynamic(Int8WeightOnly):
    """`openvino/int8-dynamic`: the same weights, activations quantized call by call."""

    properties: Mapping[str, str] = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP}
    dynamic = True

    def mode(self) -> str:
        """Arm's kernels want weights without zero points."""
        return "int8_sym" if _ON_ARM else super().mode()

    def check(self, core: Any, strategy: strategies.Strategy) -> None:
        """Without such kernels OpenVINO would keep activations in float32 and say nothing."""
        super().check(core, strategy)
        if not quantizes_dynamically(core, self.properties):
            raise errors.Unsupported(
                f"{strategy.name}: OpenVINO does not quantize activations on this CPU (a product with it and one "
                "without it are equal); openvino/int8-weight-only is what would run"
            )


class Int4WeightOnly(Quantized):
    """`openvino/int4-weight-only`: 4-bit weights in groups; embeddings and the last layer in int8, as NNCF does it."""

    properties: Mapping[str, str] = _FLOAT_ACTIVATIONS

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """The group, and the smallest that a row which it does not divide falls back to."""
        return {"strategy": strategy.name, "group": strategy.whole("group"), "least_group": _LEAST_GROUP}

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Quantize the float graph's weights; facts name the groups that they really got."""
        return _compress(source, folder, mode="int4_asym", group=strategy.whole("group"))


class Int8Static(Quantized):
    """`openvino/int8-static`: NNCF's post-training quantization for transformers (SmoothQuant, bias correction)."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """Every option, and the instruction sets: the sample runs in float32 with kernels that differ by them."""
        options = {option.name: strategy.option(option.name) for option in strategy.part.options}
        return {"strategy": strategy.name, **options, "isa": libraries.isa()}

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Run the sample, row by row, through the float graph, and fix the scales."""
        from worker.engine import samples

        sample = samples.of_strategy(source.model, source.dataset, strategy)
        graph = _calibrated(_float_graph(source), sample.calls(), strategy.option("preset"), source.tell)
        openvino.write(graph, folder)
        return _told(source, graph, folder, {"sample": sample.facts})


def quantizes_dynamically(core: Any, properties: Mapping[str, str]) -> bool:
    """Whether a product with compressed weights gives other numbers when activations may be quantized: a probe."""
    rows = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    graph = _probe(signed=_ON_ARM)
    answers = [
        core.compile_model(graph, openvino.DEVICE, {**properties, **more, "INFERENCE_NUM_THREADS": 1})(rows)[0]
        for more in ({}, {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"})
    ]
    return not np.array_equal(*answers)


def stored_weights(graph: Any) -> dict[str, int]:
    """How many weights of each kind a graph holds: the type, and how many values share a scale.

    A weight is a constant of 8 or 4 bits that has more than one column; zero points have one.
    """
    found: Counter[str] = Counter()
    for operation in graph.get_ops():
        name = operation.get_element_type().to_string() if operation.get_type_name() == "Constant" else ""
        shape = list(operation.get_output_shape(0)) if name else []
        low = _LOW.get(name)
        if low is not None and len(shape) > 1 and shape[-1] > 1:
            found[f"{low}, groups of {shape[2]}" if len(shape) == 3 else f"{low}, per channel"] += 1
    return dict(found.most_common())


class Rows(Sequence[Mapping[str, npt.NDArray[np.int64]]]):
    """Calibration calls that tell how far NNCF has come; it goes through them once for each of its algorithms."""

    def __init__(self, calls: Sequence[Mapping[str, npt.NDArray[np.int64]]], tell: base.Tell) -> None:
        self._calls = calls
        self._tell = tell
        self._pass = 0

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, at: Any) -> Any:
        return self._calls[at]

    def __iter__(self) -> Iterator[Mapping[str, npt.NDArray[np.int64]]]:
        self._pass += 1
        for done, call in enumerate(self._calls):
            self._tell({"phase": "calibrate", "pass": self._pass, "done": done, "total": len(self)})
            yield call


def _compress(source: base.Source, folder: Path, *, mode: str, group: int | None = None) -> dict[str, Any]:
    nncf = _nncf()
    more: dict[str, Any] = {}
    if group is not None:
        fallback = nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=_LEAST_GROUP
        )
        more = {"group_size": group, "ratio": 1.0, "advanced_parameters": fallback}
    with openvino.silent():
        graph = nncf.compress_weights(_float_graph(source), mode=nncf.CompressWeightsMode(mode), **more)
        openvino.write(graph, folder)
    asked = {} if group is None else {"group": group}
    return _told(source, graph, folder, asked)


def _calibrated(graph: Any, calls: Sequence[Mapping[str, Any]], preset: str, tell: base.Tell) -> Any:
    nncf = _nncf()
    with openvino.silent():
        return nncf.quantize(
            graph,
            nncf.Dataset(Rows(calls, tell)),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset(preset),
            subset_size=len(calls),
        )


def _told(source: base.Source, graph: Any, folder: Path, more: Mapping[str, Any]) -> dict[str, Any]:
    assert source.base is not None  # noqa: S101  # `builds_on` names it
    facts = {**openvino.read_facts(source.base), "weights": stored_weights(graph), **more}
    openvino.write_facts(folder, facts)
    return facts


def _float_graph(source: base.Source) -> Any:
    assert source.base is not None  # noqa: S101  # `builds_on` names it
    return openvino.read(source.base)


def _nncf() -> Any:
    """NNCF, imported outside `silent`: its log handler would keep the closed file as its stream."""
    import nncf

    # not `nncf.set_log_level`: it changes the handlers too, also those that somebody else shares with this logger
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


def _probe(*, signed: bool) -> Any:
    """One product [rows, 64] × [64, 64] with weights as NNCF compresses them."""
    kind, zero = (np.int8, 0) if signed else (np.uint8, 128)
    values = np.random.default_rng(1).integers(-100, 100, (64, 64)) + zero
    rows = operations.parameter([-1, 64], np.float32)
    weights = operations.convert(operations.constant(values.astype(kind)), "f32")
    if not signed:
        points = operations.constant(np.full((64, 1), zero, dtype=kind))
        weights = operations.subtract(weights, operations.convert(points, "f32"))
    scaled = operations.multiply(weights, operations.constant(np.full((64, 1), 0.01, dtype=np.float32)))
    return ov.Model([operations.matmul(rows, scaled, False, True)], [rows], "probe")
