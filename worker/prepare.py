"""What must be ready before anything is measured: prepared models, inputs, dataset rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import keys, records, strategies
from worker import sharing, station
from worker.nursery import Tick
from worker.phases import Phases

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A prepared model as a measured process opens it."""

    strategy: str
    folder: Path
    artifact: records.Artifact


SIDES: tuple[records.Side, records.Side] = ("baseline", "strategy")

Sides = Mapping[records.Side, Prepared]

Inputs = Mapping[records.Side, str]
"""The file of each side's calls."""


def sides(place: station.Station, case: records.Case, phases: Phases, tick: Tick, tell: Tell) -> Sides:
    """Both sides of a case whose result is a gain; raises what `model` raises."""
    with phases("prepare"):
        return {
            "baseline": model(place, case, case.baseline, tick, tell),
            "strategy": model(place, case, case.strategy, tick, tell),
        }


def model(place: station.Station, case: records.Case, strategy: str, tick: Tick, tell: Tell) -> Prepared:
    """The artifact of a case's model under one of its strategies, made or found in the cache.

    Raises ModelError, DatasetError, StrategyError, Unsupported, ChildDied or ChildFailed.
    """
    parsed = strategies.parse(strategy)
    recipe = keys.digest([records.to_document(case.model), strategy, _data(case, parsed), case.prepare])
    known = place.prepared.get(recipe)
    if known is None or not place.artifacts.touch(known.key):  # another worker may have evicted it since
        place.prepared[recipe] = _shared(place, case, parsed, tick, tell)
    artifact = place.prepared[recipe]
    return Prepared(strategy=strategy, folder=place.artifacts.folder(artifact.key), artifact=artifact)


def _shared(
    place: station.Station, case: records.Case, strategy: strategies.Strategy, tick: Tick, tell: Tell
) -> records.Artifact:
    """Taken from the fleet's store, or made here and offered to it."""
    taken = place.sharing.take(case, strategy, tick)
    ready = None if taken.artifact is None else place.artifacts.read(taken.artifact)
    if ready is None:
        sharing.require(case, strategy, place.sharing, fleet=bool(place.settings.broker))
        made = _made(place, case, strategy, taken.models, tick, tell)
        first = place.sharing.give(case, strategy, made, tick)
        ready = made if first is None else _others(place, first, made, tick)
    for store in (place.artifacts, *place.aside):
        store.evict(place.settings.artifacts_bytes)
    return ready


def _others(place: station.Station, key: str, made: records.Artifact, tick: Tick) -> records.Artifact:
    """Another host's artifact, which came first while this one was made; ours where it cannot be had."""
    place.sharing.pull(key, tick)
    return place.artifacts.read(key) or made


def _made(
    place: station.Station,
    case: records.Case,
    strategy: strategies.Strategy,
    given: Mapping[str, str],
    tick: Tick,
    tell: Tell,
) -> records.Artifact:
    request = {
        "model": records.to_document(case.model),
        "strategy": str(strategy),
        "data": _data(case, strategy),
        "cache": str(place.settings.cache),
        "given": dict(given),
    }
    with place.child(strategies.PREPARER, tick) as child:
        made = child.ask("prepare", request, tick=tick, tell=lambda message: tell(message["progress"]))
    return records.from_document(records.Artifact, made["artifact"])


def opening(prepared: Prepared, threads: int) -> dict[str, Any]:
    """The request that opens a prepared model in a measured process; the CPUs that it runs on are still missing."""
    return {
        "artifact": str(prepared.folder),
        "strategy": prepared.strategy,
        "threads": threads,
        "demand": prepared.artifact.facts.get("demand"),
    }


def notes(*sides: Prepared) -> tuple[str, ...]:
    """What a person should know of results that were taken with these."""
    found: list[str] = []
    for side in sides:
        strategy = strategies.parse(side.strategy)
        found += strategies.meanings(strategy)
        if strategies.EVALUATION in strategy.datasets:
            found.append(f"{side.strategy} was made with the very rows that accuracy is taken on")
        found += _remade(side.artifact)
    return tuple(dict.fromkeys(found))


def _remade(artifact: records.Artifact) -> list[str]:
    why = artifact.facts.get("remade")
    return [f"its artifact was damaged and made again: {why}"] if why else []


def _data(case: records.Case, strategy: strategies.Strategy) -> dict[str, Any]:
    return {name: records.to_document(dataset) for name, dataset in strategies.data_of(strategy, case).items()}


def inputs(place: station.Station, case: records.Case, tick: Tick) -> tuple[Inputs, str]:
    """The token ids of the calls of a case: the file of each side, and the content digest of both."""
    assert case.input is not None  # noqa: S101 - what is called has an input
    specs = {side: case.input.of_side(side) for side in SIDES}
    made = {
        spec: _tokens(place, "inputs", case, {"input": records.to_document(spec)}, tick)
        for spec in dict.fromkeys(specs.values())
    }
    digests = [made[spec][1] for spec in dict.fromkeys(specs.values())]
    digest = digests[0] if len(digests) == 1 else keys.digest(digests)
    return {side: str(made[spec][0]) for side, spec in specs.items()}, digest


def rows(place: station.Station, case: records.Case, tick: Tick) -> tuple[Path, str]:
    """The token ids and labels of an accuracy case's dataset: file and content digest."""
    return _tokens(place, "rows", case, {}, tick)


def _tokens(
    place: station.Station, op: str, case: records.Case, extra: dict[str, object], tick: Tick
) -> tuple[Path, str]:
    dataset = None if case.dataset is None else records.to_document(case.dataset)
    request = {
        **{"model": records.to_document(case.model), "dataset": dataset, "cache": str(place.settings.cache)},
        **extra,
    }
    asked = keys.digest([op, request])
    known = place.tokens.get(asked)
    if known is not None and place.inputs.touch(known[0].parent.name):  # another worker may have evicted it since
        return known
    with place.child(strategies.PREPARER, tick) as child:
        made = child.ask(op, request, tick=tick)
    found = Path(made["path"]), made["digest"]
    if _pinned(case):
        place.tokens[asked] = found
    return found


def _pinned(case: records.Case) -> bool:
    """Whether model and dataset are known by their content: others may have changed when the next job comes."""
    named = (case.model, case.dataset)
    return all(one is None or one.digest is not None for one in named)
