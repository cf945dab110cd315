"""Static quantization of a float graph: which operators, which ranges, and ONNX Runtime's quantizer on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storage import errors
from worker.engine.strategies import base, onnx_calibration, onnx_graphs

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

PRODUCTS = ("MatMul", "Gemm")
"""What `operators=matmul` quantizes."""

FORBIDDEN = -1e4
"""A constant at or below it, chosen by a Where, forbids an attention: the masks of all exporters and models here."""

METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
"""Option value → ONNX Runtime's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """How a graph is quantized."""

    method: str  # a key of METHODS
    operators: str  # "all", "matmul"
    per_channel: bool
    reduce_range: bool


def quantize(graph: Path, target: Path, order: Order, calls: onnx_calibration.Calls, tell: base.Tell) -> dict[str, Any]:
    """Write the quantized graph; returns facts.

    `graph` must be a copy: files are written beside it. Raises ModelError when nothing finite can be quantized.
    """
    from onnxruntime.quantization import QuantType, calibrate, quantize_static

    work, method = graph.parent, calibrate.CalibrationMethod[METHODS[order.method]]
    model = _inferred(graph)
    kinds = PRODUCTS if order.operators == "matmul" else _all_kinds()
    masking = mask_nodes(model)
    wanted = [node for node in model.graph.node if node.op_type in kinds and node.name not in masking]
    found = onnx_calibration.extremes(model, _floats(model, wanted), calls, work, _telling(tell, order.method, 1))
    finite = {name: values for name, values in found.items() if np.isfinite(values).all()}
    if not finite:
        raise errors.ModelError("no activation of this model is finite on the calibration sample")
    left = masking | {node.name for node in wanted if _names(node) & (found.keys() - finite.keys())}
    if order.method == "minmax":
        ranges: Mapping[str, Any] = finite
    else:
        told = _telling(tell, order.method, 2)
        ranges = onnx_calibration.distributions(model, finite, order.method, calls, work, told)
    calibrate.save_tensors_data(calibrate.TensorsData(method, dict(ranges)), work / "ranges.json")
    quantize_static(
        graph,
        target,
        op_types_to_quantize=list(kinds),
        nodes_to_exclude=sorted(left),
        per_channel=order.per_channel,
        reduce_range=order.reduce_range,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        use_external_data_format=onnx_graphs.is_split(work),
        calibrate_method=method,
        calibration_cache_path=work / "ranges.json",
    )
    return {
        "activations": "uint8",
        "weights": "int8, 7 bits of it" if order.reduce_range else "int8",
        "reduce_range": order.reduce_range,
        "calibration": {
            "method": order.method,
            "tensors": len(ranges),
            "calls": "one row each, without padding",
            "left_in_float": sum(node.op_type in kinds and node.name in left for node in model.graph.node),
            **_details(order.method),
        },
    }


def mask_nodes(model: ModelProto) -> set[str]:
    """Names of the nodes between an attention mask's making and the softmax that obeys it, both included.

    A mask forbids with minus infinity, or the least float32. Quantized beside scores of size one, either the scores
    would be lost, or (ranges taken on rows without padding) the mask would: padding would be attended to.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    reached: set[str] = set()
    names: set[str] = set()
    for node in model.graph.node:  # in topological order, as ONNX demands
        begins = node.op_type == "Where" and any(_forbids(constants.get(name)) for name in node.input[1:])
        if begins or reached.intersection(node.input):
            names.add(node.name)
            if node.op_type != "Softmax":
                reached.update(node.output)
    return names


def _forbids(tensor: TensorProto | None) -> bool:
    from onnx import numpy_helper

    if tensor is None or len(tensor.dims) > 1 or tensor.data_location:  # a matrix, or kept in a file of its own
        return False
    value = numpy_helper.to_array(tensor)
    return value.size == 1 and bool(np.issubdtype(value.dtype, np.floating)) and float(value.min()) <= FORBIDDEN


def _inferred(graph: Path) -> ModelProto:
    """The graph with the types of its float tensors, every node with a name; written back, its weights not loaded.

    Types come from ONNX Runtime: ONNX's own inference knows no fused operators, and the symbolic one of the
    quantization tools gives up on graphs of PyTorch's dynamo exporter.
    """
    import onnx

    model = onnx.load(graph, load_external_data=False)
    for at, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}/{at}"
    infos = onnx_calibration.float_tensors(model, graph.parent)
    del model.graph.value_info[:]
    model.graph.value_info.extend(infos)
    onnx.save(model, graph)
    return model


def _all_kinds() -> tuple[str, ...]:
    """Every operator that ONNX Runtime's quantizer knows."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return tuple(sorted({*QDQRegistry, *QLinearOpsRegistry}))


def _floats(model: ModelProto, nodes: Sequence[NodeProto]) -> list[str]:
    """The activations in float32 that these nodes read or write, sorted."""
    from onnx import TensorProto

    constants = {tensor.name for tensor in model.graph.initializer}
    infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    floats = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT}
    return sorted({name for node in nodes for name in _names(node)} & floats - constants)


def _names(node: NodeProto) -> set[str]:
    return {*node.input, *node.output}


def _telling(tell: base.Tell, method: str, turn: int) -> onnx_calibration.Told:
    """Progress over all passes."""
    passes = 1 if method == "minmax" else 2

    def told(done: int, total: int) -> None:
        tell({"phase": "calibrating", "done": (turn - 1) * total + done, "total": passes * total})

    return told


def _details(method: str) -> dict[str, Any]:
    if method == "minmax":
        return {}
    details: dict[str, Any] = {"bins": onnx_calibration.BINS[method]}
    return details | ({"percentile": onnx_calibration.PERCENTILE} if method == "percentile" else {})
