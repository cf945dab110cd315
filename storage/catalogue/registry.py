"""Every description that exists: built in, and added by other packages.

Another package adds its own through the entry point group `quantfleet.strategies`, each entry naming a `Description`
or a `Transform`. What cannot be loaded, cannot be spelled in a strategy, or has the name of another one is named in the
log and left out.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import re
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

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

log = logging.getLogger(__name__)

P = TypeVar("P", Description, Transform)


@functools.cache
def descriptions() -> Mapping[str, Description]:
    """Every pair of runtime and precision by its name, in the order of registration."""
    built_in = (*torch.DESCRIPTIONS, *inductor.DESCRIPTIONS, *onnxruntime.DESCRIPTIONS, *openvino.DESCRIPTIONS)
    return _by_name(built_in, (part for part in _added() if isinstance(part, Description)))


@functools.cache
def transforms_by_name() -> Mapping[str, Transform]:
    """Every transform by its name, in the order of registration."""
    return _by_name(transforms.TRANSFORMS, (part for part in _added() if isinstance(part, Transform)))


def parts() -> tuple[Description | Transform, ...]:
    """Pairs, then transforms."""
    return (*descriptions().values(), *transforms_by_name().values())


@functools.cache
def packages() -> tuple[str, ...]:
    """Distributions whose versions belong to a result: ours, then what added strategies stand on."""
    return tuple(dict.fromkeys((*PACKAGES, *(package for part in _added() for package in part.packages))))


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


def _by_name(built_in: Iterable[P], added: Iterable[P]) -> dict[str, P]:
    found = {part.name: part for part in built_in}
    for part in added:
        if found.setdefault(part.name, part) is not part:
            log.warning("strategy %s of another package has the name of one that is there, and is left out", part.name)
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
        if not isinstance(part, (Description, Transform)):
            log.warning("strategy %s of another package is no Description or Transform, but %r", entry.value, part)
        elif not all(_NAME.fullmatch(word) for word in _words(part)):
            log.warning("strategy %s of another package has a name that cannot be written: %r", entry.value, part.name)
        else:
            yield part


def _words(part: Description | Transform) -> tuple[str, ...]:
    return (part.runtime, part.precision) if isinstance(part, Description) else (part.name,)


def _unknown(name: str, known: Mapping[str, Description]) -> str:
    runtime, slash, precision = name.partition("/")
    precisions = [d.precision for d in known.values() if d.runtime == runtime]
    if slash and precisions:
        near = errors.nearest(precision, precisions)
        return f"{runtime} has no precision {precision!r}{near} (it has {', '.join(precisions)})"
    near = errors.nearest(name, known)
    return f"there is no strategy {name!r}{near} (`quantfleet strategies` lists them)"
