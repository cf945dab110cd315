"""What a model is made of, and what a strategy makes of each of its layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage import errors, records, strategies
from worker.engine import libraries, models, preparation, stored

if TYPE_CHECKING:
    import torch

Row = dict[str, Any]


def inspect(model: records.ModelRef, strategy: strategies.Strategy, cache: Path) -> dict[str, Any]:
    """Architecture, sizes, classes and layers of a model as plain JSON data, with what a strategy stores of each layer.

    The strategy is really carried out, into the cache, and its artifact read. Bytes are without the tokenizer; those
    called fp32 are what float32 takes. A layer that the artifact has no tensor of has `stored` None. Raises
    ModelError, SettingsError for a cache that cannot be written, and StrategyError for a strategy that needs a
    dataset, that cannot be carried out here, or whose artifacts do not tell layers apart.
    """
    stored.require_named(strategy)  # before anything is exported or compiled
    _require_no_data(strategy)
    skeleton = models.empty(model)
    config: Any = skeleton.config
    layers = list(_layers(skeleton))
    told = _stored(model, strategy, cache, layers)
    return {
        "name": model.name,
        "source": model.source,
        "location": model.location,
        "digest": models.identify(model),
        "model_type": config.model_type,
        **models.facts(model, skeleton),
        "labels": [str(config.id2label[index]) for index in sorted(config.id2label)],
        "max_tokens": models.longest_input(config),
        "inputs": list(models.input_names(config)),
        "vocabulary": config.vocab_size,
        "bytes_fp32": sum(layer["bytes"] for layer in layers),
        "strategy": told,
        "layers": layers,
    }


def _require_no_data(strategy: strategies.Strategy) -> None:
    for part in strategy.parts:
        if part.data is not None:
            unless = ", ".join(f"{name}={value}" for name, value in (part.part.data_unless or {}).items())
            hint = f"; with {unless} it reads none" if unless else ""
            raise errors.StrategyError(f"{part.name} reads a dataset, and only a study names datasets{hint}")


def _layers(model: torch.nn.Module) -> Iterable[Row]:
    """Every module with parameters of its own, in the order of the model; tied ones count where they come first."""
    seen: set[int] = set()
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        new = [tensor for tensor in own if id(tensor) not in seen]
        seen |= {id(tensor) for tensor in own}
        if own:
            yield {
                "name": name,
                "type": type(module).__name__,
                "shape": list(own[0].shape),
                "parameters": sum(tensor.numel() for tensor in new),
                "bytes": sum(4 * tensor.numel() for tensor in new),
            }


def _stored(model: records.ModelRef, strategy: strategies.Strategy, cache: Path, layers: list[Row]) -> dict[str, Any]:
    """Carry the strategy out; add what it stores to each layer's row, and return the sums."""
    libraries.settle()
    order = preparation.Order(model=model, strategy=strategy, cache=cache)
    try:
        folder, artifact = preparation.prepare(order)
    except errors.Unsupported as exc:
        raise errors.StrategyError(str(exc)) from exc
    parts, elsewhere = stored.read(folder, strategy, [layer["name"] for layer in layers])
    for layer in layers:
        part = parts.get(layer["name"])
        layer["quantized"] = part is not None and part.quantized
        layer["stored"] = None if part is None else part.dtype
        layer["stored_bytes"] = 0 if part is None else part.size_bytes
        layer["scales"] = 0 if part is None else part.scales
    return {
        "name": str(strategy),
        "bytes_file": artifact.size_bytes,
        "bytes_layers": sum(layer["stored_bytes"] for layer in layers),
        "bytes_elsewhere": elsewhere,  # tensors that belong to no layer, or have none's name
        "kinds": _kinds(layers),
    }


def _kinds(layers: list[Row]) -> list[Mapping[str, Any]]:
    """Sums over the layers of one class that are stored as one type, largest first."""
    sums: dict[tuple[str, str | None], dict[str, Any]] = {}
    for layer in layers:
        fresh = {"type": layer["type"], "stored": layer["stored"], "quantized": layer["quantized"]}
        kind = sums.setdefault((layer["type"], layer["stored"]), {**fresh, "layers": 0, "bytes": 0, "stored_bytes": 0})
        kind["layers"] += 1
        kind["bytes"] += layer["bytes"]
        kind["stored_bytes"] += layer["stored_bytes"]
    return sorted(sums.values(), key=lambda kind: -int(kind["bytes"]))
