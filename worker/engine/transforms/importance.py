"""What tells the heads and neurons that matter from those that can go: one score each, within a layer.

All three measures look at the features that go into a block's output projection: of a head its part of the attention's
output, of a neuron its value behind the nonlinearity.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from storage import errors, records, strategies
from worker.engine import samples
from worker.engine.strategies import base
from worker.engine.transforms.families import Block

Scores = list[list[float]]
"""[blocks][heads or neurons]; only the order within a block means something."""

BATCH = 16  # rows in one call at most
TOKENS = 2048  # in one call at most: what is kept for the gradients grows with them

Call = Mapping[str, torch.Tensor]


def scores(
    model: torch.nn.Module, blocks: Sequence[Block], source: base.Source, step: strategies.Step
) -> tuple[Scores, samples.Sample | None]:
    """The importance that a step's option `by` asks for, and the sample that it was taken on.

    Raises DatasetError when `by=taylor` meets labels that are not the model's classes, ModelError for scores that are
    no numbers, and what `samples.draw` raises.
    """
    by = step.option("by")
    if by == "magnitude":
        return _checked(by_magnitude(model, blocks), source.model), None
    sample = samples.of_strategy(source.model, source.dataset, step)
    calls = [tensors(call) for call in sample.calls(max(1, min(BATCH, TOKENS // sample.longest)))]
    with _whole_rows(model):
        if by == "activation":
            found = by_activation(model, blocks, calls, source.tell)
        else:
            found = by_taylor(model, blocks, calls, _classes(source, sample), source.tell)
    return _checked(found, source.model), sample


def by_magnitude(model: torch.nn.Module, blocks: Sequence[Block]) -> Scores:
    """The Euclidean norm of all the weights that would be cut with it: rows going in, columns going out."""
    return [_norms(model, block) for block in blocks]


def by_activation(
    model: torch.nn.Module, blocks: Sequence[Block], calls: Sequence[Call], tell: base.Tell = base.silent
) -> Scores:
    """The mean over the sample's tokens of the norm of its features; of a neuron that is its absolute value."""
    totals = [torch.zeros(block.count, dtype=torch.float64) for block in blocks]
    tokens = 0

    def watch(at: int, mask: torch.Tensor) -> _Seen:
        def seen(features: torch.Tensor) -> torch.Tensor:
            norms = _by_group(features, blocks[at]).norm(dim=-1)
            totals[at] += (norms * mask[..., None]).sum(dim=(0, 1))
            return features

        return seen

    for done, call in enumerate(calls, start=1):
        mask = call["attention_mask"]
        with torch.no_grad(), _watched(model, blocks, [watch(at, mask) for at in range(len(blocks))]):
            model(**call)
        tokens += int(mask.sum())
        tell({"phase": "importance", "done": done, "total": len(calls)})
    return [(total / tokens).tolist() for total in totals]


def by_taylor(
    model: torch.nn.Module,
    blocks: Sequence[Block],
    calls: Sequence[Call],
    classes: torch.Tensor,
    tell: base.Tell = base.silent,
) -> Scores:
    """The mean over the sample's rows of |∂loss/∂gate|, the gate being a factor 1 on its features in the whole row.

    That is |Σ activation · gradient| over the row's tokens and the part's features: the first-order change of the
    cross-entropy when the part goes. For heads Michel et al. 2019 (arXiv:1905.10650), equation 2; for neurons the
    gates of Molchanov et al. 2019 (arXiv:1906.10771), by absolute value in place of the square. `classes` [rows].
    """
    totals = [torch.zeros(block.count, dtype=torch.float64) for block in blocks]
    at = 0
    for done, call in enumerate(calls, start=1):
        rows = len(call["input_ids"])
        gates = [torch.ones(rows, block.count, requires_grad=True) for block in blocks]
        gradients = _gradients(model, blocks, call, classes[at : at + rows], gates)
        for total, gradient in zip(totals, gradients, strict=True):
            total.add_(gradient.abs().sum(dim=0))
        at += rows
        tell({"phase": "importance", "done": done, "total": len(calls)})
    return [(total / at).tolist() for total in totals]


def best(scores: Sequence[float], keep: int) -> list[int]:
    """The indices of the `keep` highest scores, ascending; of equals the first."""
    return sorted(sorted(range(len(scores)), key=lambda at: (-scores[at], at))[:keep])


def tensors(call: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, torch.Tensor]:
    """A call as torch takes it."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in call.items()}


_Seen = Callable[[torch.Tensor], torch.Tensor]
"""Takes a block's features [rows, tokens, features] and gives what goes on in their place."""


def _gradients(
    model: torch.nn.Module, blocks: Sequence[Block], call: Call, classes: torch.Tensor, gates: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor]:
    """∂loss/∂gate, [rows, count] a block; the losses of rows are added, so that each row has its own gradient."""

    def gated(block: Block, gate: torch.Tensor) -> _Seen:
        return lambda features: (_by_group(features, block) * gate[:, None, :, None]).reshape(features.shape)

    seen = [gated(block, gate) for block, gate in zip(blocks, gates, strict=True)]
    with torch.enable_grad(), _watched(model, blocks, seen):
        logits = model(**call).logits
        loss = torch.nn.functional.cross_entropy(logits, classes, reduction="sum")
        return torch.autograd.grad(loss, gates)


@contextlib.contextmanager
def _watched(model: torch.nn.Module, blocks: Sequence[Block], seen: Sequence[_Seen]) -> Iterator[None]:
    """Each block's features pass through its function on their way into the output projection."""
    with contextlib.ExitStack() as stack:
        for block, function in zip(blocks, seen, strict=True):
            stack.enter_context(_hooked(model.get_submodule(block.out), function))
        yield


@contextlib.contextmanager
def _hooked(projection: torch.nn.Module, function: _Seen) -> Iterator[None]:
    def before(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (function(inputs[0]), *inputs[1:])

    handle = projection.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _whole_rows(model: torch.nn.Module) -> Iterator[None]:
    """Without `chunk_size_feed_forward`: pieces of rows would have to be matched with the attention mask."""
    chunked: list[Any] = [module for module in model.modules() if getattr(module, "chunk_size_feed_forward", 0)]
    before = [module.chunk_size_feed_forward for module in chunked]
    try:
        for module in chunked:
            module.chunk_size_feed_forward = 0
        yield
    finally:
        for module, size in zip(chunked, before, strict=True):
            module.chunk_size_feed_forward = size


def _by_group(features: torch.Tensor, block: Block) -> torch.Tensor:
    """[rows, tokens, features] as [rows, tokens, count, size]."""
    return features.reshape(*features.shape[:-1], block.count, block.size)


def _norms(model: torch.nn.Module, block: Block) -> list[float]:
    weights: list[Any] = [model.get_submodule(name).weight for name in block.into]
    out: Any = model.get_submodule(block.out).weight
    squares = torch.stack([weight.double().square().sum(dim=1) for weight in [*weights, out.T]]).sum(dim=0)
    norms: list[float] = squares.view(block.count, block.size).sum(dim=1).sqrt().tolist()
    return norms


def _classes(source: base.Source, sample: samples.Sample) -> torch.Tensor:
    assert source.dataset is not None  # noqa: S101  # the sample was drawn from it
    try:
        return torch.from_numpy(samples.classes(source.model, source.dataset, sample))
    except errors.DatasetError as exc:
        raise errors.DatasetError(f"{exc}. by=taylor needs labels; by=activation and by=magnitude need none") from exc


def _checked(found: Scores, model: records.ModelRef) -> Scores:
    if not np.isfinite(np.concatenate(found)).all():
        raise errors.ModelError(f"model {model.name!r} gives values that are no numbers: nothing can be ranked by them")
    return found
