"""PyTorch eager with floating-point weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from storage import strategies
from worker.engine import checkpoints, models, sessions
from worker.engine.strategies import base


class TorchSession:
    """A transformers classifier in eager PyTorch."""

    def __init__(self, model: torch.nn.Module, inputs: tuple[str, ...], facts: Mapping[str, Any]) -> None:
        self._model = model
        self.inputs = inputs
        self._facts = facts

    @property
    def threads(self) -> int:
        """The intra-op threads that torch says it uses."""
        return torch.get_num_threads()

    @property
    def facts(self) -> Mapping[str, Any]:
        """Dtype, engine, layer types, attention implementation."""
        return self._facts

    def calling(self) -> contextlib.AbstractContextManager[object]:
        """Inference mode, entered once around many calls: entering it in each would cost 10 µs of what is timed."""
        return torch.inference_mode()

    def bind(self, call: sessions.Call) -> Callable[[], object]:
        """A call over tensors that are already torch's, to be made inside `calling`."""
        tensors = {name: torch.from_numpy(np.array(call[name], dtype=np.int64)) for name in self.inputs}
        model = self._model

        def run() -> object:
            return model(**tensors)

        return run

    def logits(self, call: sessions.Call) -> npt.NDArray[np.float32]:
        """[batch, classes], converted to float32."""
        with self.calling():
            answer: Any = self.bind(call)()
        values: npt.NDArray[np.float32] = answer.logits.float().numpy()
        return values


class Float32:
    """`torch/fp32`: float32 whatever the checkpoint says."""

    dtype: torch.dtype = torch.float32

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """The name alone: there are no options."""
        return {"strategy": strategy.name}

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """Made from the model itself."""
        return None

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Write the model's state with its floating-point tensors in this class's dtype."""
        model = models.load(source.model)
        state = {name: _cast(tensor, self.dtype) for name, tensor in model.state_dict(keep_vars=True).items()}
        facts = {"dtype": str(self.dtype).removeprefix("torch."), **models.facts(source.model, model)}
        recipe = {"strategy": strategy.name, "inputs": list(models.input_names(model.config)), "facts": facts}
        checkpoints.write(folder, checkpoints.Checkpoint(tensors=state, recipe=recipe), model.config)
        return facts

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> TorchSession:
        """Load the weights as they are stored."""
        set_threads(threads)
        checkpoint = checkpoints.read(folder)
        model = checkpoints.empty_model(folder)
        model.load_state_dict(checkpoint.tensors, strict=True, assign=True)
        return session(model.requires_grad_(False), checkpoint, {})


class BFloat16(Float32):
    """`torch/bf16`: weights and activations in bfloat16; buffers outside the state keep their dtype."""

    dtype = torch.bfloat16


class Float16(Float32):
    """`torch/fp16`: weights and activations in float16, whose largest number is 65504; buffers as for bf16."""

    dtype = torch.float16


def session(model: torch.nn.Module, checkpoint: checkpoints.Checkpoint, facts: Mapping[str, Any]) -> TorchSession:
    """A session over a loaded model, with what is in it."""
    told = {
        **checkpoint.recipe["facts"],
        "attention": getattr(model.config, "_attn_implementation", None),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "linear_types": linear_types(model),
        **facts,
    }
    return TorchSession(model, tuple(checkpoint.recipe["inputs"]), told)


def linear_types(model: torch.nn.Module) -> dict[str, int]:
    """How many linear layers of each kind really are in the model: the class with its weight's dtype or kind."""
    found: dict[str, int] = {}
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.ao.nn.quantized.Linear)):
            name = f"{type(module).__module__}.{type(module).__name__}[{_kind(module)}]"
            found[name] = found.get(name, 0) + 1
    return found


def set_threads(threads: int) -> None:
    """Set intra-op threads, and one inter-op thread where torch still allows it (before the first parallel work)."""
    torch.set_num_threads(threads)
    with contextlib.suppress(RuntimeError):
        torch.set_num_interop_threads(1)


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _kind(layer: torch.nn.Module) -> str:
    """Its weight's dtype; of torchao's tensors, which give the dtype that they stand for, the class."""
    packed: Any = getattr(layer, "_packed_params", None)  # asked for its weight, a quantized layer would unpack it
    weight: Any = layer.weight if packed is None else packed
    plain = packed is not None or type(weight) in (torch.Tensor, torch.nn.Parameter)
    return str(weight.dtype).removeprefix("torch.") if plain else type(weight).__name__
