"""Training after a cut: the cut model learns the logits of the uncut one, and the labels where they are its classes.

Nothing random is in it but the order of the rows: dropout is off, as the target is another model's answers, and the
word embeddings are not trained, as nothing was cut from them.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from storage import errors, strategies
from worker.engine import samples
from worker.engine.strategies import base
from worker.engine.transforms import training

BATCH = 32  # rows in one step
TELL_EVERY = 10  # steps

Mask = tuple[torch.Tensor, torch.Tensor]
"""A weight with what must stay zero in it: 0 there, 1 elsewhere."""


def recover(
    model: torch.nn.Module, uncut: torch.nn.Module, source: base.Source, step: strategies.Step, masks: Sequence[Mask]
) -> dict[str, Any]:
    """Train `model` in place for the step's `recover` steps; returns facts.

    The loss is KL(uncut ‖ model) plus, where the labels are the model's classes, the cross-entropy. AdamW, learning
    schedule and clipping as in `training`; rows are drawn with the step's seed. Raises DatasetError, Unsupported as
    `samples.draw`, and StrategyError for a training that diverges.
    """
    began, steps = time.perf_counter(), step.whole("recover")
    seed = step.whole("seed")
    sample = samples.draw(source.model, source.dataset, rows=steps * BATCH, seed=seed, name=step.data)
    classes = _classes(source, sample)
    with _training(model):
        losses = _train(model, uncut, sample, classes, masks, source.tell, step)
    ends = min(TELL_EVERY, -(-steps // 2))
    return {
        "steps": steps,
        "batch": BATCH,
        "rows": len(sample),
        "data": step.data,
        "labels": classes is not None,
        "loss": {"first": _mean(losses[:ends]), "last": _mean(losses[-ends:])},
        "seconds": round(time.perf_counter() - began, 2),
    }


def _train(
    model: torch.nn.Module,
    uncut: torch.nn.Module,
    sample: samples.Sample,
    classes: torch.Tensor | None,
    masks: Sequence[Mask],
    tell: base.Tell,
    step: strategies.Step,
) -> list[float]:
    """The loss of each step."""
    steps, rate = step.whole("recover"), step.number("learning_rate")
    optimizer, schedule = training.make_optimizer(model, rate, steps)
    losses: list[float] = []
    for batch in itertools.islice(_batches(sample, step.whole("seed")), steps):
        loss = _loss(model, uncut, training.tensors(sample.tokens, batch), classes, batch)
        losses.append(_checked(training.step(loss, model, optimizer, schedule), len(losses) + 1, rate))
        _keep_zeros(masks)
        if len(losses) % TELL_EVERY == 0 or len(losses) == steps:
            told = {"step": len(losses), "steps": steps, "loss": _mean(losses[-TELL_EVERY:])}
            tell({"phase": "recovering", **told})
    return losses


def _loss(
    model: torch.nn.Module,
    uncut: torch.nn.Module,
    call: Mapping[str, torch.Tensor],
    classes: torch.Tensor | None,
    batch: Sequence[int],
) -> torch.Tensor:
    with torch.no_grad():
        target = torch.log_softmax(uncut(**call).logits, dim=-1)
    logits = model(**call).logits
    loss = torch.nn.functional.kl_div(torch.log_softmax(logits, dim=-1), target, log_target=True, reduction="batchmean")
    if classes is not None:
        loss = loss + torch.nn.functional.cross_entropy(logits, classes[list(batch)])
    return loss


def _batches(sample: samples.Sample, seed: int) -> Iterator[list[int]]:
    """Pass after pass over the rows, in random batches of like lengths."""
    shuffle = random.Random(seed)  # noqa: S311  (order of batches, not a secret)
    lengths = [len(ids) for ids in sample.tokens.ids]
    while True:
        yield from training.batches(lengths, BATCH, shuffle)


def _classes(source: base.Source, sample: samples.Sample) -> torch.Tensor | None:
    assert source.dataset is not None  # noqa: S101  # the sample was drawn from it
    try:
        return torch.from_numpy(samples.classes(source.model, source.dataset, sample))
    except errors.DatasetError:
        return None  # the uncut model's logits alone say what is right


@contextlib.contextmanager
def _training(model: Any) -> Iterator[None]:
    """Gradients for everything but the word embeddings; afterwards for nothing, as `models.load` gives it."""
    model.requires_grad_(True)
    model.get_input_embeddings().requires_grad_(False)
    try:
        yield
    finally:
        model.requires_grad_(False)


@torch.no_grad()
def _keep_zeros(masks: Sequence[Mask]) -> None:
    for weight, mask in masks:
        weight.mul_(mask)


def _checked(loss: float, step: int, rate: float) -> float:
    if not math.isfinite(loss):
        raise errors.StrategyError(
            f"recovery training diverged: the loss is {loss} at step {step}; give a learning_rate below {rate:g}"
        )
    return loss


def _mean(losses: Sequence[float]) -> float:
    return round(sum(losses) / len(losses), 6)
