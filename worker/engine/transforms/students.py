"""Students: smaller copies of a classifier, of some of its layers and, if asked, of a part of its width."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from storage import errors
from worker.engine import structure
from worker.engine.transforms import widths

FAMILIES = {
    "bert": "encoder.layer",
    "camembert": "encoder.layer",
    "distilbert": "transformer.layer",
    "electra": "encoder.layer",
    "mpnet": "encoder.layer",
    "roberta": "encoder.layer",
    "xlm-roberta": "encoder.layer",
}
"""Architectures that a student can be made of → where their base model has its list of layers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Student:
    """A student that nobody has taught yet, with weights of its own."""

    model: torch.nn.Module
    layers: tuple[int, ...]  # the teacher's layers that its own are copies of, counted from 0
    width: torch.Tensor | None  # the teacher's dimensions that are left, ascending; None: all


def make(teacher: torch.nn.Module, layers: int | None, hidden: int | None) -> Student:
    """A student of a number of the teacher's layers (None: half of them) and of a width (None: the teacher's).

    Raises StrategyError for more than the teacher has and for a width that its heads cannot share, Unsupported for
    architectures that are not in FAMILIES and for a narrower student of a teacher whose layers were cut.
    """
    every = len(layers_of(teacher))
    wanted = max(1, every // 2) if layers is None else layers
    if wanted > every:
        raise errors.StrategyError(f"distil: layers={wanted} is more than the teacher has: it has {every} layers")
    kept = spaced(every, wanted)
    cut = structure.is_cut(config_of(teacher))
    model = _shallower(teacher, kept)
    if hidden is None or hidden == config_of(teacher).hidden_size:
        return Student(model=model, layers=kept, width=None)
    if cut:
        raise errors.Unsupported(
            f"distil: hidden={hidden} needs layers of one width, and the teacher's were cut; "
            "distil first and prune then, or leave hidden= out"
        )
    narrower, width = widths.narrower(model, hidden)
    return Student(model=narrower, layers=kept, width=width)


def spaced(layers: int, wanted: int) -> tuple[int, ...]:
    """The last of each of `wanted` equal spans of layers, counted from 0: of 6, 3 are 1, 3 and 5."""
    return tuple((at + 1) * layers // wanted - 1 for at in range(wanted))


def layers_of(model: torch.nn.Module) -> torch.nn.ModuleList:
    """The encoder's layers; Unsupported for an architecture that is not in FAMILIES."""
    kind, owner = config_of(model).model_type, model
    if kind not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise errors.Unsupported(f"distil makes no student of architecture {kind!r}; it can of {known}")
    base: Any = getattr(owner, "base_model", owner)
    found: torch.nn.ModuleList = base.get_submodule(FAMILIES[kind])
    return found


def config_of(model: torch.nn.Module) -> Any:
    """The transformers configuration of a model."""
    holder: Any = model
    return holder.config


def _shallower(teacher: torch.nn.Module, kept: Sequence[int]) -> torch.nn.Module:
    """A copy with some of the layers; layers that were cut keep their shapes."""
    model = copy.deepcopy(teacher)
    every = layers_of(model)
    for at in reversed(range(len(every))):
        if at not in kept:
            del every[at]
    config = config_of(model)
    config.num_hidden_layers = len(kept)
    if structure.is_cut(config):
        delattr(config, structure.FIELD)  # it names the teacher's layers; saving describes the student's own
    return model
