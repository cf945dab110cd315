"""A narrower copy of a classifier: of each kind of axis, the places whose weights are the largest.

Dimensions are chosen once for the whole model, since residual connections tie all layers to them; channels of a head
and neurons are chosen layer by layer, a channel of a query with the key's that it is multiplied with, a value's with
the output's that reads it. The norm of weights is the measure, as in magnitude pruning of whole structures (Li et al.
2017, arXiv:1608.08710).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch

from storage import errors

_LINEAR = {
    "query": r"attention\.self\.query|attention\.q_lin|attention\.attn\.q",
    "key": r"attention\.self\.key|attention\.k_lin|attention\.attn\.k",
    "value": r"attention\.self\.value|attention\.v_lin|attention\.attn\.v",
    "mix": r"attention\.output\.dense|attention\.out_lin|attention\.attn\.o",
    "widen": r"intermediate\.dense|ffn\.lin1",
    "shrink": r"output\.dense|ffn\.lin2",
}
"""What a linear layer inside an encoder layer does → its name there, of all families."""

_ENTRY = re.compile(r"(?P<layer>.*\.layer\.\d+)\.(?:" + "|".join(f"(?P<{k}>{v})" for k, v in _LINEAR.items()) + ")")

_OUT = {"query": "scores", "key": "scores", "value": "values", "widen": "neurons"}
"""Linear layers whose outputs are no dimensions of the model → what they are."""

_IN = {"mix": "values", "shrink": "neurons"}
"""Linear layers whose inputs are no dimensions of the model → what they are."""

_MEASURED = {"scores": ("query", "key"), "values": ("value", "mix"), "neurons": ("widen", "shrink")}
"""An axis → the two linear layers that share it; a place counts the product of its norms in both."""

Places = Mapping[tuple[str, str], torch.Tensor]
"""(Layer's name, kind of axis) → the places that are left, ascending."""


def narrower(model: Any, hidden: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """A copy of a width that all its layers share, as many heads, each narrower, and the dimensions that are left.

    Neurons shrink by the same share. Raises StrategyError for a width that is not below the model's or that its heads
    cannot share.
    """
    config = _narrower_config(model.config, hidden)
    made = _empty(config)
    weights = {name: value.float() for name, value in model.state_dict().items()}
    width = _largest(_width_norms(weights, model.config.hidden_size), hidden)
    places = _places(weights, model.config, config)
    shapes = {name: value.shape for name, value in made.state_dict().items()}
    cut = {name: _cut(name, value, shapes[name], width, places) for name, value in weights.items()}
    made.load_state_dict(cut, strict=True)
    return made.float().eval(), width


def _narrower_config(config: Any, hidden: int) -> Any:
    old, heads = int(config.hidden_size), int(config.num_attention_heads)
    if hidden > old:
        raise errors.StrategyError(f"distil: hidden={hidden} is wider than the teacher: it has {old}")
    if hidden % heads:
        near = max(heads, round(hidden / heads) * heads)
        raise errors.StrategyError(
            f"distil: hidden={hidden} cannot be shared by the teacher's {heads} heads; hidden={near} can"
        )
    made, embedding = copy.deepcopy(config), getattr(config, "embedding_size", None)
    made.hidden_size = hidden
    if embedding == old:
        made.embedding_size = hidden
    elif embedding == hidden:  # electra has a projection between the two where they differ, and only there
        raise errors.StrategyError(
            f"distil: hidden={hidden} is the width of the teacher's embeddings; this architecture would lose the "
            "projection behind them, take another width"
        )
    name = "hidden_dim" if hasattr(config, "hidden_dim") else "intermediate_size"
    setattr(made, name, max(1, round(getattr(config, name) * hidden / old)))
    return made


def _empty(config: Any) -> Any:
    from transformers import AutoModelForSequenceClassification
    from transformers.initialization import no_init_weights

    with no_init_weights():
        return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)


def _role(name: str) -> tuple[str, str] | None:
    """(Layer, what the linear layer does) of a weight's or bias's name; None outside of the encoder's linear ones."""
    found = _ENTRY.fullmatch(name.rpartition(".")[0])
    return None if found is None else (found["layer"], str(found.lastgroup))


def _width_norms(weights: Mapping[str, torch.Tensor], width: int) -> torch.Tensor:
    """Each dimension's share in the squared norm of the linear layers that read it, in the mean over them."""
    shares = torch.zeros(width)
    for name, value in weights.items():
        role = _role(name)
        if role is not None and role[1] not in _IN and value.ndim == 2:
            squares = value.square().sum(dim=0)
            shares += squares / squares.sum()
    return shares


def _places(weights: Mapping[str, torch.Tensor], old: Any, new: Any) -> Places:
    """The channels and neurons that are left of each layer."""
    linear = {role: value for name, value in weights.items() if value.ndim == 2 and (role := _role(name))}
    heads = int(old.num_attention_heads)
    channels = int(new.hidden_size) // heads
    found: dict[tuple[str, str], torch.Tensor] = {}
    for layer in {layer for layer, _ in linear}:
        for kind, pair in _MEASURED.items():
            norms = torch.stack([_norms(linear[layer, role], role) for role in pair]).prod(dim=0)
            if kind == "neurons":
                neurons = getattr(new, "hidden_dim", None) or new.intermediate_size
                found[layer, kind] = _largest(norms, neurons)
            else:
                found[layer, kind] = _largest_of_each(norms, heads, channels)
    return found


def _norms(weight: torch.Tensor, role: str) -> torch.Tensor:
    found: torch.Tensor = torch.linalg.vector_norm(weight, dim=0 if role in _IN else 1)
    return found


def _largest(norms: torch.Tensor, count: int) -> torch.Tensor:
    return norms.topk(count).indices.sort().values


def _largest_of_each(norms: torch.Tensor, heads: int, channels: int) -> torch.Tensor:
    """The places of the largest `channels` of each head, head by head."""
    by_head = norms.reshape(heads, -1)
    chosen = by_head.topk(channels, dim=1).indices.sort(dim=1).values
    return (chosen + torch.arange(heads)[:, None] * by_head.shape[1]).flatten()


def _cut(name: str, value: torch.Tensor, shape: torch.Size, width: torch.Tensor, places: Places) -> torch.Tensor:
    """The part of a tensor that a narrower one of the same name has."""
    role = _role(name)
    for axis, size in enumerate(shape):
        if value.shape[axis] != size:
            kind = None if role is None else (_OUT if axis == 0 else _IN).get(role[1])
            value = value.index_select(axis, width if role is None or kind is None else places[role[0], kind])
    return value.contiguous()
