"""ONNX Runtime on the graph that PyTorch exports. Opening a session imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from storage import errors, strategies
from worker.engine import sessions
from worker.engine.strategies import base, onnx_graphs
from worker.engine.strategies.onnx_graphs import GRAPH


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

    def note(self, **more: Any) -> None:
        """Add to the facts what only this host can tell."""
        self._facts = {**self._facts, **more}

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
    """`onnxruntime/fp32`: exported once for a model; what is optimized or quantized starts from its graph."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """Optimized or not."""
        return {"strategy": strategy.name, "optimize": strategy.flag("optimize")}

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """The optimizer starts from the exported graph, which is made from the model itself."""
        return strategies.parse("onnxruntime/fp32") if strategy.flag("optimize") else None

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Export with dynamic batch and length, or optimize what was exported."""
        if source.base is None:
            facts = _exported(source, folder)
        else:
            from worker.engine.strategies import onnx_optimizer

            facts = onnx_optimizer.optimize(source.base, folder)
        onnx_graphs.write_recipe(folder, strategy, facts)
        return facts

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> OnnxSession:
        """A session over the stored graph; ONNX Runtime optimizes it for this CPU while loading."""
        options = onnx_graphs.session_options(threads)
        try:
            session = onnxruntime.InferenceSession(folder / GRAPH, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # the bindings' exceptions have no common root
            raise _opening(folder, exc) from exc
        told = session.get_session_options()
        facts = {
            **onnx_graphs.read_facts(folder),
            "providers": session.get_providers(),
            "spinning": _spinning(told),
            "inter_op_threads": told.inter_op_num_threads,
        }
        return OnnxSession(session, told.intra_op_num_threads, facts)


def _exported(source: base.Source, folder: Path) -> dict[str, Any]:
    from worker.engine import models

    model = models.load(source.model)
    with onnx_graphs.silent():
        opset = _export(model, models.input_names(model.config), folder / GRAPH)
    nodes = dict(onnx_graphs.optimized(folder / GRAPH).nodes)
    return {"opset": opset, "nodes": nodes, **models.facts(source.model, model)}


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
