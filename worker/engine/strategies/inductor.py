"""torch.compile ahead of time, with floating-point weights; and what all strategies of the runtime have in common.

An artifact holds safe weights and a recipe, as torch's do. Its code is compiled while it is prepared and kept beside
it (`inductor_code`), so that opening it runs no compiler, imports no part of one, and traces nothing.
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from storage import errors, strategies
from worker.engine import checkpoints, libraries, models, onednn, sessions
from worker.engine.strategies import base, inductor_code, torch_float


class CompiledSession:
    """A classifier as compiled code."""

    def __init__(self, runner: Any, inputs: Sequence[str], facts: Mapping[str, Any]) -> None:
        self._runner = runner
        self.inputs = tuple(inputs)
        self._facts = facts

    @property
    def threads(self) -> int:
        """The intra-op threads that torch says it uses; compiled loops take the same OpenMP setting."""
        return torch.get_num_threads()

    @property
    def facts(self) -> Mapping[str, Any]:
        """Operators of the compiled code, vector instructions, constants."""
        return self._facts

    def calling(self) -> contextlib.AbstractContextManager[object]:
        """Inference mode, as for eager torch."""
        return torch.inference_mode()

    def bind(self, call: sessions.Call) -> Callable[[], object]:
        """A call over tensors that are already torch's, to be made inside `calling`."""
        tensors = [torch.from_numpy(np.array(call[name], dtype=np.int64)) for name in self.inputs]
        run = self._runner.run
        return lambda: run(tensors)

    def logits(self, call: sessions.Call) -> npt.NDArray[np.float32]:
        """[batch, classes], converted to float32."""
        with self.calling():
            answer: Any = self.bind(call)()
        values: npt.NDArray[np.float32] = answer[0].float().numpy()
        return values


class Compiled(ABC):
    """What the strategies of this runtime share; each says what its artifact holds and how a graph comes from it."""

    options: Mapping[str, Any] = MappingProxyType({})  # of the compilation, beside `inductor_code.OPTIONS`

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """Options and instruction sets: preparing compiles for this CPU, and some choose ranges by it."""
        return {"strategy": strategy.name, "options": dict(strategy.options), "isa": libraries.isa()}

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """Made from the model itself."""
        return None

    @abstractmethod
    def write(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Write a checkpoint with `inputs` in its recipe; returns facts."""

    @abstractmethod
    def graph(self, folder: Path, strategy: strategies.Strategy) -> torch.nn.Module:
        """The module to compile, from an artifact's files alone: inputs by position, logits out."""

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Write the artifact and compile its code; what it runs is read from a first call."""
        inductor_code.require_compiler()
        facts = self.write(source, strategy, folder)
        inductor_code.seal(folder)
        source.tell({"phase": "compiling"})
        session = self.open(folder, strategy, torch.get_num_threads())
        return {**facts, **session.facts, "kernels": kernels(session)}

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> CompiledSession:
        """Load the compiled code; `settle` has seen to it that it is there, otherwise it is compiled now."""
        torch_float.set_threads(threads)
        recipe = json.loads((folder / checkpoints.RECIPE).read_text())
        found = self._code(folder, strategy)
        runner = _load(found.library)
        facts = {
            **recipe["facts"],
            **found.facts,
            "constants": constants(runner),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        }
        return CompiledSession(runner, recipe["inputs"], facts)

    def settle(self, folder: Path, strategy: strategies.Strategy) -> None:
        """Compile the code of an artifact that came without it, or whose code is damaged."""
        self._code(folder, strategy)

    def _code(self, folder: Path, strategy: strategies.Strategy) -> inductor_code.Code:
        packages, options = strategy.part.packages, self.options
        return inductor_code.code(folder, packages, options, lambda: self._compilable(folder, strategy))

    def _compilable(self, folder: Path, strategy: strategies.Strategy) -> inductor_code.Graph:
        recipe = json.loads((folder / checkpoints.RECIPE).read_text())
        return inductor_code.Graph(
            module=self.graph(folder, strategy),
            inputs=len(recipe["inputs"]),
            longest=recipe["longest"],
        )


class Float32(Compiled):
    """`inductor/fp32`."""

    dtype: torch.dtype = torch.float32

    def write(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """The model's state with its floating-point tensors in this class's dtype."""
        model = models.load(source.model).to(self.dtype)
        facts = {"dtype": str(self.dtype).removeprefix("torch."), **models.facts(source.model, model)}
        write_checkpoint(folder, strategy, model.config, dict(model.state_dict(keep_vars=True)), facts)
        return facts

    def graph(self, folder: Path, strategy: strategies.Strategy) -> torch.nn.Module:
        """The model with its weights as they are stored."""
        checkpoint = checkpoints.read(folder)
        model = checkpoints.empty_model(folder)
        model.load_state_dict(checkpoint.tensors, strict=True, assign=True)
        return Logits(model.requires_grad_(False), checkpoint.recipe["inputs"])


class BFloat16(Float32):
    """`inductor/bf16`: weights and activations in bfloat16."""

    dtype = torch.bfloat16


class Logits(torch.nn.Module):
    """A classifier that takes its inputs by position and returns only its logits."""

    def __init__(self, model: torch.nn.Module, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model.eval()
        self._inputs = tuple(inputs)
        self.eval()

    def forward(self, *call: torch.Tensor) -> torch.Tensor:
        """Inputs [batch, length] in the order given; logits [batch, classes]."""
        answer: torch.Tensor = self.model(**dict(zip(self._inputs, call, strict=True))).logits
        return answer


def write_checkpoint(
    folder: Path,
    strategy: strategies.Strategy,
    config: Any,
    tensors: dict[str, torch.Tensor],
    facts: Mapping[str, Any],
    **more: Any,
) -> None:
    """An artifact's files, with what `Compiled` reads from its recipe."""
    recipe = {
        "strategy": strategy.name,
        "inputs": list(models.input_names(config)),
        "longest": models.longest_input(config),
        "facts": dict(facts),
        **more,
    }
    checkpoints.write(folder, checkpoints.Checkpoint(tensors=tensors, recipe=recipe), config)


def kernels(session: CompiledSession) -> dict[str, int]:
    """The oneDNN kernels that one call really runs, and how often, as oneDNN itself reports them.

    Each as `primitive implementation source×weight`, types in oneDNN's words. What is no oneDNN kernel (loops that
    inductor generated, attention, ATen's own operators) is not among them; `operators` of the session's facts is.
    """
    probe = {name: np.ones((1, 4), dtype=np.int64) for name in session.inputs}
    session.logits(probe)
    return onednn.kernels(lambda: session.logits(probe))


def constants(runner: Any) -> dict[str, int]:
    """Weights that the loaded code holds, by type; `packed` ones were laid out for oneDNN by freezing."""
    held = runner.extract_constants_map(False).values()
    names = (str(tensor.dtype).removeprefix("torch.") + (" packed" if tensor.is_mkldnn else "") for tensor in held)
    return dict(Counter(names).most_common())


def _load(library: Path) -> Any:
    """The code in memory; the folder is only read."""
    try:
        return torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), 1)
    except RuntimeError as exc:
        if "memory" in str(exc) or "alloc" in str(exc):
            raise
        raise errors.Unsupported(f"compiled code {library} cannot be loaded on this host: {exc}") from exc
