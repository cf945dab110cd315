"""Embedding tables in 8 bits: a scale and a zero point (a float, as torch has it for tables) for each row.

What is looked up is turned back into float32, so that the rest of the model does not notice. A row of zeros, which
is what padding usually is, stays exactly zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.ao.nn import quantized
from torch.ao.quantization import qconfig

from worker.engine import models
from worker.engine.strategies import torch_plain


class Embedding(quantized.Embedding):
    """torch's quantized table, which wants its indices contiguous.

    Models look positions and token types up with one row expanded over the batch.
    """

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """Rows of the table in float32: indices [batch, length] give [batch, length, width]."""
        found: torch.Tensor = super().forward(indices.contiguous())
        return found


def looked_up(model: torch.nn.Module) -> list[str]:
    """Names of the tables that a call looks up, in the model's order: what can be replaced by a quantized table.

    Tables that a model reads in another way (DeBERTa multiplies with the weight of its relative positions) are not
    among them, nor are subclasses of nn.Embedding.
    """
    tables = {name: module for name, module in model.named_modules() if type(module) is torch.nn.Embedding}
    called: set[str] = set()
    handles = [module.register_forward_hook(_noting(called, name)) for name, module in tables.items()]
    settings: Any = model.config
    ids = torch.ones((1, 4), dtype=torch.int64)
    try:
        with torch.inference_mode():
            model(**dict.fromkeys(models.input_names(settings), ids))
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in tables if name in called]


def quantize(table: torch.Tensor) -> torch.Tensor:
    """A float table [rows, width] as quint8 with a float scale and zero point for each row."""
    observer = qconfig.float_qparams_weight_only_qconfig.weight()
    observer(table.detach())
    scales, zero_points = observer.calculate_qparams()
    return torch.quantize_per_channel(table.detach().float(), scales.float(), zero_points.float(), 0, torch.quint8)


def layers(names: Sequence[str], tensors: dict[str, torch.Tensor]) -> Mapping[str, torch.nn.Module]:
    """The quantized tables of an artifact by name; takes their tensors out."""
    return {name: _layer(torch_plain.take(f"{name}.weight", tensors)) for name in names}


def _noting(called: set[str], name: str) -> Callable[..., None]:
    def note(*_: object) -> None:
        called.add(name)

    return note


def _layer(table: torch.Tensor) -> Embedding:
    rows, width = table.shape
    return Embedding(rows, width, _weight=table)
