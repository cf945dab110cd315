"""From a model and a strategy to an artifact: each transform's model, then what the runtime loads, all kept by content.

What a step is made from decides its key, so that the same steps on the same model and data are prepared once,
whatever comes after them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from storage import digests, errors, keys, records, strategies
from worker.artifacts import ARTIFACTS, ArtifactStore
from worker.engine import libraries, models, readers, work
from worker.engine.strategies import base

TRAINING = "training"
"""Folder of unfinished trainings inside the cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What is to be prepared, and from what."""

    model: records.ModelRef
    strategy: strategies.Strategy
    cache: Path
    data: Mapping[str, records.DatasetRef] = field(default_factory=dict)  # by the names that options `data` use
    given: Mapping[str, str] = field(default_factory=dict)  # transform steps so far → key of the model to take
    tell: base.Tell = base.silent


def prepare(order: Order) -> tuple[Path, records.Artifact]:
    """The artifact's folder and record, made where they do not exist yet.

    Raises ModelError, DatasetError, StrategyError, Unsupported, and SettingsError for a cache that cannot be written.
    """
    store = ArtifactStore(order.cache / ARTIFACTS)
    model, identity = order.model, models.identify(order.model)
    steps: list[dict[str, Any]] = []
    spent = 0.0
    for at, step in enumerate(order.strategy.steps):
        so_far = "+".join(map(str, order.strategy.steps[: at + 1]))
        made = _transformed(order, store, model, identity, step, order.given.get(so_far))
        folder = store.folder(made.key)
        model = records.ModelRef(name=order.model.name, source="local", location=str(folder))
        identity = digests.model_digest(folder)
        spent += made.prepare_s
        steps.append({"step": str(step), "key": made.key, "model_digest": identity, "facts": dict(made.facts)})
    demand = work.describe(model, identity, order.cache)
    facts = {"demand": demand} | ({"transforms": steps} if steps else {})
    before = Before(facts=facts, prepare_s=spent)
    folder, artifact = _executable(order, store, model, identity, order.strategy.untransformed, before)
    # other steps may have made the same model before, and with it this very artifact: its facts name those
    return folder, replace(artifact, facts={**artifact.facts, **before.facts})


@dataclass(frozen=True, kw_only=True, slots=True)
class Before:
    """What an artifact's facts say of the model that it is made from, and what the transforms took."""

    facts: Mapping[str, Any]
    prepare_s: float


def _transformed(
    order: Order, store: ArtifactStore, model: records.ModelRef, identity: str, step: strategies.Step, given: str | None
) -> records.Artifact:
    if given is not None:
        ready = store.read(given)
        if ready is not None:
            return ready
    transformation = base.load_transform(step)
    dataset, content = _dataset(order, step)
    recipe = {"transform": step.name, **transformation.recipe(step), **content}
    key = keys.artifact_key(identity, recipe, libraries.versions(step.part.packages))
    scratch = order.cache / TRAINING / key
    source = base.Source(model=model, dataset=dataset, scratch=scratch, tell=order.tell)

    def build(folder: Path) -> Mapping[str, Any]:
        facts = transformation.apply(source, step, folder)
        shutil.rmtree(scratch, ignore_errors=True)
        return facts

    return store.make(key, recipe, build)


def _executable(
    order: Order,
    store: ArtifactStore,
    model: records.ModelRef,
    identity: str,
    strategy: strategies.Strategy,
    before: Before,
) -> tuple[Path, records.Artifact]:
    implementation = base.load(strategy)
    dataset, content = _dataset(order, strategy)
    recipe = {**implementation.recipe(strategy), **content}
    key = keys.artifact_key(identity, recipe, libraries.versions(strategy.part.packages))
    ready = store.read(key)
    if ready is not None:  # what it was built on may be long gone
        return _settled(implementation, store.folder(key), strategy), ready
    below = implementation.builds_on(strategy)
    folder, inherited = None, before.prepare_s
    if below is not None:
        folder, artifact = _executable(order, store, model, identity, below, before)
        inherited = artifact.prepare_s
    source = base.Source(model=model, base=folder, dataset=dataset, tell=order.tell)

    def build(target: Path) -> Mapping[str, Any]:
        return {**implementation.prepare(source, strategy, target), **before.facts}

    made = store.make(key, recipe, build, inherited_s=inherited)
    return _settled(implementation, store.folder(key), strategy), made


def _settled(implementation: base.Implementation, folder: Path, strategy: strategies.Strategy) -> Path:
    """The folder of an artifact, with what its runtime keeps on each host beside it."""
    if isinstance(implementation, base.Settling):
        implementation.settle(folder, strategy)
    return folder


def _dataset(order: Order, chosen: strategies.Chosen) -> tuple[records.DatasetRef | None, dict[str, Any]]:
    """The dataset that a part reads, and what of it belongs into the artifact's key."""
    if chosen.data is None:
        return None, {}
    if chosen.data not in order.data:
        raise errors.DatasetError(f"{chosen.name} reads data={chosen.data}, and the study names no such dataset")
    dataset = order.data[chosen.data]
    return dataset, {"data": readers.identity(dataset) or readers.read(dataset).digest()}
