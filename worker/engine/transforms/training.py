"""What trainings share: batches of like lengths, AdamW with warm-up and linear decay, and going on after a kill."""

from __future__ import annotations

import contextlib
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import transformers

from storage import errors
from worker import hardware
from worker.engine import inputs
from worker.engine.strategies import base
from worker.engine.transforms import resuming

WARM_UP = 0.1  # share of the steps over which the learning rate rises
WEIGHT_DECAY = 0.01
CLIP = 1.0  # norm of the gradient
BUCKET = 16  # batches that are sorted by length together: little padding, still random batches
EVALUATION_BATCH = 128
TELL_EVERY_S = 1.0
KEEP_EVERY_S = 60.0  # between checkpoints within an epoch
SMOOTH = 20  # steps whose mean loss is told: a single batch's says little

Loss = Callable[[Any, Sequence[int]], torch.Tensor]
"""The loss of a model on some rows, a scalar to be minimized."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How long and how hard."""

    steps: int  # of the optimizer, in all
    batch: int  # rows in one step
    learning_rate: float  # at its height
    seed: int  # of the order of the rows


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a training is; what a checkpoint keeps beside the tensors, so that a resumed one tells it all."""

    step: int = 0  # steps done
    first: list[float] = field(default_factory=list)  # losses of the first SMOOTH steps
    last: list[float] = field(default_factory=list)  # losses of the last SMOOTH steps
    seconds: float = 0.0  # wall time of all processes that took part
    cpu_seconds: float = 0.0  # CPU time, all threads

    @property
    def loss(self) -> float:
        """Mean loss of the last steps."""
        return _mean(self.last)

    @property
    def first_loss(self) -> float:
        """Mean loss of the first steps."""
        return _mean(self.first)


class Training:
    """One training of a model's weights that want gradients; `run` goes on from the last checkpoint.

    The model's mode is the caller's: in evaluation mode nothing is drawn, so that seed, data and number of threads
    decide the weights on one machine, whether it was interrupted or not.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        lengths: Sequence[int],
        plan: Plan,
        *,
        kept: resuming.Checkpoints,
        tell: base.Tell,
        phase: str,
    ) -> None:
        self._model, self._loss, self._lengths, self._plan = model, loss, lengths, plan
        self._kept, self._tell, self._phase = kept, Paced(tell), phase
        self._optimizer, self._schedule = make_optimizer(model, plan.learning_rate, plan.steps)
        self._per_epoch = -(-len(lengths) // plan.batch)
        self.progress = Progress()
        self.resumed_at: int | None = None  # the step that it went on from; None when it began anew

    def run(self) -> Progress:
        """All steps; checkpoints at the end of each epoch and every KEEP_EVERY_S.

        Raises StrategyError when the loss stops being a number.
        """
        self._resume()
        watch = _Watch(self.progress)
        epochs = -(-self._plan.steps // self._per_epoch)
        for epoch in range(self.progress.step // self._per_epoch, epochs):
            self._epoch(epoch, watch)
        return self.progress

    def _epoch(self, epoch: int, watch: _Watch) -> None:
        order = batches(self._lengths, self._plan.batch, random.Random(f"{self._plan.seed}/{epoch}"))  # noqa: S311
        done, end = self.progress.step - epoch * self._per_epoch, self._plan.steps - epoch * self._per_epoch
        for rows in order[done:end]:
            self._step(rows)
            self._tell(self._told(epoch, watch))
            if time.monotonic() - watch.kept >= KEEP_EVERY_S:
                self._keep(watch)
        self._keep(watch)

    def _step(self, rows: Sequence[int]) -> None:
        now = step(self._loss(self._model, rows), self._model, self._optimizer, self._schedule)
        progress = self.progress
        progress.step += 1
        if not math.isfinite(now):
            raise errors.StrategyError(
                f"the training diverged: its loss is {now} at step {progress.step} of {self._plan.steps}; "
                f"lower learning_rate={self._plan.learning_rate:g}"
            )
        progress.first = [*progress.first, now][:SMOOTH]
        progress.last = [*progress.last, now][-SMOOTH:]

    def _told(self, epoch: int, watch: _Watch) -> dict[str, Any]:
        step, steps = self.progress.step, self._plan.steps
        return {
            "phase": self._phase,
            "step": step,
            "steps": steps,
            "epoch": epoch + 1,
            "loss": round(self.progress.loss, 4),
            "eta_s": round((steps - step) * watch.elapsed() / max(1, step - watch.begun_at), 1),
        }

    def _keep(self, watch: _Watch) -> None:
        watch.count(self.progress)
        weights = {f"model.{name}": value.detach() for name, value in _trained(self._model)}
        moments, groups = _taken_apart(self._optimizer)
        state = {"progress": asdict(self.progress), "groups": groups, "schedule": self._schedule.state_dict()}
        self._kept.write({**weights, **moments}, {"plan": asdict(self._plan), **state})
        watch.kept = time.monotonic()

    def _resume(self) -> None:
        found = self._kept.read()
        if found is None or found.state["plan"] != asdict(self._plan):
            return
        with torch.no_grad():
            for name, value in _trained(self._model):
                value.copy_(found.tensors[f"model.{name}"])
        self._optimizer.load_state_dict(_put_together(found.tensors, found.state["groups"]))
        self._schedule.load_state_dict(found.state["schedule"])
        self.progress = Progress(**found.state["progress"])
        self.resumed_at = self.progress.step


class _Watch:
    """Wall and CPU time of this process's share of a training."""

    def __init__(self, progress: Progress) -> None:
        self.begun_at = progress.step
        self.kept = time.monotonic()  # when the last checkpoint was written
        self._before = (progress.seconds, progress.cpu_seconds)
        self._began = (time.monotonic(), time.process_time())

    def elapsed(self) -> float:
        """Seconds since this process took over."""
        return time.monotonic() - self._began[0]

    def count(self, progress: Progress) -> None:
        """Write what was spent so far, here and in earlier processes."""
        progress.seconds = self._before[0] + self.elapsed()
        progress.cpu_seconds = self._before[1] + time.process_time() - self._began[1]


class Paced:
    """Passes progress on, the first at once, and then the newest at most every TELL_EVERY_S."""

    def __init__(self, tell: base.Tell) -> None:
        self._tell, self._told = tell, float("-inf")

    def __call__(self, progress: Mapping[str, Any]) -> None:
        """Pass it on, or drop it."""
        if time.monotonic() - self._told >= TELL_EVERY_S:
            self._told = time.monotonic()
            self._tell(progress)


def batches(lengths: Sequence[int], size: int, shuffle: random.Random) -> list[list[int]]:
    """Each row once, in random batches of like lengths."""
    order = list(range(len(lengths)))
    shuffle.shuffle(order)
    made = []
    for start in range(0, len(order), size * BUCKET):
        bucket = sorted(order[start : start + size * BUCKET], key=lambda row: lengths[row])
        made += [bucket[at : at + size] for at in range(0, len(bucket), size)]
    shuffle.shuffle(made)
    return made


def tensors(tokens: inputs.Tokenized, rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """Rows as one call [len(rows), longest of them]."""
    return {name: torch.from_numpy(array) for name, array in tokens.call(rows).items()}


def make_optimizer(model: torch.nn.Module, rate: float, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW and its schedule, over the weights that want gradients.

    Biases and the scales of layer norms are not decayed, as in BERT's own training.
    """
    weights = [weight for _, weight in _trained(model)]
    decayed = [weight for weight in weights if weight.ndim > 1]
    plain = [weight for weight in weights if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, fused=True)
    warm_up = max(1, round(WARM_UP * steps))
    return optimizer, transformers.get_linear_schedule_with_warmup(optimizer, warm_up, steps)


def step(loss: torch.Tensor, model: torch.nn.Module, optimizer: torch.optim.Optimizer, schedule: Any) -> float:
    """One step of the optimizer down a loss; the loss as a number."""
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def logits(
    model: Any, tokens: inputs.Tokenized, rows: Sequence[int], tell: Callable[[int], None] = lambda _done: None
) -> torch.Tensor:
    """A model's logits [len(rows), classes], float32, in evaluation mode; `tell` hears how many rows are done."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda at: len(tokens.ids[rows[at]]))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(order), EVALUATION_BATCH):
            call = tensors(tokens, [rows[at] for at in order[start : start + EVALUATION_BATCH]])
            parts.append(model(**call).logits.float())
            tell(min(start + EVALUATION_BATCH, len(order)))
        together = torch.cat(parts)
    found = torch.empty(together.shape)  # outside of inference mode: gradients flow past it later
    found[order] = together
    return found


@contextlib.contextmanager
def settled(seed: int, threads: int) -> Iterator[None]:
    """Seed and threads of a training; the process gets its own back."""
    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            torch.set_num_threads(threads)
            yield
    finally:
        torch.set_num_threads(before)


def usable_threads() -> int:
    """As many as this process may use cores: its affinity and its control groups' quota say it."""
    cores, quota = len(os.sched_getaffinity(0)), hardware.quota()
    return cores if quota is None else max(1, min(cores, round(quota)))


def _trained(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]


def _taken_apart(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """An optimizer's state: its tensors by name, and the rest, plain data."""
    whole = optimizer.state_dict()
    moments = {
        f"optimizer.{index}.{name}": value for index, kept in whole["state"].items() for name, value in kept.items()
    }
    return moments, whole["param_groups"]


def _put_together(moments: Mapping[str, torch.Tensor], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The reverse of `_taken_apart`; tensors of other names are passed over."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in moments.items():
        owner, _, rest = key.partition(".")
        if owner == "optimizer":
            index, _, name = rest.partition(".")
            state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": [dict(group) for group in groups]}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
