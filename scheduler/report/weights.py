"""Weights before and after quantization: as tensor jobs stored them, or as `model inspect --json` prints them.

A stored weight is smaller than a printed one: its bins are told by their ends, and hold two integers each.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from storage import errors
from storage.views import ResultView

HOW = "quantfleet model inspect MODEL --layer LAYER --json > weight.json"
"""The command that makes such a file."""

MOST = 12
"""Stored weights that a page shows: each takes room for a plot."""

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
    integers: tuple[tuple[float, ...], tuple[int, ...]]  # middles of the bins, counts; empty where none were kept
    errors: tuple[int, ...]  # counts between the weight's error edges


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """One layer's weight and its histograms."""

    layer: str
    model: str | None = None  # None: the file does not say
    type: str
    shape: tuple[int, ...]
    low: float
    high: float
    std: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    error_edges: tuple[float, ...]
    schemes: tuple[Scheme, ...]

    @property
    def name(self) -> str:
        """The layer and its model."""
        return f"{self.layer} of {self.model}" if self.model else self.layer


def stored(views: Iterable[ResultView]) -> list[Weight]:
    """The weights of tensor results, each content of a model once; what cannot be read is left out."""
    found: dict[tuple[str, str | None], Weight] = {}
    for view in views:
        document = view.document.get("weight")
        if not document:
            continue
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):  # it came from elsewhere
            key = (view.model, view.document.get("weight_digest"))
            found.setdefault(key, replace(_weight(document), model=view.model))
    return list(found.values())


def read(path: Path) -> Weight:
    """The weight in a file; SettingsError for what is none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise errors.SettingsError(f"--weights {path}: too large for a weight's histograms; expected: {HOW}")
        document = json.loads(path.read_text())
        return _weight(document)
    except OSError as exc:
        raise errors.SettingsError(f"--weights {path}: {exc.strerror or exc}; `{HOW}` makes it") from exc
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise errors.SettingsError(f"--weights {path} holds no weight's histograms; `{HOW}` makes it") from exc


def _weight(document: Mapping[str, Any]) -> Weight:
    return Weight(
        layer=str(document["layer"]),
        type=str(document["type"]),
        shape=tuple(int(size) for size in document["shape"]),
        low=float(document["min"]),
        high=float(document["max"]),
        std=float(document["std"]),
        edges=_floats(_spread(document["values"]["edges"], len(document["values"]["counts"]))),
        counts=_integers(document["values"]["counts"]),
        error_edges=_floats(_spread(document["error_edges"], len(document["schemes"][0]["errors"]["counts"]))),
        schemes=tuple(_scheme(one) for one in document["schemes"]),
    )


def _scheme(document: Mapping[str, Any]) -> Scheme:
    return Scheme(
        name=str(document["name"]),
        percentile=float(document["percentile"]),
        levels=int(document["levels"]),
        max_error=float(document["max_error"]),
        sqnr_db=None if document["sqnr_db"] is None else float(document["sqnr_db"]),
        clipped=float(document["clipped"]),
        integers=_bins(document.get("integers") or {"first": 0, "counts": []}),
        errors=_integers(document["errors"]["counts"]),
    )


def _bins(document: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Middles of bins of so many integers each, and how many are in them."""
    counts, step = _integers(document["counts"]), int(document.get("step", 1))
    first = int(document["first"]) + (step - 1) / 2
    return tuple(first + step * number for number in range(len(counts))), counts


def _spread(edges: Sequence[float], bins: int) -> Sequence[float]:
    """Edges of so many bins of one width, from their ends; all edges as they are."""
    if len(edges) != 2 or bins == 1:
        return edges
    low, high = edges
    return [low + (high - low) * number / bins for number in range(bins + 1)]


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
