"""OpenVINO's CPU plugin on the graph that it converts from PyTorch. Opening a session imports no PyTorch."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from storage import errors, strategies
from worker.engine import libraries, sessions, signal_stack
from worker.engine.strategies import base, openvino_report

GRAPH = "model.xml"
"""The intermediate representation; its weights lie beside it in model.bin."""

RECIPE = "recipe.json"
DEVICE = "CPU"


class OpenVinoSession:
    """A model that is compiled for the CPU, with one stream."""

    def __init__(self, compiled: Any, facts: Mapping[str, Any], *, dynamic: bool = False) -> None:
        self._compiled = compiled
        self._dynamic = dynamic
        self._inputs = tuple(port.get_any_name() for port in compiled.inputs)
        self._opened = dict(facts)
        self._executed: dict[str, Any] | None = None

    @property
    def threads(self) -> int:
        """The compiled model's own property: fewer than asked for where the process may use fewer CPUs."""
        return int(self._compiled.get_property("INFERENCE_NUM_THREADS"))

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was asked for as it reads back, and what the execution graph says; read once, after the first call.

        The plugin chooses kernels by the first call's shape. Where there was none yet, a short one is made.
        """
        if self._executed is None:
            self._executed = openvino_report.facts(self._nodes(), dynamic=self._dynamic)
        return {**self._opened, **self._executed}

    def calling(self) -> AbstractContextManager[object]:
        """Nothing to enter."""
        return nullcontext()

    def bind(self, call: sessions.Call) -> Callable[[], object]:
        """An inference request whose input tensors are set; calling it copies nothing but the logits."""
        request = self._compiled.create_infer_request()
        for name in self._inputs:
            request.set_tensor(name, ov.Tensor(np.array(call[name], dtype=np.int64, order="C")))
        run: Callable[[], object] = request.infer
        return run

    def logits(self, call: sessions.Call) -> npt.NDArray[np.float32]:
        """[batch, classes]."""
        answer = self._compiled({name: np.array(call[name], dtype=np.int64, order="C") for name in self._inputs})
        return np.asarray(answer[0], dtype=np.float32)

    def multiplies_in(self, precision: str) -> bool:
        """Whether the execution graph has matrix products of that precision."""
        found = openvino_report.nodes(self._compiled)
        return any(node.is_product and node.operands[0] == precision for node in found)

    def _nodes(self) -> Sequence[openvino_report.Node]:
        found = openvino_report.nodes(self._compiled)
        if openvino_report.is_settled(found):
            return found
        self.logits(dict.fromkeys(self._inputs, np.ones((1, 4), dtype=np.int64)))
        return openvino_report.nodes(self._compiled)


class Compiled:
    """What every precision has in common: a stored graph is compiled for this CPU when it is opened."""

    properties: Mapping[str, str] = {"INFERENCE_PRECISION_HINT": "f32"}
    """What is asked of the plugin beyond threads; opening is refused where one reads back as something else."""

    dynamic = False  # activations are quantized inside the products

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> OpenVinoSession:
        """Compile the stored graph; OpenVINO keeps no cache of it."""
        with signal_stack.kept():
            core = ov.Core()
            self.check(core, strategy)
            compiled = _compile(core, folder, threads, self.properties)
        _require(compiled, strategy, self.properties)
        facts = {**read_facts(folder), **_settings(compiled, self.properties)}
        return OpenVinoSession(compiled, facts, dynamic=self.dynamic)

    def check(self, core: Any, strategy: strategies.Strategy) -> None:
        """Raise Unsupported where this CPU is known not to do what the strategy says; OpenVINO itself would not."""
        needed = strategy.part.needs_isa
        if needed and not set(needed) & set(libraries.isa()):
            raise errors.Unsupported(f"{strategy.name} needs {' or '.join(needed)}, which this CPU lacks")


class Float32(Compiled):
    """`openvino/fp32`: converted once for a model; what is quantized later starts from its graph."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """One graph for all floating-point precisions: these are chosen when it is compiled."""
        return {"strategy": "openvino/fp32"}

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """Made from the model itself."""
        return None

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Convert with dynamic batch and length, weights in float32."""
        from worker.engine import models

        model = models.load(source.model)
        names = models.input_names(model.config)
        with silent():
            graph = _converted(source.model.name, model, names)
            write(graph, folder)
        facts = models.facts(source.model, model)
        write_facts(folder, facts)
        return facts


class BFloat16(Float32):
    """`openvino/bf16`: float32 weights on disk, products in bfloat16."""

    properties: Mapping[str, str] = {"INFERENCE_PRECISION_HINT": "bf16"}

    def check(self, core: Any, strategy: strategies.Strategy) -> None:
        """Without bfloat16 OpenVINO would take float32 and say nothing."""
        super().check(core, strategy)
        if "BF16" not in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
            raise errors.Unsupported(f"{strategy.name}: OpenVINO computes in no bfloat16 on this CPU, only in float32")

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> OpenVinoSession:
        """As for float32; the execution graph must have matrix products of bfloat16."""
        session = super().open(folder, strategy, threads)
        if not session.multiplies_in("bf16"):
            raise errors.Unsupported(f"{strategy.name}: OpenVINO's execution graph has no product in bfloat16 here")
        return session


def read(folder: Path) -> Any:
    """The stored graph of an artifact, with its weights mapped."""
    return ov.Core().read_model(folder / GRAPH)


def write(graph: Any, folder: Path) -> None:
    """Store a graph with its constants as they are: `save_model` would halve float32 by itself."""
    ov.save_model(graph, folder / GRAPH, compress_to_fp16=False)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Keep facts in the artifact. No strategy is named: several may share it."""
    (folder / RECIPE).write_text(json.dumps({"facts": dict(facts)}, indent=1))


def read_facts(folder: Path) -> dict[str, Any]:
    """What `write_facts` kept."""
    facts: dict[str, Any] = json.loads((folder / RECIPE).read_text())["facts"]
    return facts


def _compile(core: Any, folder: Path, threads: int, properties: Mapping[str, str]) -> Any:
    graph = folder / GRAPH
    _require_graph(graph)
    usual = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": threads, "CACHE_DIR": ""}
    try:
        return core.compile_model(graph, DEVICE, {**usual, **properties})
    except Exception as exc:  # the bindings' exceptions have no common root
        raise _opening(graph, exc) from exc


def _require_graph(graph: Path) -> None:
    """Refuse what is no graph: OpenVINO would try the readers of all other formats on it, some of which print."""
    try:
        with graph.open("rb") as stream:
            begins = stream.read(512)
    except OSError as exc:
        raise errors.ModelError(f"OpenVINO's graph {graph} cannot be read: {exc}") from exc
    if not begins.startswith(b"<?xml") or b"<net" not in begins:
        raise errors.ModelError(f"{graph} is damaged: it does not begin as an OpenVINO graph")


def _opening(graph: Path, exc: Exception) -> Exception:
    """Lack of memory is told apart from a damaged graph."""
    text = str(exc).strip()
    if isinstance(exc, MemoryError) or "bad_alloc" in text or "allocate" in text:
        return MemoryError(text)
    return errors.ModelError(f"OpenVINO cannot load {graph}: {text.splitlines()[-1] if text else type(exc).__name__}")


def _require(compiled: Any, strategy: strategies.Strategy, properties: Mapping[str, str]) -> None:
    for name, asked in properties.items():
        told = _told(compiled, name)
        if told != asked:
            raise errors.Unsupported(f"{strategy.name}: OpenVINO takes {name} {told} here where {asked} was asked for")


def _settings(compiled: Any, asked: Mapping[str, str]) -> dict[str, Any]:
    """The plugin's settings in force, as it reports them."""
    return {
        **{name.lower(): _told(compiled, name) for name in asked},
        "streams": int(compiled.get_property("NUM_STREAMS")),
        "pinning": bool(compiled.get_property("ENABLE_CPU_PINNING")),
        "runtime_requirements": _told(compiled, "RUNTIME_REQUIREMENTS"),
    }


def _told(compiled: Any, name: str) -> str:
    value = compiled.get_property(name)
    return str(value.get_type_name() if isinstance(value, ov.Type) else value)


def _converted(name: str, model: Any, inputs: tuple[str, ...]) -> Any:
    """The classifier as a graph from named inputs [batch, length] to `logits`; ModelError where it cannot be made."""
    import torch

    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in inputs)
    free = [ov.PartialShape([-1, -1]) for _ in inputs]
    try:
        graph = ov.convert_model(_logits_of(model, inputs), example_input=example, input=free)
    except MemoryError:
        raise
    except Exception as exc:  # of PyTorch's tracer and of the converter, without a common root
        raise errors.ModelError(f"OpenVINO cannot convert model {name!r}: {_last_line(exc)}") from exc
    for port, wanted in zip(graph.inputs, inputs, strict=True):
        port.get_tensor().set_names({wanted})
    graph.outputs[0].get_tensor().set_names({"logits"})
    return graph


def _last_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[-1] if lines else type(exc).__name__


def _logits_of(model: Any, inputs: tuple[str, ...]) -> Any:
    import torch

    class Logits(torch.nn.Module):
        """The classifier with inputs by position and one output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.model(**dict(zip(inputs, values, strict=True))).logits
            return answer

    return Logits().eval()


@contextmanager
def silent() -> Iterator[None]:
    """For the converter and NNCF: they log, NNCF draws progress bars, and its engines leave signal stacks."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
            signal_stack.kept(),
        ):
            yield
    finally:
        logging.disable(before)
