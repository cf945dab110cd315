"""What a host takes from the fleet's shared store before it prepares, and what it gives to it afterwards.

Models that were trained are shared whenever there is a store: a training gives other weights each time. With
`prepare: once` the prepared artifacts are shared too, so that the same bytes run everywhere.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from storage import errors, keys, records, strategies
from worker import shared_store
from worker.artifacts import ArtifactStore
from worker.nursery import Tick

MODEL, ARTIFACT = "model", "artifact"
"""What a name in the store begins with: a transformed model, or what a runtime loads."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What the store had."""

    models: Mapping[str, str] = field(default_factory=dict)  # transform steps so far → key of the model they made
    artifact: str | None = None  # key of the whole strategy's artifact


class Sharing:
    """One host's side of the shared store; `address` empty: there is none, and nothing is taken or given."""

    def __init__(self, address: str, local: ArtifactStore, host: str) -> None:
        self.local = local
        self._host = host
        self._store = shared_store.SharedStore(address) if address else None

    @property
    def exists(self) -> bool:
        """Whether there is a store at all."""
        return self._store is not None

    def take(self, case: records.Case, strategy: strategies.Strategy, tick: Tick) -> Taken:
        """Bring what others prepared into this host's store.

        Where this host may prepare for itself, a store that is away is a warning; otherwise raises Unreachable or
        SettingsError.
        """
        if self._store is None:
            return Taken()
        with _needed(case):
            return self._taken(case, strategy, tick)
        return Taken()

    def _taken(self, case: records.Case, strategy: strategies.Strategy, tick: Tick) -> Taken:
        if case.prepare == "once":
            whole = self._pulled(_ref(ARTIFACT, case, strategy), tick)
            if whole is not None:
                return Taken(artifact=whole)
        names = ((_steps(part), _ref(MODEL, case, part)) for part in strategy.trained)
        found = {steps: key for steps, ref in names if (key := self._pulled(ref, tick)) is not None}
        return Taken(models=found)

    def give(
        self, case: records.Case, strategy: strategies.Strategy, artifact: records.Artifact, tick: Tick
    ) -> str | None:
        """Offer what was prepared here; the key of another host's artifact that came first, where one did.

        Raises Unreachable or SettingsError where others wait for it.
        """
        if self._store is None:
            return None
        with _needed(case):
            return self._given(case, strategy, artifact, tick)
        return None

    def _given(
        self, case: records.Case, strategy: strategies.Strategy, artifact: records.Artifact, tick: Tick
    ) -> str | None:
        for part, key in _trained(strategy, artifact):
            self._pushed(_ref(MODEL, case, part), key, tick)
        if case.prepare != "once":
            return None
        first = self._pushed(_ref(ARTIFACT, case, strategy), artifact.key, tick)
        return first if first != artifact.key else None

    def pull(self, key: str, tick: Tick) -> bool:
        """Bring one artifact here by its key; False when the store has none."""
        return self._store is not None and self._store.pull(key, self.local, tick)

    def _pulled(self, ref: str, tick: Tick) -> str | None:
        assert self._store is not None  # noqa: S101 - the callers look
        key = self._store.named(ref)
        if key is None or not self._store.pull(key, self.local, tick):
            return None
        log.info("artifact %s taken from the store as %s", key, ref)
        return key

    def _pushed(self, ref: str, key: str, tick: Tick) -> str:
        assert self._store is not None  # noqa: S101 - the callers look
        self._store.push(key, self.local.folder(key), tick)
        return self._store.name(ref, key, {"host": self._host})


@contextlib.contextmanager
def _needed(case: records.Case) -> Iterator[None]:
    """Errors of the store pass where it is needed, and are a warning where this host can do without."""
    try:
        yield
    except (errors.Unreachable, errors.SettingsError) as exc:
        if case.prepare == "once" or case.kind == "prepare":
            raise
        log.warning("done without the shared store: %s", exc)


def require(case: records.Case, strategy: strategies.Strategy, sharing: Sharing, *, fleet: bool) -> None:
    """Raise Unsupported where a host may not prepare for itself what the fleet prepares once."""
    if case.prepare != "once" or not fleet:
        return
    if not sharing.exists:
        raise errors.Unsupported(
            "the study says prepare: once, and this host has no store to take artifacts from; set QUANTFLEET_STORE "
            "to a folder or URL that all hosts reach"
        )
    if case.kind != "prepare":
        raise errors.Unsupported(
            f"{strategy} was to be prepared once, and the store has nothing of it: see what became of its prepare job "
            "(quantfleet status), and retry it"
        )


def _trained(strategy: strategies.Strategy, artifact: records.Artifact) -> Iterator[tuple[strategies.Strategy, str]]:
    """The models that trainings made on the way to an artifact, each with its key."""
    made = artifact.facts.get("transforms", ())
    for part in strategy.trained:
        if len(part.steps) <= len(made):
            yield part, str(made[len(part.steps) - 1]["key"])


def _steps(strategy: strategies.Strategy) -> str:
    return "+".join(map(str, strategy.steps))


def _ref(what: str, case: records.Case, strategy: strategies.Strategy) -> str:
    text = _steps(strategy) if what == MODEL else str(strategy)
    return f"{what}-{keys.prepared_key(case.model, text, strategies.data_of(strategy, case))}"
