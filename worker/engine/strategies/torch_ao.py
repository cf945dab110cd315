"""PyTorch eager with torchao's weights: 8 or 4 bits stored, floating point multiplied.

An artifact holds what torchao's `quantize_` computes as plain tensors; torchao's own tensors are built from them on
load. For 4 bits that is more than safety: how its kernel wants the codes packed depends on the CPU's vectors, so
that codes are stored two a byte in their order, and packed where they are loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torchao.prototype.quantization.int4 import Int4OpaqueTensor
from torchao.quantization import Int8Tensor, Int8WeightOnlyConfig, quantize_
from torchao.quantization.quant_primitives import (
    MappingType,
    _choose_qparams_affine_tinygemm,
    _quantize_affine_tinygemm,
)
from torchao.quantization.utils import pack_tinygemm_scales_and_zeros

from storage import errors, strategies
from worker.engine import checkpoints, models
from worker.engine.strategies import base, torch_dynamic, torch_float

OUTPUTS = 16
"""The 4-bit kernel writes this many outputs at a time: a layer's must be a multiple."""


class Int8WeightOnly:
    """`torch/int8-weight-only`: a symmetric int8 scale for each output row, float32 activations and sums."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """The name alone: there are no options."""
        return {"strategy": strategy.name}

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """Made from the model itself."""
        return None

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Write int8 weights with a scale for each row, everything else in float32."""
        model = models.load(source.model)
        layers = torch_dynamic.quantizable(model)
        quantize_(model, Int8WeightOnlyConfig(set_inductor_config=False))
        tensors = dict(model.state_dict(keep_vars=True))
        for name in layers:
            weight: Any = tensors.pop(f"{name}.weight")
            tensors |= {f"{name}.weight.int8": weight.qdata, f"{name}.weight.scale": weight.scale}
        facts = {"dtype": "float32", "quantized_layers": len(layers), **models.facts(source.model, model)}
        _write(folder, strategy, model, tensors, {"facts": facts, "quantized": layers})
        session = self.open(folder, strategy, torch.get_num_threads())
        # the conversions of weights are part of what runs
        return {**facts, "kernels": torch_dynamic.kernels(session, ("linear", "mm", "_to_copy"))}

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> torch_float.TorchSession:
        """Rebuild torchao's tensors around the stored integers."""
        return _open(folder, threads, _int8)


class Int4WeightOnly:
    """`torch/int4-weight-only`: codes of 4 bits, a bfloat16 scale and zero point a group, everything else bfloat16."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """The group decides the bytes."""
        return {"strategy": strategy.name, "group": strategy.whole("group")}

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """Made from the model itself."""
        return None

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Write codes two a byte, with scales and zero points; Unsupported when no layer's shape fits."""
        model = models.load(source.model).to(torch.bfloat16)
        group = strategy.whole("group")
        misfits = {name: why for name in torch_dynamic.quantizable(model) if (why := _misfit(model, name, group))}
        layers = [name for name in torch_dynamic.quantizable(model) if name not in misfits]
        if not layers:
            some = "; ".join(f"{name}: {why}" for name, why in list(misfits.items())[:2])
            raise errors.Unsupported(f"no layer of this model can be quantized to 4 bits in groups of {group} ({some})")
        tensors = dict(model.state_dict(keep_vars=True))
        for name in layers:
            codes, scales = quantize_int4(tensors.pop(f"{name}.weight"), group)
            tensors |= {f"{name}.weight.int4": codes, f"{name}.weight.scale_and_zero": scales}
        counts = {"quantized_layers": len(layers), "float_layers": misfits, "group": group}
        facts = {"dtype": "bfloat16", **counts, **models.facts(source.model, model)}
        _write(folder, strategy, model, tensors, {"facts": facts, "quantized": layers})
        session = self.open(folder, strategy, torch.get_num_threads())
        return {**facts, "kernels": torch_dynamic.kernels(session, ("linear", "mm"))}

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> torch_float.TorchSession:
        """Rebuild torchao's tensors, their codes packed for this CPU."""
        group = strategy.whole("group")
        return _open(folder, threads, lambda name, tensors: _int4(name, tensors, group))


def quantize_int4(weight: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A bfloat16 weight [out, in] as codes [out, in / 2], even columns in the low halves, and what the codes mean.

    The second is [in / group, out, 2]: scale and zero point, the latter as the value of code 8. Scheme and rounding
    are those of torchao's Int4OpaqueTensor.from_hp, which gives packed codes only.
    """
    rows, block, scheme = weight.shape[0], [1, group], (torch.int32, 0, 15)
    scale, zero = _choose_qparams_affine_tinygemm(
        weight, MappingType.ASYMMETRIC, block, *scheme, eps=1e-6, zero_point_dtype=weight.dtype
    )
    codes = _quantize_affine_tinygemm(weight, block, scale, zero, *scheme).to(torch.uint8)
    scales = pack_tinygemm_scales_and_zeros(scale.reshape(rows, -1), zero.reshape(rows, -1), scale.dtype)
    return codes[:, ::2] | codes[:, 1::2] << 4, scales


def _misfit(model: torch.nn.Module, name: str, group: int) -> str | None:
    """Why a layer cannot be quantized to 4 bits, None where it can."""
    rows, columns = model.get_parameter(f"{name}.weight").shape
    if columns % group:
        return f"{columns} inputs, not a multiple of {group}"
    return f"{rows} outputs, not a multiple of {OUTPUTS}" if rows % OUTPUTS else None


def _write(
    folder: Path,
    strategy: strategies.Strategy,
    model: torch.nn.Module,
    tensors: dict[str, torch.Tensor],
    rest: Mapping[str, Any],
) -> None:
    settings: Any = model.config
    recipe = {"strategy": strategy.name, "inputs": list(models.input_names(settings)), **rest}
    checkpoints.write(folder, checkpoints.Checkpoint(tensors=tensors, recipe=recipe), settings)


def _open(
    folder: Path, threads: int, weight: Callable[[str, dict[str, torch.Tensor]], torch.Tensor]
) -> torch_float.TorchSession:
    """A session over a model whose quantized layers' weights are made by `weight`, which takes their tensors out."""
    torch_float.set_threads(threads)
    checkpoint = checkpoints.read(folder)
    model = checkpoints.empty_model(folder)
    names = checkpoint.recipe["quantized"]
    weights = {f"{name}.weight": weight(f"{name}.weight", checkpoint.tensors) for name in names}
    missing, unexpected = model.load_state_dict(checkpoint.tensors, strict=False, assign=True)
    absent = [key for key in missing if key not in weights]
    if absent or unexpected:
        raise errors.ModelError(f"the artifact does not fit its config: {[*absent, *unexpected][:3]}")
    for name in names:
        layer: Any = model.get_submodule(name)
        layer.weight = torch.nn.Parameter(weights[f"{name}.weight"], requires_grad=False)
    return torch_float.session(model.requires_grad_(False), checkpoint, {})


def _int8(name: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    values, scale = _taken(name, tensors, ("int8", "scale"))
    zero_point = torch.zeros_like(scale, dtype=torch.int8)  # symmetric
    found: torch.Tensor = Int8Tensor(values, scale, [1, values.shape[1]], torch.float32, zero_point=zero_point)
    return found


def _int4(name: str, tensors: dict[str, torch.Tensor], group: int) -> torch.Tensor:
    packed, scale_and_zero = _taken(name, tensors, ("int4", "scale_and_zero"))
    codes = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1).to(torch.int32)
    found: torch.Tensor = Int4OpaqueTensor(
        torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1), scale_and_zero, [1, group], codes.shape
    )
    return found


def _taken(name: str, tensors: dict[str, torch.Tensor], parts: Sequence[str]) -> list[torch.Tensor]:
    try:
        return [tensors.pop(f"{name}.{part}") for part in parts]
    except KeyError as exc:
        raise errors.ModelError(f"the artifact lacks {exc.args[0]}") from exc
