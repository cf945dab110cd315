"""Activation ranges of a graph on a sample, taken row by row.

Each row runs alone and at its own length: padding would add activations that no answer depends on. The first pass
finds the extremes. The methods that look at a distribution take a second one, which fills a histogram over
[-extreme, extreme]; the range is then chosen by ONNX Runtime's own collector. So memory does not grow with the
sample, and the order of its rows decides nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from worker.engine import inputs
from worker.engine.strategies import onnx_graphs

if TYPE_CHECKING:
    import onnx

Calls = Sequence[Mapping[str, inputs.Ids]]
Range = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # scalars: least, greatest
Told = Callable[[int, int], None]

BINS = {"entropy": 512, "percentile": 2048}
"""Bins of a histogram. ONNX Runtime's own 128 for entropy are as many as int8 has levels: nothing to choose from."""

LEVELS = 128
"""Levels that the entropy method compresses a histogram to, one sign's share of int8's."""

_LEAST = 1e-12
"""Half the width of a histogram of nothing but zeros."""

PERCENTILE = 99.99
"""Per cent of the values that the percentile method keeps, cut evenly from both ends."""


def extremes(model: onnx.ModelProto, tensors: Sequence[str], calls: Calls, work: Path, told: Told) -> dict[str, Range]:
    """The least and the greatest value of each tensor over all calls; the reductions run inside the graph.

    `work` holds the weights of a model that keeps them in a file of their own, and takes files that go with it.
    """
    from onnx import TensorProto, helper

    wanted = [(name, which) for name in tensors for which in ("Min", "Max")]
    nodes = [helper.make_node(f"Reduce{which}", [name], [f"{name}/{which}"], keepdims=0) for name, which in wanted]
    outputs = [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, []) for node in nodes]
    rows = list(_run(model, nodes, outputs, calls, work / "extremes.onnx", told))
    values = np.array(rows, dtype=np.float32).reshape(len(rows), len(tensors), 2)
    lows, highs = values[:, :, 0].min(axis=0), values[:, :, 1].max(axis=0)  # not a number stays one
    return {name: (np.asarray(low), np.asarray(high)) for name, low, high in zip(tensors, lows, highs, strict=True)}


def distributions(
    model: onnx.ModelProto, ranges: Mapping[str, Range], method: str, calls: Calls, work: Path, told: Told
) -> dict[str, Any]:
    """Ranges chosen by `method` ("entropy", "percentile") from histograms, as ONNX Runtime's quantizer takes them."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    outputs = [info for info in _infos(model) if info.name in ranges]
    widest = {name: max(abs(float(low)), abs(float(high)), _LEAST) for name, (low, high) in ranges.items()}
    counts = {info.name: np.zeros(BINS[method], dtype=np.int64) for info in outputs}
    for values in _run(model, [], outputs, calls, work / "distributions.onnx", told):
        for output, value in zip(outputs, values, strict=True):
            counts[output.name] += _histogram(value, BINS[method], widest[output.name])
    collector = HistogramCollector(method, False, BINS[method], LEVELS, PERCENTILE, "same")
    for name, (low, high) in ranges.items():
        edges = np.linspace(-widest[name], widest[name], BINS[method] + 1, dtype=np.float32)
        collector.histogram_dict[name] = (counts[name], edges, low, high, np.float32(widest[name]))
    chosen: dict[str, Any] = collector.compute_collection_result()
    return chosen


def _histogram(values: npt.NDArray[np.float32], bins: int, widest: float) -> npt.NDArray[np.int64]:
    """Values counted in even bins over [-widest, widest]; many times faster than NumPy's own on small arrays."""
    at = ((values.ravel() + np.float32(widest)) * np.float32(bins / (2 * widest))).astype(np.int64)
    return np.bincount(np.clip(at, 0, bins - 1), minlength=bins)


def float_tensors(model: onnx.ModelProto, work: Path) -> list[onnx.ValueInfoProto]:
    """The float32 tensors inside the graph, with the shapes that the runtime infers."""
    import onnx
    from onnx import TensorProto, helper

    present = {output.name for output in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name and name not in present]
    session = _session(_saved(model, [], [onnx.ValueInfoProto(name=name) for name in made], work / "types.onnx"))
    return [
        helper.make_tensor_value_info(output.name, TensorProto.FLOAT, output.shape)
        for output in session.get_outputs()
        if output.type == "tensor(float)" and output.name not in present
    ]


def _infos(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What is known of the graph's tensors, each once."""
    graph = model.graph
    return list({info.name: info for info in (*graph.value_info, *graph.input, *graph.output)}.values())


def _run(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[onnx.ValueInfoProto],
    calls: Calls,
    path: Path,
    told: Told,
) -> Iterator[list[Any]]:
    """The values of these outputs, call by call, of the model with these nodes more."""
    session = _session(_saved(model, nodes, outputs, path))
    taken, names = [node.name for node in session.get_inputs()], [output.name for output in outputs]
    for done, call in enumerate(calls, 1):
        yield session.run(names, {name: call[name] for name in taken})
        told(done, len(calls))


def _saved(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], outputs: Sequence[onnx.ValueInfoProto], path: Path
) -> Path:
    """A file of the model with more nodes and more outputs."""
    import onnx

    more = onnx.ModelProto()
    more.CopyFrom(model)
    more.graph.node.extend(nodes)
    present = {output.name for output in model.graph.output}
    more.graph.output.extend(output for output in outputs if output.name not in present)
    onnx.save(more, path)
    return path


def _session(path: Path) -> onnxruntime.InferenceSession:
    """A session whose threads end with it, over nodes none of which is fused away: those have no values to look at."""
    options = onnx_graphs.session_options(len(os.sched_getaffinity(0)))
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
