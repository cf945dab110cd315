"""PyTorch eager with int8 linear layers: weights quantized ahead, activations call by call.

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
from worker.engine import checkpoints, models
from worker.engine.strategies import base, torch_float


class Int8Dynamic:
    """`torch/int8-dynamic`."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """The engine is missing on purpose: it changes no stored byte."""
        return {"strategy": strategy.name, "per_channel": strategy.flag("per_channel")}

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """Made from the model itself."""
        return None

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Write int8 weights with scales and zero points as plain tensors, everything else in float32."""
        model = models.load(source.model)
        layers = quantizable(model)
        tensors = dict(model.state_dict(keep_vars=True))
        for name in layers:
            weight = quantize_weight(tensors[f"{name}.weight"], per_channel=strategy.flag("per_channel"))
            del tensors[f"{name}.weight"]  # its plain int8 parts stand for it
            tensors |= _plain(f"{name}.weight", weight)
        facts = {"quantized_layers": len(layers), **models.facts(source.model, model)}
        recipe = {
            "strategy": strategy.name,
            "inputs": list(models.input_names(model.config)),
            "facts": facts,
            "quantized": layers,
        }
        checkpoints.write(folder, checkpoints.Checkpoint(tensors=tensors, recipe=recipe), model.config)
        # outside the recipe: taken of the engine that prepared, while the artifact serves every engine
        return {**facts, "kernels": kernels(self.open(folder, strategy, torch.get_num_threads()))}

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> torch_float.TorchSession:
        """Rebuild the int8 layers, packed for the strategy's engine."""
        torch_float.set_threads(threads)
        engine = set_engine(strategy.option("engine"))
        checkpoint = checkpoints.read(folder)
        model = checkpoints.empty_model(folder)
        fill(model, checkpoint.tensors, checkpoint.recipe["quantized"])
        # qnnpack's kernels ignore the request and use all 8 bits, as torch itself warns
        facts = {"engine": engine, "reduce_range": engine != "qnnpack"}
        return torch_float.session(model.requires_grad_(False), checkpoint, facts)


def kernels(session: torch_float.TorchSession) -> dict[str, int]:
    """Which linear operators one call really dispatches, and how often: torch's profiler as the witness."""
    probe = {name: np.ones((1, 4), dtype=np.int64) for name in session.inputs}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        session.logits(probe)
    return {event.key: event.count for event in profile.key_averages() if "linear" in event.key}


def fill(model: torch.nn.Module, tensors: dict[str, torch.Tensor], quantized: Sequence[str]) -> None:
    """Put an artifact's tensors into an empty model, with int8 layers in the place of the quantized ones.

    Takes tensors out as it packs them, so that a weight and its packed form need not live together for long.
    """
    layers = {name: _layer(name, tensors) for name in quantized}
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
    return "x86" if platform.machine() in ("x86_64", "AMD64") else "qnnpack"


def _plain(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """A qint8 weight as tensors that safetensors knows; scale and zero point are scalars or [rows]."""
    if weight.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric):
        scales, zero_points = weight.q_per_channel_scales(), weight.q_per_channel_zero_points()
    else:
        scales = torch.tensor(weight.q_scale(), dtype=torch.float64)
        zero_points = torch.tensor(weight.q_zero_point(), dtype=torch.int64)
    return {f"{name}.int8": weight.int_repr(), f"{name}.scale": scales, f"{name}.zero_point": zero_points}


def _quantized(name: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The reverse of `_plain`; takes the tensors out."""
    values, scale, zero = (tensors.pop(f"{name}.{part}") for part in ("int8", "scale", "zero_point"))
    if scale.dim() == 0:
        return torch._make_per_tensor_quantized_tensor(values, scale.item(), int(zero.item()))
    return torch._make_per_channel_quantized_tensor(values, scale, zero, 0)


def _layer(name: str, tensors: dict[str, torch.Tensor]) -> dynamic.Linear:
    """One int8 layer, packed for the engine in force; takes its tensors out."""
    weight = _quantized(f"{name}.weight", tensors)
    # not its own size: the constructor would pack an empty weight of it first
    layer = dynamic.Linear(1, 1)  # type: ignore[no-untyped-call]
    layer.out_features, layer.in_features = weight.shape
    layer.set_weight_bias(weight, tensors.pop(f"{name}.bias", None))
    return layer
