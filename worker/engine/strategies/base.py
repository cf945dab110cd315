"""What every implementation of a strategy's parts offers, and how it is found."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from storage import errors, records, strategies
from worker.engine import sessions

Tell = Callable[[Mapping[str, Any]], None]
"""Takes progress, as plain JSON data: `phase`, and `done` of `total` or what else there is to show."""


def silent(_progress: Mapping[str, Any]) -> None:
    """Progress that nobody wants."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What an artifact is made from."""

    model: records.ModelRef  # as it comes from the step before
    base: Path | None = None  # folder of the artifact that `Implementation.builds_on` names
    dataset: records.DatasetRef | None = None  # what the option `data` names; None when nothing is read
    scratch: Path | None = None  # a folder that outlives a process that is killed, for what can be resumed
    tell: Tell = silent


class Implementation(Protocol):
    """One runtime and precision, made by its class without arguments."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """What of the strategy decides the artifact's bytes; part of the artifact's key.

        The content of the dataset that it reads is part of the key anyway. Where the bytes depend on the CPU, the
        recipe holds `libraries.isa()`.
        """

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """The strategy whose artifact this one is built from, or None for the model itself."""

    def prepare(self, source: Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Write the artifact's files into an empty folder; returns facts. Raises ModelError, Unsupported."""

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> sessions.Session:
        """Load an artifact for a number of intra-op threads. Raises Unsupported."""


@runtime_checkable
class Settling(Protocol):
    """An implementation that keeps something of its own on each host beside an artifact, such as compiled code."""

    def settle(self, folder: Path, strategy: strategies.Strategy) -> None:
        """Make it where an artifact that is ready lacks it: one from another host. Raises Unsupported."""


class Transformation(Protocol):
    """One transform, made by its class without arguments."""

    def recipe(self, step: strategies.Step) -> Mapping[str, Any]:
        """What of the step decides the new model; part of its key, as for `Implementation`."""

    def apply(self, source: Source, step: strategies.Step, folder: Path) -> Mapping[str, Any]:
        """Write the new model into an empty folder, as `models.save` does; returns facts.

        Raises ModelError, DatasetError, StrategyError for what this model cannot give, Unsupported.
        """


def load(strategy: strategies.Strategy) -> Implementation:
    """The implementation that a strategy's description names; StrategyError when there is no such target."""
    implementation: Implementation = _made(strategy)
    return implementation


def load_transform(step: strategies.Step) -> Transformation:
    """The implementation that a transform's description names; StrategyError when there is no such target."""
    transformation: Transformation = _made(step)
    return transformation


def _made(chosen: strategies.Chosen) -> Any:
    target = chosen.part.implementation
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError) as exc:
        raise errors.StrategyError(f"{chosen.name}: its implementation {target} cannot be loaded: {exc}") from exc
