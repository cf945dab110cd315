"""Cutting heads and feed-forward neurons: the projections around them really shrink, for every runtime alike."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from storage import errors, strategies
from worker.engine import libraries, models
from worker.engine.strategies import base
from worker.engine.transforms import families, importance, recovery

MULTIPLE = 8  # neurons that stay: kernels work on blocks of that many columns


class _Prune:
    """What both have in common: rank, cut, recover, write."""

    what: families.What

    def recipe(self, step: strategies.Step) -> Mapping[str, Any]:
        """How much and by what; of sample and training only what is really used."""
        by, recover = step.option("by"), step.whole("recover")
        sampled = {"rows": step.whole("rows")} if by != "magnitude" else {}
        trained = {"recover": recover, "learning_rate": step.number("learning_rate")} if recover else {}
        seeded = {"seed": step.whole("seed"), "isa": libraries.isa()} if sampled or trained else {}
        return {"amount": step.number("amount"), "by": by, **sampled, **trained, **seeded}

    def apply(self, source: base.Source, step: strategies.Step, folder: Path) -> Mapping[str, Any]:
        """Write the smaller model; see `Transformation`."""
        model = models.load(source.model)
        blocks = families.blocks(model, self.what)
        stays = self.stays([block.count for block in blocks], step)
        scores, sample = importance.scores(model, blocks, source, step)
        kept = [importance.best(ranked, keep) for ranked, keep in zip(scores, stays, strict=True)]
        uncut, before = copy.deepcopy(model) if step.whole("recover") else None, _parameters(model)
        for block, those in zip(blocks, kept, strict=True):
            cut(model, block, those)
        facts: dict[str, Any] = {
            "by": step.option("by"),
            "parameters": {"before": before, "after": _parameters(model)},
            self.what: {"of": [block.count for block in blocks], "kept": self.told(kept)},
        }
        if sample is not None:
            facts["sample"] = sample.facts
        if uncut is not None:
            facts["recovery"] = recovery.recover(model, uncut, source, step, [])
        models.save(model, source.model, folder)
        return facts

    def stays(self, counts: Sequence[int], step: strategies.Step) -> list[int]:
        """How many stay in each layer of so many; StrategyError where none would, or where nothing would go."""
        raise NotImplementedError

    def told(self, kept: Sequence[Sequence[int]]) -> list[Any]:
        """What a result keeps of the choice, layer by layer."""
        raise NotImplementedError


class PruneHeads(_Prune):
    """`prune-heads`."""

    what = "heads"

    def stays(self, counts: Sequence[int], step: strategies.Step) -> list[int]:
        """All but the share that goes, rounded; at least one goes."""
        amount = step.number("amount")
        gone = [max(1, math.floor(amount * count + 0.5)) for count in counts]
        for layer, (count, less) in enumerate(zip(counts, gone, strict=True)):
            if less >= count:
                raise errors.StrategyError(
                    f"{step} would cut every head of layer {layer}, which has {count}; one at least must stay"
                )
        return [count - less for count, less in zip(counts, gone, strict=True)]

    def told(self, kept: Sequence[Sequence[int]]) -> list[Any]:
        """Which heads, numbered as in the model before."""
        return [list(those) for those in kept]


class PruneFfn(_Prune):
    """`prune-ffn`."""

    what = "neurons"

    def stays(self, counts: Sequence[int], step: strategies.Step) -> list[int]:
        """The share that stays, rounded up to a multiple of 8."""
        share = 1 - step.number("amount")
        # the product is rounded first: 0.3 · 80 is a hair more than 24, and must not become 32
        stays = [min(count, math.ceil(round(share * count, 6) / MULTIPLE) * MULTIPLE) for count in counts]
        if list(stays) == list(counts):
            raise errors.StrategyError(
                f"{step} cuts nothing: of {max(counts)} neurons {max(stays)} would stay, as what stays is rounded up "
                f"to a multiple of {MULTIPLE}"
            )
        return stays

    def told(self, kept: Sequence[Sequence[int]]) -> list[Any]:
        """How many: which ones would be thousands of numbers."""
        return [len(those) for those in kept]


@torch.no_grad()
def cut(model: torch.nn.Module, block: families.Block, kept: Sequence[int]) -> None:
    """Leave only the heads or neurons of these indices: rows of what goes in, columns of what goes out."""
    features = torch.tensor([at * block.size + offset for at in kept for offset in range(block.size)])
    for name in block.into:
        layer: Any = model.get_submodule(name)
        bias = None if layer.bias is None else layer.bias[features]
        model.set_submodule(name, _linear(layer.weight[features], bias))
    out: Any = model.get_submodule(block.out)
    model.set_submodule(block.out, _linear(out.weight[:, features], out.bias))


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.nn.Linear:
    rows, columns = weight.shape
    layer = torch.nn.Linear(columns, rows, bias=bias is not None, device="meta")  # its own weights would be drawn
    layer.weight = torch.nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer.eval()


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
