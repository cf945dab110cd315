"""What a model is made of, and what int8 quantization would reach."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from storage import records
from worker.engine import models

if TYPE_CHECKING:
    import torch


def inspect(model: records.ModelRef) -> dict[str, Any]:
    """Architecture, sizes, classes and layers of a model as plain JSON data.

    Bytes are those in float32. `quantized` says what `torch/int8-dynamic` turns into int8. Raises ModelError.
    """
    loaded = models.load(model)
    config: Any = loaded.config
    layers = list(_layers(loaded))
    total = sum(layer["bytes"] for layer in layers)
    reached = sum(layer["bytes"] for layer in layers if layer["quantized"])
    return {
        "name": model.name,
        "source": model.source,
        "location": model.location,
        "digest": models.identify(model),
        "model_type": config.model_type,
        **models.facts(model, loaded),
        "labels": [str(config.id2label[index]) for index in sorted(config.id2label)],
        "max_tokens": models.longest_input(config),
        "inputs": list(models.input_names(config)),
        "vocabulary": config.vocab_size,
        "bytes_fp32": total,
        "int8_dynamic": {
            "layers": sum(layer["quantized"] for layer in layers),
            "bytes_fp32": reached,
            "share": reached / total if total else 0.0,
        },
        "layers": layers,
    }


def _layers(model: torch.nn.Module) -> Iterable[dict[str, Any]]:
    """Every module that holds parameters of its own, in the order of the model."""
    from worker.engine.strategies import torch_dynamic

    quantized = set(torch_dynamic.quantizable(model))
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own:
            yield {
                "name": name,
                "type": type(module).__name__,
                "shape": list(own[0].shape),
                "parameters": sum(tensor.numel() for tensor in own),
                "bytes": sum(4 * tensor.numel() for tensor in own),
                "quantized": name in quantized,
            }
