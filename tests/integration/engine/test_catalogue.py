"""Each description has an implementation, and the reverse."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import worker.engine
from storage import strategies
from storage.catalogue import registry
from storage.catalogue.descriptions import Description, Transform
from worker.engine import libraries
from worker.engine.strategies import base

PARTS = registry.parts()
METHODS: dict[type, tuple[str, ...]] = {
    Description: ("recipe", "builds_on", "prepare", "open"),
    Transform: ("recipe", "apply"),
}
PROTOCOLS: dict[type, type] = {Description: base.Implementation, Transform: base.Transformation}
FOLDERS: dict[type, str] = {Description: "strategies", Transform: "transforms"}
OPTIONAL = frozenset(registry.PACKAGES)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_each_description_has_an_implementation(part: Description | Transform) -> None:
    absent = registry.absent(part)
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")
    libraries.silence_transformers()
    made: object = (
        base.load(strategies.parse(part.name))
        if isinstance(part, Description)
        else base.load_transform(strategies.parse_step(part.name))
    )
    for method in METHODS[type(part)]:
        asked = len(inspect.signature(getattr(PROTOCOLS[type(part)], method)).parameters) - 1
        inspect.signature(getattr(made, method)).bind(*range(asked))  # TypeError: it takes other arguments


@pytest.mark.parametrize("kind", [Description, Transform])
def test_each_implementation_has_a_description(kind: type) -> None:
    described = {part.implementation for part in PARTS if isinstance(part, kind)}
    found = set(implementations(kind))
    assert found - described == set(), "describe it in storage/catalogue, or begin its name with an underscore"
    if kind is Description:
        assert "worker.engine.strategies.torch_float:Float32" in found, "the search finds nothing"


def implementations(kind: type) -> Iterator[str]:
    """`module:Class` of every public class that has all that the protocol asks for, and can be made."""
    for module in modules(FOLDERS[kind]):
        for name, member in inspect.getmembers(module, inspect.isclass):
            own = member.__module__ == module.__name__ and not name.startswith("_") and not inspect.isabstract(member)
            if own and member not in PROTOCOLS.values() and all(hasattr(member, method) for method in METHODS[kind]):
                yield f"{module.__name__}:{name}"


def modules(folder: str) -> Iterator[ModuleType]:
    """The modules of a folder of the engine; those whose packages are not installed are left out."""
    libraries.silence_transformers()
    paths = [f"{path}/{folder}" for path in worker.engine.__path__]
    for found in pkgutil.iter_modules(paths, f"worker.engine.{folder}."):
        try:
            yield importlib.import_module(found.name)
        except ModuleNotFoundError as exc:
            if (exc.name or "").partition(".")[0] not in OPTIONAL:
                raise
