"""Ways to round a weight to 8-bit integers, and what each of them loses.

Integers, scales and zero points are torch's own (`torch.quantize_per_tensor`, `torch.quantize_per_channel`). With a
scale s and a zero point z, a value w becomes q = round(w / s) + z, cut to -128 … 127, and stands for (q - z) * s.

- `article`: one scale (max - min) / 255 and zero point 0, as chapter 8 of "Natural Language Processing with
  Transformers" (Tunstall, von Werra, Wolf; O'Reilly 2022) does it. Where the range is not symmetric, the longer side
  is cut off.
- `affine`: the range, widened to hold zero, shifted by a zero point so that nothing is cut off.
- `symmetric`: scale max |w| / 127.5, zero point 0: what `torch/int8-dynamic` stores.
- `per channel`: the same, a scale for each row: `torch/int8-dynamic:per_channel`.
- `per row`: for tables that are looked up, what `torch/int8-dynamic:embeddings` stores: 0 … 255, a scale and a
  zero point (a float) for each row.

The first three and `per channel` come a second time (without `article`) with ranges that hold the middle 99.9 % of the
values: finer steps for most, at the price of those that are cut off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from worker.engine import layers
from worker.engine.strategies import torch_embeddings

PERCENTILE = 99.9
"""Per cent of the values that a clipped range holds: of their sizes for symmetric ranges, the middle ones otherwise."""

BINS = 200
"""Bins of the histograms of values and of errors."""

OUTLINE_BINS = 100
"""The same where a result keeps them."""

_LEVELS = 255  # steps between the least and the greatest of 256 integers
_LEAST_SCALE = float(torch.finfo(torch.float32).eps)  # torch's observers' too: a weight of zeros has a scale


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """One way, carried out."""

    name: str
    granularity: str  # tensor, or row
    percentile: float  # of the values in the range; 100 for all
    quantized: torch.Tensor  # torch's quantized tensor [out, in]


def schemes(weight: torch.Tensor, kind: str) -> Iterator[Scheme]:
    """The ways that apply to a layer of a kind (its class), for a float32 weight [out, in], one after the other."""
    yield Scheme(name="article", granularity="tensor", percentile=100.0, quantized=article(weight))
    for percentile in (100.0, PERCENTILE):
        for name, granularity, found in (
            ("affine", "tensor", affine(weight, percentile)),
            ("symmetric", "tensor", symmetric(weight, percentile)),
            ("per channel", "row", per_channel(weight, percentile)),
        ):
            yield Scheme(name=name, granularity=granularity, percentile=percentile, quantized=found)
    if kind == "Embedding":
        table = torch_embeddings.quantize(weight)
        yield Scheme(name="per row", granularity="row", percentile=100.0, quantized=table)


def article(weight: torch.Tensor) -> torch.Tensor:
    """Per tensor, scale (max - min) / 255, zero point 0."""
    scale = max(float(weight.max() - weight.min()) / _LEVELS, _LEAST_SCALE)
    return torch.quantize_per_tensor(weight, scale, 0, torch.qint8)


def affine(weight: torch.Tensor, percentile: float = 100.0) -> torch.Tensor:
    """Per tensor, the range shifted by a zero point, which makes zero exact."""
    tail = (100.0 - percentile) / 2
    low, high = (float(found) for found in np.percentile(weight.numpy(), [tail, 100.0 - tail]))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / _LEVELS, _LEAST_SCALE)
    zero_point = min(max(-128 - round(low / scale), -128), 127)
    return torch.quantize_per_tensor(weight, scale, zero_point, torch.qint8)


def symmetric(weight: torch.Tensor, percentile: float = 100.0) -> torch.Tensor:
    """Per tensor, the same range on both sides of zero, zero point 0."""
    bound = float(np.percentile(np.abs(weight.numpy()), percentile))
    return torch.quantize_per_tensor(weight, max(2 * bound / _LEVELS, _LEAST_SCALE), 0, torch.qint8)


def per_channel(weight: torch.Tensor, percentile: float = 100.0) -> torch.Tensor:
    """As `symmetric`, for each row [in] by itself; `percentile` is of the row's values."""
    bounds = torch.from_numpy(np.percentile(np.abs(weight.numpy()), percentile, axis=1))
    scales = (2 * bounds / _LEVELS).float().clamp(min=_LEAST_SCALE)
    return torch.quantize_per_channel(weight, scales, torch.zeros(len(scales), dtype=torch.int64), 0, torch.qint8)


def judge(weight: torch.Tensor, scheme: Scheme, edges: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What a scheme loses of a weight, as plain JSON data.

    `scale` and `zero_point` are [least, greatest]. Errors are in the weight's unit; `sqnr_db` is
    10 log10(sum w² / sum (w' - w)²), None where nothing is lost. `clipped` is the share of values that lie more than
    half a step beyond the outermost levels; `levels` how many of the 256 integers are used. Histograms: how often each
    integer occurs, and errors between `edges`, with the number of those beyond.
    """
    quantized = scheme.quantized
    scales, zeros = _parameters(quantized)
    integers = quantized.int_repr()
    first = torch.iinfo(integers.dtype).min
    counts = np.bincount(integers.numpy().ravel().astype(np.int64) - first, minlength=_LEVELS + 1)
    errors = (quantized.dequantize() - weight).numpy()
    squares = float(np.square(errors, dtype=np.float64).sum())
    power = float(np.square(weight.numpy(), dtype=np.float64).sum())
    held, _ = np.histogram(errors, bins=edges)
    return {
        "name": scheme.name,
        "granularity": scheme.granularity,
        "percentile": scheme.percentile,
        "dtype": str(integers.dtype).removeprefix("torch."),
        "scale": _ends(scales),
        "zero_point": _ends(zeros),
        "max_error": float(np.abs(errors).max()),
        "rms_error": math.sqrt(squares / errors.size),
        "sqnr_db": 10 * math.log10(power / squares) if squares and power else None,
        "clipped": _clipped(weight, scales, zeros, first),
        "levels": int((counts > 0).sum()),
        "integers": {"first": first, "counts": counts.tolist()},
        "errors": {"counts": held.tolist(), "beyond": int(errors.size - held.sum())},
    }


def weigh(layer: layers.Layer) -> dict[str, Any]:
    """A layer's weight before quantization and under every scheme that applies to it, as plain JSON data.

    Values are counted in `BINS` bins from the least to the greatest, errors in as many, over what rounding alone can
    make of them: half a step of `symmetric`, the widest, and a tenth of that more, on both sides.
    """
    values = layer.weight.numpy()
    counts, edges = np.histogram(values, bins=BINS)
    step = float(symmetric(layer.weight).q_scale())
    error_edges = np.linspace(-0.55 * step, 0.55 * step, BINS + 1)
    return {
        "layer": layer.name,
        "type": layer.kind,
        "digest": layer.digest,
        "shape": list(values.shape),
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(values.mean(dtype=np.float64)),
        "std": float(values.std(dtype=np.float64)),
        "values": {"edges": edges.tolist(), "counts": counts.tolist()},
        "error_edges": error_edges.tolist(),
        "schemes": [judge(layer.weight, scheme, error_edges) for scheme in schemes(layer.weight, layer.kind)],
    }


def outline(weight: torch.Tensor) -> dict[str, Any]:
    """`weigh` in small, for a result that keeps it (3 kB): the weight [out, in] and the two schemes of int8 weights.

    `OUTLINE_BINS` bins of one width, told by their ends; integers two to a bin, of one scale only.
    """
    values = weight.numpy()
    counts, edges = np.histogram(values, bins=OUTLINE_BINS)
    step = float(symmetric(weight).q_scale())
    error_edges = np.linspace(-0.55 * step, 0.55 * step, OUTLINE_BINS + 1)
    ways = (("symmetric", "tensor", symmetric(weight)), ("per channel", "row", per_channel(weight)))
    judged = [
        judge(weight, Scheme(name=name, granularity=granularity, percentile=100.0, quantized=found), error_edges)
        for name, granularity, found in ways
    ]
    return {
        "shape": list(values.shape),
        "min": float(values.min()),
        "max": float(values.max()),
        "std": float(values.std(dtype=np.float64)),
        "values": {"edges": [float(edges[0]), float(edges[-1])], "counts": counts.tolist()},
        "error_edges": [float(error_edges[0]), float(error_edges[-1])],
        "schemes": [_outlined(one) for one in judged],
    }


def _outlined(judged: dict[str, Any]) -> dict[str, Any]:
    kept = ("name", "granularity", "percentile", "max_error", "sqnr_db", "clipped", "levels", "errors")
    whole = judged["integers"]
    pairs = [a + b for a, b in zip(whole["counts"][::2], whole["counts"][1::2], strict=True)]
    integers = {"first": whole["first"], "step": 2, "counts": pairs} if judged["granularity"] == "tensor" else None
    return {**{name: judged[name] for name in kept}, "integers": integers}


def _parameters(quantized: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and zero points in float64, each [1] or [rows]."""
    if quantized.qscheme() == torch.per_tensor_affine:
        return torch.tensor([quantized.q_scale()], dtype=torch.float64), torch.tensor([quantized.q_zero_point()])
    return quantized.q_per_channel_scales().double(), quantized.q_per_channel_zero_points().double()


def _clipped(weight: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor, first: int) -> float:
    """The share of values beyond what rounding alone explains; a thousandth of a step is float32's own."""
    half = 0.5 + 1e-3
    low, high = (scales * (first - half - zeros)).float(), (scales * (first + _LEVELS + half - zeros)).float()
    outside = (weight < low.unsqueeze(1)) | (weight > high.unsqueeze(1))
    return int(outside.sum()) / weight.numel()


def _ends(found: torch.Tensor) -> list[float]:
    return [float(found.min()), float(found.max())]
