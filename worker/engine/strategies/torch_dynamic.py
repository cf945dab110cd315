"""PyTorch eager with int8 linear layers: weights quantized ahead, activations call by call; embedding tables on demand.

Weights are quantized as `torch.ao.quantization.quantize_dynamic` does it (symmetric qint8, min-max; a tensor
or a row at a time). They do not depend on the engine, so one artifact serves all of them: packing for an
engine happens on load, and so does the choice of kernels. `nn.quantized.dynamic.Linear` always asks for
`reduce_range` of the activations (7 bits), which keeps the 16-bit sums of CPUs without VNNI from overflowing.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.profiler
from torch.ao.nn.quantized import dynamic
from torch.ao.nn.quantized.modules.utils import _quantize_weight
from torch.ao.quantization import qconfig

from storage import errors, strategies
from storage.catalogue import torch as catalogue
from worker.engine import checkpoints, models
from worker.engine.strategies import base, torch_embeddings, torch_float, torch_plain


class Int8Dynamic:
    """`torch/int8-dynamic`."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """The engine is missing on purpose: it changes no stored byte."""
        return {"strategy": strategy.name, **{name: strategy.flag(name) for name in ("per_channel", "embeddings")}}

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """Made from the model itself."""
        return None

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Write int8 weights with scales and zero points as plain tensors, everything else in float32."""
        model = models.load(source.model)
        layers = quantizable(model)
        tables = torch_embeddings.looked_up(model) if strategy.flag("embeddings") else []
        tensors = dict(model.state_dict(keep_vars=True))
        for name in layers:
            weight = quantize_weight(tensors.pop(f"{name}.weight"), per_channel=strategy.flag("per_channel"))
            tensors |= torch_plain.parts(f"{name}.weight", weight)
        for name in tables:
            table = torch_embeddings.quantize(tensors.pop(f"{name}.weight"))
            tensors |= torch_plain.parts(f"{name}.weight", table)
        counts = {"quantized_layers": len(layers), "quantized_embeddings": len(tables)}
        facts = {**counts, **models.facts(source.model, model)}
        recipe = {
            "strategy": strategy.name,
            "inputs": list(models.input_names(model.config)),
            "facts": facts,
            "quantized": layers,
            "embeddings": tables,
        }
        checkpoints.write(folder, checkpoints.Checkpoint(tensors=tensors, recipe=recipe), model.config)
        # outside the recipe: taken of the engine that prepared, while the artifact serves every engine
        words = ("linear", "embedding") if tables else ("linear",)
        return {**facts, "kernels": kernels(self.open(folder, strategy, torch.get_num_threads()), words)}

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> torch_float.TorchSession:
        """Rebuild the int8 layers, packed for the strategy's engine."""
        torch_float.set_threads(threads)
        engine = set_engine(strategy.option("engine"))
        checkpoint = checkpoints.read(folder)
        model = checkpoints.empty_model(folder)
        tensors = checkpoint.tensors
        layers: dict[str, torch.nn.Module] = {name: _layer(name, tensors) for name in checkpoint.recipe["quantized"]}
        layers |= torch_embeddings.layers(checkpoint.recipe["embeddings"], tensors)
        fill(model, tensors, layers)
        # qnnpack's kernels ignore the request and use all 8 bits, as torch itself warns
        facts = {"engine": engine, "reduce_range": engine != "qnnpack"}
        return torch_float.session(model.requires_grad_(False), checkpoint, facts)


def kernels(session: torch_float.TorchSession, words: Sequence[str] = ("linear",)) -> dict[str, int]:
    """Which operators with one of the words in their names one call really dispatches, and how often.

    Torch's profiler is the witness.
    """
    probe = {name: np.ones((1, 4), dtype=np.int64) for name in session.inputs}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        session.logits(probe)
    return {event.key: event.count for event in profile.key_averages() if any(word in event.key for word in words)}


def fill(model: torch.nn.Module, tensors: dict[str, torch.Tensor], layers: Mapping[str, torch.nn.Module]) -> None:
    """Put an artifact's tensors into an empty model, and quantized layers in the place of those of their names.

    The layers have taken their own tensors out, so that a weight and its packed form need not live together for long.
    Raises ModelError for tensors that are missing or left over.
    """
    missing, unexpected = model.load_state_dict(tensors, strict=False, assign=True)
    absent = [key for key in missing if key.rpartition(".")[0] not in layers]
    if absent or unexpected:
        raise errors.ModelError(f"the artifact does not fit its config: {[*absent, *unexpected][:3]}")
    for name, layer in layers.items():
        model.set_submodule(name, layer)


def quantizable(model: torch.nn.Module) -> list[str]:
    """Names of the layers that become int8: exactly `nn.Linear`, as `quantize_dynamic` chooses by type."""
    return [name for name, module in model.named_modules() if type(module) is torch.nn.Linear]


def quantize_weight(weight: torch.Tensor, *, per_channel: bool) -> torch.Tensor:
    """A float weight [out, in] as qint8, symmetric, one scale for the tensor or one a row."""
    config = qconfig.per_channel_dynamic_qconfig if per_channel else qconfig.default_dynamic_qconfig
    observer = config.weight()
    observer(weight.detach())
    quantized: torch.Tensor = _quantize_weight(weight.detach().float(), observer)  # type: ignore[no-untyped-call]
    return quantized


def set_engine(option: str) -> str:
    """Choose the library of int8 kernels for layers that are packed from now on; Unsupported when it is not there."""
    engine = option if option != "auto" else _usual_engine()
    available = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    if engine not in available:
        raise errors.Unsupported(f"this torch has no int8 engine {engine!r} here; it has {', '.join(available)}")
    torch.backends.quantized.engine = engine
    return engine


def _usual_engine() -> str:
    return catalogue.AUTO_ENGINES.get(platform.machine(), "qnnpack")


def packed(weight: torch.Tensor, bias: torch.Tensor | None = None) -> dynamic.Linear:
    """A dynamically quantized layer of a qint8 weight [out, in], packed for the engine in force."""
    # not its own size: the constructor would pack an empty weight of it first
    layer = dynamic.Linear(1, 1)  # type: ignore[no-untyped-call]
    layer.out_features, layer.in_features = weight.shape
    layer.set_weight_bias(weight, bias)
    return layer


def _layer(name: str, tensors: dict[str, torch.Tensor]) -> dynamic.Linear:
    """One int8 layer; takes its tensors out."""
    weight = torch_plain.take(f"{name}.weight", tensors)
    return packed(weight, tensors.pop(f"{name}.bias", None))
