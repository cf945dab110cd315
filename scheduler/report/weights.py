"""Weights before and after quantization, read from what `quantfleet model inspect --layer … --json` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import errors

HOW = "quantfleet model inspect MODEL --layer LAYER --json > weight.json"
"""The command that makes such a file."""

MOST_BYTES = 4_000_000
"""Largest file that is read: what inspect prints has some 20 kB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """One way to round a weight to 8 bits."""

    name: str
    percentile: float  # of the values that its range holds
    levels: int  # of 256 that occur
    max_error: float
    sqnr_db: float | None
    clipped: float  # share of the values
    integers: tuple[tuple[int, ...], tuple[int, ...]]  # values, counts
    errors: tuple[int, ...]  # counts between the weight's error edges


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """One layer's weight and its histograms."""

    layer: str
    type: str
    shape: tuple[int, ...]
    low: float
    high: float
    std: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    error_edges: tuple[float, ...]
    schemes: tuple[Scheme, ...]


def read(path: Path) -> Weight:
    """The weight in a file; SettingsError for what is none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise errors.SettingsError(f"--weights {path}: too large for a weight's histograms; expected: {HOW}")
        document = json.loads(path.read_text())
        return _weight(document)
    except OSError as exc:
        raise errors.SettingsError(f"--weights {path}: {exc.strerror or exc}; `{HOW}` makes it") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise errors.SettingsError(f"--weights {path} holds no weight's histograms; `{HOW}` makes it") from exc


def _weight(document: Mapping[str, Any]) -> Weight:
    return Weight(
        layer=str(document["layer"]),
        type=str(document["type"]),
        shape=tuple(int(size) for size in document["shape"]),
        low=float(document["min"]),
        high=float(document["max"]),
        std=float(document["std"]),
        edges=_floats(document["values"]["edges"]),
        counts=_integers(document["values"]["counts"]),
        error_edges=_floats(document["error_edges"]),
        schemes=tuple(_scheme(one) for one in document["schemes"]),
    )


def _scheme(document: Mapping[str, Any]) -> Scheme:
    integers = document["integers"]
    counts = _integers(integers["counts"])
    values = tuple(int(integers["first"]) + number for number in range(len(counts)))
    return Scheme(
        name=str(document["name"]),
        percentile=float(document["percentile"]),
        levels=int(document["levels"]),
        max_error=float(document["max_error"]),
        sqnr_db=None if document["sqnr_db"] is None else float(document["sqnr_db"]),
        clipped=float(document["clipped"]),
        integers=(values, counts),
        errors=_integers(document["errors"]["counts"]),
    )


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
