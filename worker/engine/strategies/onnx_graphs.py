"""ONNX graphs in artifacts: their files, and what ONNX Runtime makes of them on this CPU."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from storage import strategies

if TYPE_CHECKING:
    import onnx

GRAPH = "model.onnx"
RECIPE = "recipe.json"
PROBE = "int8-probe.onnx"

INT8_KERNELS = (
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "MatMulInteger",
    "QGemm",
    "QAttention",
    "QLinearMatMul",
)
"""Node types of the optimized graph that multiply in int8."""

BLOCK_KERNELS = ("MatMulNBits",)
"""Node types that multiply activations by weights stored in few bits, a scale for each block."""

_TERMS, _WEIGHT = 32, 127

_EXTERNAL = "session.optimized_model_external_initializers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimized:
    """The graph that ONNX Runtime really runs here, after its optimizations for this CPU."""

    nodes: Mapping[str, int]  # node type → how many, most frequent first
    layers: Mapping[str, int]  # the same, of nodes that take a matrix of constants: those with weights

    def count(self, kernels: tuple[str, ...]) -> int:
        """Nodes of these types that multiply by weights: quantized layers."""
        return sum(self.layers.get(name, 0) for name in kernels)

    def products(self, kernels: tuple[str, ...]) -> int:
        """Nodes of these types that multiply activations by activations: attention's own products."""
        return sum(self.nodes.get(name, 0) for name in kernels) - self.count(kernels)


def optimized(graph: Path) -> Optimized:
    """What runs, as ONNX Runtime itself writes it down; raises what its bindings raise for a graph it cannot load."""
    with tempfile.TemporaryDirectory(dir=graph.parent) as folder:
        written = Path(folder) / GRAPH
        options = session_options(1)
        options.optimized_model_filepath = str(written)
        # apart from the graph, so that a graph of more than 2 GB can be written
        options.add_session_config_entry(f"{_EXTERNAL}_file_name", "weights")
        options.add_session_config_entry(f"{_EXTERNAL}_min_size_in_bytes", "1024")
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        import onnx

        return _counted(onnx.load(written, load_external_data=False).graph)


def _counted(graph: onnx.GraphProto) -> Optimized:
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
    weighted = [node.op_type for node in graph.node if matrices.intersection(node.input)]
    nodes = Counter(node.op_type for node in graph.node)
    return Optimized(nodes=dict(nodes.most_common()), layers=dict(Counter(weighted).most_common()))


def write_probe(folder: Path) -> None:
    """Put the graph that `int8_sums` runs beside a quantized one, so that a session needs no library to make it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.full((_TERMS, 4), _WEIGHT, dtype=np.int8), "weight")
    given = helper.make_tensor_value_info("given", TensorProto.UINT8, [1, _TERMS])
    sums = helper.make_tensor_value_info("sums", TensorProto.INT32, [1, 4])
    node = helper.make_node("MatMulInteger", ["given", "weight"], ["sums"])
    graph = helper.make_graph([node], "probe", [given], [sums], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), folder / PROBE)


def int8_sums(folder: Path) -> str:
    """Whether this CPU's int8 kernels add up exactly ("exact"), or clip sums of two products to 16 bits ("saturating").

    Found out by multiplying the largest values. x86-64 without VNNI saturates; `reduce_range` avoids it.
    """
    session = onnxruntime.InferenceSession(folder / PROBE, session_options(1), providers=["CPUExecutionProvider"])
    sums: Any = session.run(None, {"given": np.full((1, _TERMS), 255, dtype=np.uint8)})[0]
    return "exact" if (sums == 255 * _WEIGHT * _TERMS).all() else "saturating"


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """What every session of this project is opened with, for a number of intra-op threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors; a warning per optimization otherwise
    return options


def is_split(folder: Path) -> bool:
    """Whether an artifact's weights are in a file of their own, as they are from 2 GB on."""
    return any(path.name.startswith(f"{GRAPH}.") for path in folder.iterdir())


@contextmanager
def copied(folder: Path, into: Path) -> Iterator[Path]:
    """A copy of an artifact's graph: the quantizers write files beside the one that they read."""
    with tempfile.TemporaryDirectory(dir=into) as work:
        for path in folder.glob(f"{GRAPH}*"):
            shutil.copy(path, work)
        yield Path(work) / GRAPH


def write_recipe(folder: Path, strategy: strategies.Strategy, facts: Mapping[str, Any]) -> None:
    """Keep facts beside a graph, for sessions and for what is built from it."""
    (folder / RECIPE).write_text(json.dumps({"strategy": strategy.name, "facts": dict(facts)}, indent=1))


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts that `write_recipe` kept."""
    facts: dict[str, Any] = json.loads((folder / RECIPE).read_text())["facts"]
    return facts


@contextmanager
def silent() -> Iterator[None]:
    """The exporter prints its progress, the quantizers advise on the root logger, one sets it up when imported."""
    root = logging.root
    before, handlers, level = root.manager.disable, list(root.handlers), root.level
    logging.disable(logging.WARNING)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.disable(before)
