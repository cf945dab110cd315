"""Models whose layers were cut: what a transformers configuration cannot say is kept in it as a table of shapes.

A configuration knows one width for all layers. Pruned layers differ from one another, so a model that was cut carries
`quantfleet_structure` in its config.json: the shape of every linear layer that differs from what the configuration
builds. Attention of the architectures here takes its number of heads from the projections' width at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from storage import errors
from worker.engine.transforms import families

if TYPE_CHECKING:
    import torch

FIELD = "quantfleet_structure"
"""The field of config.json."""


def describe(model: torch.nn.Module, built: torch.nn.Module) -> dict[str, list[int]]:
    """Name → [out, in] of the linear layers of `model` whose shapes differ from those in `built`."""
    usual = _shapes(built)
    return {name: list(shape) for name, shape in _shapes(model).items() if usual.get(name) != shape}


def is_cut(config: Any) -> bool:
    """Whether a configuration belongs to a model that was cut."""
    return bool(getattr(config, FIELD, None))


def apply(model: torch.nn.Module, config: Any) -> torch.nn.Module:
    """Give the linear layers of a freshly built model the shapes that its configuration names; weights are undefined.

    A cut layer is never larger than what the rest of the configuration builds. Raises ModelError for a table that
    does not fit the model, or whose layers do not fit one another.
    """
    import torch

    table: Any = getattr(config, FIELD, None) or {}
    if not isinstance(table, Mapping):
        raise errors.ModelError(f"{FIELD} in config.json is no table")
    for name, shape in table.items():
        old = _linear(model, str(name), shape)
        new = torch.nn.Linear(int(shape[1]), int(shape[0]), bias=old.bias is not None, dtype=old.weight.dtype)
        model.set_submodule(str(name), new.requires_grad_(old.weight.requires_grad).train(old.training))
    if table:
        _require_widths(model)
    return model


def _linear(model: torch.nn.Module, name: str, shape: Any) -> torch.nn.Linear:
    import torch

    if not (isinstance(shape, list) and len(shape) == 2 and all(type(size) is int for size in shape)):
        raise errors.ModelError(f"{FIELD} in config.json: {name} has no shape of two numbers, but {shape!r}")
    try:
        found = model.get_submodule(name)
    except AttributeError:
        found = None
    if not isinstance(found, torch.nn.Linear):
        raise errors.ModelError(f"{FIELD} in config.json: the model has no linear layer {name!r}")
    most = [found.out_features, found.in_features]
    if not all(0 < size <= bound for size, bound in zip(shape, most, strict=True)):
        raise errors.ModelError(f"{FIELD} in config.json: {name} cannot be cut from {most} to {shape}")
    return found


def _require_widths(model: torch.nn.Module) -> None:
    """Projections around the same heads or neurons have the same ones, and whole heads."""
    settings: Any = model.config
    for what in families.WHATS:
        for block in families.blocks(model, what) if families.known(settings.model_type, what) else ():
            layers: list[Any] = [model.get_submodule(name) for name in (*block.into, block.out)]
            widths = [layer.out_features for layer in layers[:-1]] + [layers[-1].in_features]
            if set(widths) != {block.count * block.size}:
                raise errors.ModelError(
                    f"{FIELD} in config.json: {block.out} and what goes into it have unlike widths, or no whole "
                    f"{what}: {widths}"
                )


def _shapes(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    import torch

    return {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
