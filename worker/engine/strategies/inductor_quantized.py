"""torch.compile ahead of time with int8 weights: quantized by torchao's tensor subclasses, or by PT2E.

On x86 CPUs without VNNI, int8 products are added up in pairs in 16 bits, which saturate. There activations (and
torchao's weights) keep to 7 bits, as both libraries recommend; facts tell it as `reduce_range`.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from storage import errors, strategies
from worker.engine import checkpoints, libraries, models, samples
from worker.engine.strategies import base, inductor, inductor_code, inductor_pt2e

_VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


class _TorchAo(inductor.Compiled):
    """Linear layers whose weights torchao replaces by its int8 tensors, a scale a row."""

    def dtype(self, strategy: strategies.Strategy) -> torch.dtype:
        """Of everything that is not quantized."""
        return torch.float32

    def config(self, strategy: strategies.Strategy) -> Any:
        """torchao's configuration."""
        raise NotImplementedError

    def write(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Int8 weights and their scales as plain tensors, everything else in floating point."""
        model = models.load(source.model).to(self.dtype(strategy))
        own = models.facts(source.model, model)
        self._quantize(model, strategy)
        tensors: dict[str, torch.Tensor] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            tensors |= {name + part: value for part, value in _plain(tensor).items()}
        layers = sum(len(_plain(tensor)) > 1 for tensor in model.state_dict(keep_vars=True).values())
        facts = {**own, **self.facts(strategy), "quantized_layers": layers}
        inductor.write_checkpoint(folder, strategy, model.config, tensors, facts)
        return facts

    def facts(self, strategy: strategies.Strategy) -> dict[str, Any]:
        """What a result keeps of how it was quantized."""
        return {"by": "torchao", "activations": str(self.dtype(strategy)).removeprefix("torch.")}

    def graph(self, folder: Path, strategy: strategies.Strategy) -> torch.nn.Module:
        """The model quantized in the same way without its weights, then filled with the stored ones."""
        checkpoint = checkpoints.read(folder)
        model = _zeros(checkpoints.empty_model(folder)).to(self.dtype(strategy))
        self._quantize(model, strategy)
        _fill(model, checkpoint.tensors)
        return inductor.Logits(model, checkpoint.recipe["inputs"])

    def _quantize(self, model: torch.nn.Module, strategy: strategies.Strategy) -> None:
        from torchao.quantization import quantize_

        with torch.no_grad():
            quantize_(model, self.config(strategy))


class Int8WeightOnly(_TorchAo):
    """`inductor/int8-weight-only`."""

    # scales of a layer with up to 8 outputs would become literals, which the operator with int8 weights cannot take
    options = MappingProxyType({"always_keep_tensor_constants": True})

    def dtype(self, strategy: strategies.Strategy) -> torch.dtype:
        """Of activations: inductor has a kernel that reads int8 weights for bfloat16 only."""
        return {"bf16": torch.bfloat16, "fp32": torch.float32}[strategy.option("activations")]

    def config(self, strategy: strategies.Strategy) -> Any:
        """One scale a row."""
        from torchao.quantization import Int8WeightOnlyConfig

        return Int8WeightOnlyConfig(set_inductor_config=False)

    def _quantize(self, model: torch.nn.Module, strategy: strategies.Strategy) -> None:
        """Scales in the dtype that the product takes them in: inductor's int8 kernel wants them as constants."""
        super()._quantize(model, strategy)
        for tensor in model.state_dict(keep_vars=True).values():
            if hasattr(tensor, "scale"):
                tensor.scale = tensor.scale.to(self.dtype(strategy))


class _Int8DynamicByTorchAo(_TorchAo):
    """Activations quantized call by call, a scale a token."""

    def config(self, strategy: strategies.Strategy) -> Any:
        """One scale a row of the weight, one a token."""
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig

        return Int8DynamicActivationInt8WeightConfig(set_inductor_config=False, reduce_range=reduce_range())

    def facts(self, strategy: strategies.Strategy) -> dict[str, Any]:
        """Bits of the ranges, too."""
        return {**super().facts(strategy), "reduce_range": reduce_range()}


class _Pt2e(inductor.Compiled):
    """Linear layers quantized in the exported graph, activations with one scale a tensor."""

    dynamic: bool

    def write(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """The quantized graph's tensors, and the scales and zero points that are constants in it."""
        model = models.load(source.model)
        reduced = reduce_range()
        plain = _graph(model)
        graph = inductor_pt2e.observed(plain, dynamic=self.dynamic, reduce_range=reduced)
        sampled = {} if self.dynamic else self._calibrate(source, strategy, graph)
        ranges = inductor_pt2e.ranges(graph)
        module = inductor_pt2e.converted(graph, ranges, inductor_code.example(plain))
        tensors = inductor_pt2e.used(module)
        facts = {
            **models.facts(source.model, model),
            **sampled,
            "by": "pt2e",
            "reduce_range": reduced,
            "quantized_layers": sum(tensor.dtype == torch.int8 and tensor.dim() == 2 for tensor in tensors.values()),
        }
        more = {"ranges": ranges, "reduce_range": reduced}
        inductor.write_checkpoint(folder, strategy, model.config, tensors, facts, **more)
        return facts

    def graph(self, folder: Path, strategy: strategies.Strategy) -> torch.nn.Module:
        """Exported and converted again with the stored ranges, then filled with the stored tensors."""
        checkpoint = checkpoints.read(folder)
        model = _zeros(checkpoints.empty_model(folder))
        reduced = checkpoint.recipe["reduce_range"]
        plain = _graph(model)
        graph = inductor_pt2e.observed(plain, dynamic=self.dynamic, reduce_range=reduced)
        module = inductor_pt2e.converted(graph, checkpoint.recipe["ranges"], inductor_code.example(plain))
        if inductor_pt2e.used(module).keys() != checkpoint.tensors.keys():
            raise errors.ModelError("the artifact's tensors are not those of its graph")
        module.load_state_dict(checkpoint.tensors, strict=False, assign=True)
        return module

    def _calibrate(self, source: base.Source, strategy: strategies.Strategy, graph: Any) -> dict[str, Any]:
        """Run the sample through the observers, a row a call, so that no padding is seen."""
        sample = samples.of_strategy(source.model, source.dataset, strategy)
        names = models.input_names(models.config(source.model))
        with torch.no_grad():
            for done, call in enumerate(sample.calls()):
                source.tell({"phase": "calibrating", "done": done, "total": len(sample)})
                graph(*(torch.from_numpy(call[name]) for name in names))
        return {"sample": sample.facts}


class _Int8DynamicByPt2e(_Pt2e):
    dynamic = True


class Int8Static(_Pt2e):
    """`inductor/int8-static`: activation scales fixed by a calibration sample."""

    dynamic = False


class Int8Dynamic:
    """`inductor/int8-dynamic`, by torchao or by PT2E."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """See `Compiled`."""
        return _by(strategy).recipe(strategy)

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """Made from the model itself."""
        return None

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """See `Compiled`."""
        return _by(strategy).prepare(source, strategy, folder)

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> inductor.CompiledSession:
        """See `Compiled`."""
        return _by(strategy).open(folder, strategy, threads)

    def settle(self, folder: Path, strategy: strategies.Strategy) -> None:
        """See `Compiled`."""
        _by(strategy).settle(folder, strategy)


def reduce_range() -> bool:
    """Whether 8-bit products overflow on this CPU, so that 7 bits must do."""
    return platform.machine() in ("x86_64", "AMD64") and not _VNNI & set(libraries.isa())


def _by(strategy: strategies.Strategy) -> inductor.Compiled:
    return _Int8DynamicByPt2e() if strategy.option("by") == "pt2e" else _Int8DynamicByTorchAo()


def _graph(model: torch.nn.Module) -> inductor_code.Graph:
    config: Any = model.config
    names = models.input_names(config)
    return inductor_code.Graph(
        module=inductor.Logits(model, names), inputs=len(names), longest=models.longest_input(config)
    )


def _plain(tensor: Any) -> dict[str, torch.Tensor]:
    """A tensor's parts by the end of their names; one that is no subclass is its own only part."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return {"": tensor}
    return {f".{name}": getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]}


def _zeros(model: torch.nn.Module) -> torch.nn.Module:
    """Defined weights in an empty model: quantizing undefined ones may meet values that are no numbers."""
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.zero_()
    return model


def _fill(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Copy an artifact's tensors into a model that is quantized alike; ModelError when they do not fit it."""
    places = {
        name + part: place
        for name, tensor in model.state_dict(keep_vars=True).items()
        for part, place in _plain(tensor).items()
    }
    if places.keys() != tensors.keys():
        odd = sorted(places.keys() ^ tensors.keys())
        raise errors.ModelError(f"the artifact does not fit its config: {odd[:3]}")
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(tensors[name])
