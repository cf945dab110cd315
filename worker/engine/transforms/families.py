"""Where the architectures keep what can be cut: a table of module names, and what it finds in a model.

A family is here for heads only when its attention takes the number of heads from the projections' width. MPNet's does
not: it adds one table of position biases, shaped for all the heads, to the scores of every layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from storage import errors

if TYPE_CHECKING:
    import torch

What = Literal["heads", "neurons"]
"""Attention heads, or neurons of the feed-forward."""

WHATS: tuple[What, ...] = get_args(What)


@dataclass(frozen=True, kw_only=True, slots=True)
class Projections:
    """Linear layers around the same features, by their names within a layer of the encoder."""

    into: tuple[str, ...]  # features are their rows
    out: str  # features are its columns


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """How an architecture names its parts."""

    stack: str  # the list of the encoder's layers
    heads: Projections | None  # None: cutting them takes more than other shapes
    neurons: Projections  # nothing but an elementwise function between the two

    def projections(self, what: What) -> Projections | None:
        """The linear layers around one kind of parts."""
        return self.heads if what == "heads" else self.neurons


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The heads or the neurons of one layer of a model; each is `size` neighbouring features of the projections."""

    into: tuple[str, ...]  # whole names of linear layers
    out: str
    size: int  # features
    count: int  # heads or neurons


_BERT_HEADS = Projections(
    into=("attention.self.query", "attention.self.key", "attention.self.value"), out="attention.output.dense"
)
_BERT_NEURONS = Projections(into=("intermediate.dense",), out="output.dense")


def _bert_like(prefix: str) -> Family:
    return Family(stack=f"{prefix}.encoder.layer", heads=_BERT_HEADS, neurons=_BERT_NEURONS)


FAMILIES: Mapping[str, Family] = {
    "bert": _bert_like("bert"),
    "roberta": _bert_like("roberta"),
    "xlm-roberta": _bert_like("roberta"),
    "camembert": _bert_like("roberta"),
    "electra": _bert_like("electra"),
    "distilbert": Family(
        stack="distilbert.transformer.layer",
        heads=Projections(into=("attention.q_lin", "attention.k_lin", "attention.v_lin"), out="attention.out_lin"),
        neurons=Projections(into=("ffn.lin1",), out="ffn.lin2"),
    ),
    "mpnet": Family(stack="mpnet.encoder.layer", heads=None, neurons=_BERT_NEURONS),
}
"""By transformers' model type."""


def known(model_type: str, what: What) -> bool:
    """Whether an architecture's heads or neurons can be cut."""
    family = FAMILIES.get(model_type)
    return family is not None and family.projections(what) is not None


def blocks(model: torch.nn.Module, what: What) -> list[Block]:
    """What can be cut, layer by layer, in the model as it is (it may be cut already).

    Raises Unsupported, with the architectures that work, for one whose heads or neurons cannot be cut.
    """
    settings: Any = model.config
    family = FAMILIES.get(settings.model_type)
    projections = family.projections(what) if family else None
    if family is None or projections is None:
        works = [name for name in FAMILIES if known(name, what)]
        raise errors.Unsupported(f"{what} of {settings.model_type} models cannot be cut, those of {_listed(works)} can")
    size = settings.hidden_size // settings.num_attention_heads if what == "heads" else 1
    layers: Any = model.get_submodule(family.stack)
    return [_block(model, f"{family.stack}.{at}", projections, size) for at in range(len(layers))]


def _block(model: torch.nn.Module, layer: str, projections: Projections, size: int) -> Block:
    out: Any = model.get_submodule(f"{layer}.{projections.out}")
    return Block(
        into=tuple(f"{layer}.{name}" for name in projections.into),
        out=f"{layer}.{projections.out}",
        size=size,
        count=out.in_features // size,
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}"
