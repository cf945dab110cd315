"""What every strategy's implementation offers, and how it is found."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from storage import errors, records, strategies
from worker.engine import sessions


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What an artifact is made from."""

    model: records.ModelRef
    base: Path | None = None  # folder of the artifact that `Implementation.builds_on` names


class Implementation(Protocol):
    """One runtime and precision, made by its class without arguments."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """What of the strategy decides the artifact's bytes; part of the artifact's key."""

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """The strategy whose artifact this one is built from, or None for the model itself."""

    def prepare(self, source: Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Write the artifact's files into an empty folder; returns facts. Raises ModelError, Unsupported."""

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> sessions.Session:
        """Load an artifact for a number of intra-op threads. Raises Unsupported."""


def load(strategy: strategies.Strategy) -> Implementation:
    """The implementation that a strategy's description names; StrategyError when there is no such target."""
    target = strategies.describe(strategy.name).implementation
    module, _, name = target.partition(":")
    try:
        implementation: Implementation = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError) as exc:
        raise errors.StrategyError(f"{strategy.name}: its implementation {target} cannot be loaded: {exc}") from exc
    return implementation
