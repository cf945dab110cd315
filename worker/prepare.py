"""What must be ready before anything is measured: prepared models, inputs, dataset rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage import keys, records
from worker import station
from worker.nursery import Tick

PREPARER = "torch"
"""The nursery in which everything is prepared: only torch's has transformers at hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A prepared model as a measured process opens it."""

    strategy: str
    folder: Path
    artifact: records.Artifact


def model(place: station.Station, ref: records.ModelRef, strategy: str, tick: Tick) -> Prepared:
    """The artifact of a model under a strategy, made or found in the cache.

    Raises ModelError, Unsupported, ChildDied or ChildFailed.
    """
    recipe = keys.digest([records.to_document(ref), strategy])
    if recipe not in place.prepared:
        request = {"model": records.to_document(ref), "strategy": strategy, "cache": str(place.settings.cache)}
        with place.child(PREPARER, tick) as child:
            made = child.ask("prepare", request, tick=tick)
        place.prepared[recipe] = (made["folder"], records.from_document(records.Artifact, made["artifact"]))
    folder, artifact = place.prepared[recipe]
    return Prepared(strategy=strategy, folder=Path(folder), artifact=artifact)


def inputs(place: station.Station, case: records.Case, tick: Tick) -> tuple[Path, str]:
    """The token ids of a latency case's calls: file and content digest."""
    assert case.input is not None  # noqa: S101 - a latency case has an input
    return _tokens(place, "inputs", case, {"input": records.to_document(case.input)}, tick)


def rows(place: station.Station, case: records.Case, tick: Tick) -> tuple[Path, str]:
    """The token ids and labels of an accuracy case's dataset: file and content digest."""
    return _tokens(place, "rows", case, {}, tick)


def _tokens(
    place: station.Station, op: str, case: records.Case, extra: dict[str, object], tick: Tick
) -> tuple[Path, str]:
    dataset = None if case.dataset is None else records.to_document(case.dataset)
    request = {"model": records.to_document(case.model), "dataset": dataset, "cache": str(place.settings.cache)}
    with place.child(PREPARER, tick) as child:
        made = child.ask(op, {**request, **extra}, tick=tick)
    return Path(made["path"]), made["digest"]
