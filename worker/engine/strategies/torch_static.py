"""PyTorch eager with int8 linear layers whose activations have ranges fixed ahead by a calibration sample.

Around each layer stands what torch's eager mode calls stubs: its input is quantized, multiplied by int8 kernels,
requantized and turned back into float32. An artifact holds the ranges that were seen, not scales, because engines
differ in what they can take, and one artifact serves all of them:

- x86 and fbgemm multiply with FBGEMM, which sums pairs of products in 16 bits where the CPU has no VNNI; 8-bit
  activations overflow there, so that torch's default configuration gives inputs 7 bits (`reduce_range`) for these
  engines on every CPU.
- onednn and qnnpack get 8 bits in torch's default configuration, and torch warns that oneDNN without VNNI loses
  accuracy: the same 16-bit sums. There we take 7 bits too. Arm's kernels sum in 32 bits.

A layer's output is an operand of nothing, since it becomes float32 again: it always has 8 bits.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.ao.nn import quantized
from torch.ao.quantization.observer import MinMaxObserver

from storage import errors, strategies
from worker.engine import checkpoints, libraries, models, samples
from worker.engine.strategies import base, torch_calibration, torch_dynamic, torch_float, torch_plain

_CHOICES = ("draw", "rows", "seed", "observer")
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})


class StaticLinear(torch.nn.Module):
    """An int8 linear layer between float32 neighbours, with fixed scales."""

    def __init__(self, linear: quantized.Linear, scale: float, zero_point: int) -> None:
        super().__init__()
        self.linear = linear
        self.scale = scale
        self.zero_point = zero_point

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[…, in] in float32 to [… , out] in float32."""
        given = torch.quantize_per_tensor(values, self.scale, self.zero_point, torch.quint8)
        answer: torch.Tensor = self.linear(given)
        return answer.dequantize()


class Int8Static:
    """`torch/int8-static`."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """Without the engine, which changes no stored byte; with the CPU's, as calibration runs float kernels."""
        chosen = {name: strategy.option(name) for name in _CHOICES}
        per_channel = strategy.flag("per_channel")
        return {"strategy": strategy.name, "per_channel": per_channel, **chosen, "isa": libraries.isa()}

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """Made from the model itself."""
        return None

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Calibrate, then write int8 weights and the ranges of activations, everything else in float32."""
        model = models.load(source.model)
        sample = samples.of_strategy(source.model, source.dataset, strategy)
        linear = torch_dynamic.quantizable(model)
        ranges = torch_calibration.ranges(model, linear, sample.calls(), strategy.option("observer"), source.tell)
        tensors = dict(model.state_dict(keep_vars=True))
        for name, seen in ranges.items():
            weight = tensors.pop(f"{name}.weight")
            weight = torch_dynamic.quantize_weight(weight, per_channel=strategy.flag("per_channel"))
            tensors |= torch_plain.parts(f"{name}.weight", weight)
            tensors |= {f"{name}.input_range": seen.given, f"{name}.output_range": seen.answered}
        facts = {
            "quantized_layers": len(ranges),
            "float_layers": [name for name in linear if name not in ranges],  # those that no call reaches
            "observer": strategy.option("observer"),
            "sample": sample.facts,
            **models.facts(source.model, model),
        }
        inputs = list(models.input_names(model.config))
        recipe = {"strategy": strategy.name, "inputs": inputs, "facts": facts, "quantized": list(ranges)}
        checkpoints.write(folder, checkpoints.Checkpoint(tensors=tensors, recipe=recipe), model.config)
        session = self.open(folder, strategy, torch.get_num_threads())
        # outside the recipe: taken of the engine that prepared, while the artifact serves every engine
        return {**facts, "kernels": torch_dynamic.kernels(session, ("linear", "quantize"))}

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> torch_float.TorchSession:
        """Rebuild the int8 layers, packed and scaled for the strategy's engine."""
        torch_float.set_threads(threads)
        engine = torch_dynamic.set_engine(strategy.option("engine"))
        reduced = _reduced(engine)
        checkpoint = checkpoints.read(folder)
        model = checkpoints.empty_model(folder)
        names = checkpoint.recipe["quantized"]
        layers = {name: _layer(name, checkpoint.tensors, reduced) for name in names}
        torch_dynamic.fill(model, checkpoint.tensors, layers)
        facts = {"engine": engine, "reduce_range": reduced, "input_bits": 7 if reduced else 8, "output_bits": 8}
        return torch_float.session(model.requires_grad_(False), checkpoint, facts)


def parameters(seen: torch.Tensor, bits: int) -> tuple[float, int]:
    """The scale and zero point with which a range [least, greatest] fills unsigned integers of 7 or 8 bits.

    As torch's observers have it: the range is widened to hold zero, which must be one of the integers.
    """
    observer = MinMaxObserver(quant_min=0, quant_max=2**bits - 1)
    observer.min_val, observer.max_val = seen[0], seen[1]
    scale, zero_point = observer.calculate_qparams()
    return float(scale), int(zero_point)


def _reduced(engine: str) -> bool:
    """Whether an engine's inputs get 7 bits here; see the module's text."""
    if engine in ("x86", "fbgemm"):
        return True
    return engine == "onednn" and platform.machine() == "x86_64" and not _VNNI & set(libraries.isa())


def _layer(name: str, tensors: dict[str, torch.Tensor], reduced: bool) -> StaticLinear:
    """One int8 layer, packed for the engine in force; takes its tensors out."""
    weight = torch_plain.take(f"{name}.weight", tensors)
    try:
        given, answered = (tensors.pop(f"{name}.{which}_range") for which in ("input", "output"))
    except KeyError as exc:
        raise errors.ModelError(f"the artifact lacks {exc.args[0]}") from exc
    # not its own size: the constructor would pack an empty weight of it first
    linear = quantized.Linear(1, 1)  # type: ignore[no-untyped-call]
    linear.out_features, linear.in_features = weight.shape
    linear.set_weight_bias(weight, tensors.pop(f"{name}.bias", None))
    linear.scale, linear.zero_point = parameters(answered, 8)
    return StaticLinear(linear, *parameters(given, 7 if reduced else 8))
