"""What a model asks of a machine, found by sending one small call through it without any weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage import errors, keys, records
from storage.work import Demand
from worker.artifacts import INPUTS, ArtifactStore
from worker.engine import libraries, models

if TYPE_CHECKING:
    import torch

VERSION = 1
"""Of what a demand means: part of its key."""

ROWS, TOKENS = 3, 7
"""The probe's shape. Its numbers and their product are unlike, so that what passes a layer is told by its rows."""

QUERIES = ("query", "q_lin", "q_proj", "query_proj", "q")
"""Last words of the projections whose outputs are the heads side by side."""

FUSED = ("Wqkv", "qkv_proj", "in_proj")
"""Those that hold queries, keys and values in one."""


@dataclass(slots=True)
class _Seen:
    """What passed through the layers."""

    values: dict[int, int] = field(default_factory=dict)  # rows that came in → weight values that met each of them
    weights: dict[int, int] = field(default_factory=dict)  # identity of a weight → its values
    width: int = 0
    table: tuple[int, int] = (0, 0)  # rows and columns of the largest embedding table that every token reads


def describe(model: records.ModelRef, identity: str, cache: Path) -> dict[str, Any] | None:
    """A model's `storage.work.Demand` as plain data, kept in the cache; None for one that cannot be probed.

    `identity` is the content digest of the model.
    """
    recipe = {"demand": VERSION}
    key = keys.artifact_key(identity, recipe, libraries.versions(["transformers"]))

    def build(_folder: Path) -> dict[str, Any]:
        try:
            return {"demand": dataclasses.asdict(demand(models.empty(model).to("meta")))}
        except (
            errors.ModelError,
            AttributeError,
            IndexError,
            KeyError,
            NotImplementedError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as exc:
            # another architecture may want other inputs or real values: its results then carry no floor
            return {"demand": None, "why": f"{type(exc).__name__}: {exc}"}

    found: dict[str, Any] | None = ArtifactStore(cache / INPUTS).make(key, recipe, build).facts["demand"]
    return found


def demand(model: torch.nn.Module) -> Demand:
    """What a classifier asks of a machine; its weights may be on the meta device."""
    import torch

    settings: Any = model.config
    device = next(model.parameters()).device
    ids = torch.ones(ROWS, TOKENS, dtype=torch.long, device=device)
    with _watched(model) as seen, torch.no_grad():
        model(ids)  # without a mask: whether one masks anything cannot be told on the meta device
    tokens = ROWS * TOKENS
    known = {tokens, ROWS}
    return Demand(
        per_token=seen.values.get(tokens, 0),
        per_row=seen.values.get(ROWS, 0),
        per_call=sum(rows * values for rows, values in seen.values.items() if rows not in known),
        attention_width=seen.width or settings.num_hidden_layers * settings.hidden_size,
        weights=sum(seen.weights.values()),
        embedded=seen.table[1],
        classes=int(settings.num_labels),
    )


@contextmanager
def _watched(model: torch.nn.Module) -> Iterator[_Seen]:
    """Sums up which weights a call meets, and how often."""
    import torch

    seen = _Seen()
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            hooks.append(module.register_forward_pre_hook(_linear(seen, name)))
        elif isinstance(module, torch.nn.Embedding):
            hooks.append(module.register_forward_pre_hook(_embedding(seen)))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _linear(seen: _Seen, name: str) -> Any:
    last = name.rpartition(".")[2]

    def hook(module: Any, given: tuple[Any, ...]) -> None:
        rows = given[0].numel() // module.in_features
        values = module.weight.numel()
        seen.values[rows] = seen.values.get(rows, 0) + values
        seen.weights[id(module.weight)] = values
        if last in QUERIES and rows == ROWS * TOKENS:
            seen.width += module.out_features
        elif last in FUSED and rows == ROWS * TOKENS:
            seen.width += module.out_features // 3

    return hook


def _embedding(seen: _Seen) -> Any:
    def hook(module: Any, given: tuple[Any, ...]) -> None:
        if given[0].numel() == ROWS * TOKENS:  # of positions and types there are few: those tables stay in a cache
            seen.table = max(seen.table, (module.num_embeddings, module.embedding_dim))

    return hook
