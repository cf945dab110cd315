"""ONNX Runtime on the graph that PyTorch exports. Opening a session imports neither torch nor transformers."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from storage import errors, strategies
from worker.engine import sessions
from worker.engine.strategies import base

GRAPH = "model.onnx"
RECIPE = "recipe.json"

INT8_KERNELS = (
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "MatMulInteger",
    "QGemm",
    "QAttention",
    "QLinearMatMul",
)
"""Node types of the optimized graph that multiply in int8."""


class OnnxSession:
    """An ONNX Runtime CPU session."""

    def __init__(self, session: onnxruntime.InferenceSession, threads: int, facts: Mapping[str, Any]) -> None:
        self._session = session
        self._threads = threads
        self._facts = facts
        self._inputs = tuple(node.name for node in session.get_inputs())
        self._outputs = [node.name for node in session.get_outputs()]

    @property
    def threads(self) -> int:
        """Intra-op threads of the session's own options."""
        return self._threads

    @property
    def facts(self) -> Mapping[str, Any]:
        """Providers, spinning, node types of the optimized graph."""
        return self._facts

    def calling(self) -> AbstractContextManager[object]:
        """Nothing to enter."""
        return nullcontext()

    def bind(self, call: sessions.Call) -> Callable[[], object]:
        """A call over contiguous int64 arrays, which ONNX Runtime reads without copying."""
        feeds = {name: np.array(call[name], dtype=np.int64, order="C") for name in self._inputs}
        run, outputs = self._session.run, self._outputs
        return lambda: run(outputs, feeds)

    def logits(self, call: sessions.Call) -> npt.NDArray[np.float32]:
        """[batch, classes]."""
        answer: Any = self.bind(call)()
        values: npt.NDArray[np.float32] = np.asarray(answer[0], dtype=np.float32)
        return values


class Float32:
    """`onnxruntime/fp32`: exported once for a model; what is quantized later starts from its graph."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """The name alone: there are no options."""
        return {"strategy": strategy.name}

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """Made from the model itself."""
        return None

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Export with dynamic batch and length."""
        from worker.engine import models

        model = models.load(source.model)
        names = models.input_names(model.config)
        with _silent():
            opset = _export(model, names, folder / GRAPH)
        facts = {"opset": opset, "nodes": node_types(folder / GRAPH), **models.facts(source.model, model)}
        _write_recipe(folder, strategy, facts)
        return facts

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> OnnxSession:
        """A session over the stored graph; ONNX Runtime optimizes it for this CPU while loading."""
        options = _options(threads)
        try:
            session = onnxruntime.InferenceSession(folder / GRAPH, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # the bindings' exceptions have no common root
            raise _opening(folder, exc) from exc
        told = session.get_session_options()
        facts = {
            **_read_recipe(folder)["facts"],
            "providers": session.get_providers(),
            "spinning": _spinning(told),
            "inter_op_threads": told.inter_op_num_threads,
        }
        return OnnxSession(session, told.intra_op_num_threads, facts)


class Int8Dynamic(Float32):
    """`onnxruntime/int8-dynamic`: int8 weights, embeddings too; activations quantized call by call."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """Per channel or per tensor."""
        return {"strategy": strategy.name, "per_channel": strategy.flag("per_channel")}

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """The exported float graph."""
        return strategies.parse("onnxruntime/fp32")

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Quantize the float graph's weights."""
        assert source.base is not None  # noqa: S101  # `builds_on` above names it
        with _silent():
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(
                source.base / GRAPH,
                folder / GRAPH,
                per_channel=strategy.flag("per_channel"),
                weight_type=QuantType.QInt8,
            )
        nodes = node_types(folder / GRAPH)
        quantized = sum(nodes.get(name, 0) for name in INT8_KERNELS)
        facts = {
            **_read_recipe(source.base)["facts"],
            "nodes": nodes,
            "quantized_layers": quantized,
            "reduce_range": False,
        }
        _write_recipe(folder, strategy, facts)
        return facts


def node_types(graph: Path) -> dict[str, int]:
    """How many nodes of each type ONNX Runtime runs here, after its optimizations for this CPU."""
    optimized = graph.with_suffix(".optimized")
    options = _options(1)
    options.optimized_model_filepath = str(optimized)
    try:
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        import onnx

        counts = Counter(node.op_type for node in onnx.load(optimized, load_external_data=False).graph.node)
        return dict(counts.most_common())
    finally:
        optimized.unlink(missing_ok=True)


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors; a warning per optimization otherwise
    return options


def _spinning(options: onnxruntime.SessionOptions) -> str:
    """Whether idle threads of the pool spin; ONNX Runtime's default, which users get, is left as it is."""
    try:
        return str(options.get_session_config_entry("session.intra_op.allow_spinning"))
    except RuntimeError:
        return "default (on)"


def _export(model: Any, names: tuple[str, ...], path: Path) -> int:
    """Write the graph; returns its opset. Batch and length stay free: the example's batch of 2 is not baked in."""
    import torch

    example = {name: torch.ones(2, 8, dtype=torch.int64) for name in names}
    shapes = {name: {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")} for name in names}
    wrapper = _logits_of(model)
    program = torch.onnx.export(
        wrapper,
        kwargs={"call": example},
        dynamo=True,
        dynamic_shapes={"call": shapes},
        input_names=list(names),
        output_names=["logits"],
        verbose=False,
    )
    if program is None:
        raise errors.ModelError("PyTorch exported no graph")
    program.save(path)
    return int(program.model.opset_imports[""])


def _logits_of(model: Any) -> Any:
    import torch

    class Logits(torch.nn.Module):
        """The classifier as a graph with one output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, call: dict[str, torch.Tensor]) -> torch.Tensor:
            answer: torch.Tensor = self.model(**call).logits
            return answer

    return Logits().eval()


def _opening(folder: Path, exc: Exception) -> Exception:
    """Lack of memory and a missing kernel are told apart from a damaged graph."""
    text = str(exc)
    if "alloc" in text.lower() or "memory" in text.lower():
        return MemoryError(text)
    if "NOT_IMPLEMENTED" in text:
        return errors.Unsupported(f"ONNX Runtime has no kernel on this host: {text}")
    return errors.ModelError(f"ONNX Runtime cannot load {folder / GRAPH}: {text}")


def _write_recipe(folder: Path, strategy: strategies.Strategy, facts: Mapping[str, Any]) -> None:
    (folder / RECIPE).write_text(json.dumps({"strategy": strategy.name, "facts": dict(facts)}, indent=1))


def _read_recipe(folder: Path) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads((folder / RECIPE).read_text())
    return recipe


@contextmanager
def _silent() -> Iterator[None]:
    """The exporter prints its progress, and the quantizer advises on the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(before)
