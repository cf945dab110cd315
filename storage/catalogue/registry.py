"""Every description that exists: built in, and added by other packages.

Another package adds its own through the entry point group `quantfleet.strategies`, each entry naming a `Description`
or a `Transform`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from storage import errors
from storage.catalogue import inductor, onnxruntime, openvino, torch, transforms
from storage.catalogue.descriptions import Description, Part, Transform

ENTRY_POINTS = "quantfleet.strategies"

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "numpy",
    "onnxruntime",
    "onnx",
    "onnxscript",
    "safetensors",
    "openvino",
    "nncf",
    "torchao",
)
"""Distributions that strategies stand on: their versions belong to each result, and hosts can be selected by them."""

log = logging.getLogger(__name__)

P = TypeVar("P", Description, Transform)


@functools.cache
def descriptions() -> Mapping[str, Description]:
    """Every pair of runtime and precision by its name, in the order of registration."""
    built_in = (*torch.DESCRIPTIONS, *inductor.DESCRIPTIONS, *onnxruntime.DESCRIPTIONS, *openvino.DESCRIPTIONS)
    added = (part for part in _added() if isinstance(part, Description))
    return _by_name((*built_in, *added))


@functools.cache
def transforms_by_name() -> Mapping[str, Transform]:
    """Every transform by its name, in the order of registration."""
    added = (part for part in _added() if isinstance(part, Transform))
    return _by_name((*transforms.TRANSFORMS, *added))


def describe(name: str) -> Description:
    """The description of `runtime/precision`, by exact name; StrategyError with the nearest otherwise."""
    known = descriptions()
    if name in known:
        return known[name]
    raise errors.StrategyError(_unknown(name, known))


def transform(name: str) -> Transform:
    """The transform of that exact name; StrategyError with the nearest otherwise."""
    known = transforms_by_name()
    if name in known:
        return known[name]
    near = errors.nearest(name, known)
    raise errors.StrategyError(f"there is no transform {name!r}{near} (there are {', '.join(known)})")


def absent(part: Part) -> list[str]:
    """Packages of a description that this interpreter cannot import (nothing is imported)."""
    return [package for package in part.packages if importlib.util.find_spec(package) is None]


def _by_name(parts: Iterable[P]) -> dict[str, P]:
    found: dict[str, P] = {}
    for part in parts:
        found.setdefault(part.name, part)
    return found


@functools.cache
def _added() -> tuple[Part, ...]:
    return tuple(_load_added())


def _load_added() -> Iterator[Part]:
    """What other packages registered; one that cannot be loaded is named and left out."""
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            part = entry.load()
        except Exception as exc:  # another package's code may raise anything
            log.warning("strategy %s of another package cannot be loaded: %s", entry.value, exc)
            continue
        if isinstance(part, (Description, Transform)):
            yield part
        else:
            log.warning("strategy %s of another package is no Description or Transform, but %r", entry.value, part)


def _unknown(name: str, known: Mapping[str, Description]) -> str:
    runtime, slash, precision = name.partition("/")
    precisions = [d.precision for d in known.values() if d.runtime == runtime]
    if slash and precisions:
        near = errors.nearest(precision, precisions)
        return f"{runtime} has no precision {precision!r}{near} (it has {', '.join(precisions)})"
    near = errors.nearest(name, known)
    return f"there is no strategy {name!r}{near} (`quantfleet strategies` lists them)"
