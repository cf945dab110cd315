"""Setting the smallest weights to zero, anywhere in a layer or N of each M neighbours staying; the shapes stay.

Han et al. 2015 (arXiv:1506.02626) for the unstructured way, Mishra et al. 2021 (arXiv:2104.08378) for 2:4.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from storage import errors, strategies
from worker.engine import libraries, models
from worker.engine.strategies import base
from worker.engine.transforms import recovery

UNSTRUCTURED = "unstructured"


class PruneMagnitude:
    """`prune-magnitude`."""

    def recipe(self, step: strategies.Step) -> Mapping[str, Any]:
        """What becomes zero; the training only where there is one."""
        pattern, recover = step.option("pattern"), step.whole("recover")
        share = {"amount": step.number("amount")} if pattern == UNSTRUCTURED else {}
        if not recover:
            return {"pattern": pattern, **share}
        trained = {"recover": recover, "learning_rate": step.number("learning_rate"), "seed": step.whole("seed")}
        return {"pattern": pattern, **share, **trained, "isa": libraries.isa()}

    def apply(self, source: base.Source, step: strategies.Step, folder: Path) -> Mapping[str, Any]:
        """Write the model with its zeros, as large as before; see `Transformation`."""
        model = models.load(source.model)
        layers = encoder_layers(model)
        uncut = copy.deepcopy(model) if step.whole("recover") else None
        masks = {name: _mask(name, layer.weight, step) for name, layer in layers.items()}
        for name, mask in masks.items():
            layers[name].weight.data.mul_(mask)
        if all(bool(mask.all()) for mask in masks.values()):
            raise errors.StrategyError(f"{step} sets no weight to zero in layers this small; a larger amount would")
        trained = {}
        if uncut is not None:
            held = [(layers[name].weight, mask) for name, mask in masks.items()]
            trained = {"recovery": recovery.recover(model, uncut, source, step, held)}
        models.save(model, source.model, folder)
        return {**_facts(model, layers, step.option("pattern")), **trained}


def encoder_layers(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """The linear layers of the encoder's repeated blocks by name; embeddings, pooler and classifier are not among them.

    Raises Unsupported for an architecture that has none.
    """
    whole: Any = model
    stacks = tuple(
        f"{name}."
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and name.startswith(f"{whole.base_model_prefix}.")
    )
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith(stacks)
    }
    if not found:
        raise errors.Unsupported(f"{whole.config.model_type} models have no linear layers in their encoder's blocks")
    return found


def smallest_zero(weight: torch.Tensor, amount: float) -> torch.Tensor:
    """A mask of a weight's shape: 0 at the `amount` share of smallest absolute values, of equals at the first."""
    less = round(amount * weight.numel())
    mask = torch.ones_like(weight).flatten()
    mask[torch.argsort(weight.abs().flatten(), stable=True)[:less]] = 0
    return mask.view_as(weight)


def n_of_m(weight: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """A mask of a weight's shape [out, in]: 1 at the n largest of each m neighbours along `in`, which m divides."""
    groups = weight.abs().reshape(-1, m)
    order = torch.argsort(groups, dim=1, descending=True, stable=True)
    return torch.zeros_like(groups).scatter_(1, order[:, :n], 1.0).view_as(weight)


def pattern_holds(weight: torch.Tensor, n: int, m: int) -> bool:
    """Whether at most n of each m neighbours along the input are not zero."""
    return bool((weight.reshape(-1, m).count_nonzero(dim=1) <= n).all())


def sparse_kernels() -> dict[str, bool]:
    """Whether this torch multiplies by 2:4 and by CSR weights on the CPU, tried on small ones."""
    weight, call = torch.eye(64), torch.ones(64, 64)

    def runs(make: Any) -> bool:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # both are in beta, and say so
                return bool(torch.equal(torch.nn.functional.linear(call, make(weight)), call))
        except (RuntimeError, NotImplementedError):
            return False

    return {"2:4": runs(torch.sparse.to_sparse_semi_structured), "csr": runs(torch.Tensor.to_sparse_csr)}


def _mask(name: str, weight: torch.Tensor, step: strategies.Step) -> torch.Tensor:
    pattern = step.option("pattern")
    if pattern == UNSTRUCTURED:
        return smallest_zero(weight, step.number("amount"))
    n, m = _numbers(pattern)
    if weight.shape[1] % m:
        raise errors.StrategyError(
            f"{step} needs rows of a multiple of {m} weights, those of {name} have {weight.shape[1]}"
        )
    return n_of_m(weight, n, m)


def _facts(model: torch.nn.Module, layers: Mapping[str, torch.nn.Linear], pattern: str) -> dict[str, Any]:
    """Counted in the weights as they are written, after any training."""
    facts = {
        "pattern": pattern,
        "layers": len(layers),
        "zeros": {
            "layers": _zeros([layer.weight for layer in layers.values()]),
            "model": _zeros(list(model.parameters())),
        },
        "sparse_cpu_kernels": sparse_kernels(),
    }
    if pattern != UNSTRUCTURED:
        facts["pattern_holds"] = all(pattern_holds(layer.weight, *_numbers(pattern)) for layer in layers.values())
    return facts


def _zeros(weights: Sequence[torch.Tensor]) -> float:
    """The share of zeros among all values."""
    total = sum(weight.numel() for weight in weights)
    return round(1 - sum(int(weight.count_nonzero()) for weight in weights) / total, 6)


def _numbers(pattern: str) -> tuple[int, int]:
    n, _, m = pattern.partition(":")
    return int(n), int(m)
