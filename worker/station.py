"""What one worker process holds while it lives: settings, its platform, its nurseries, the measuring lock."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from storage import errors, records, settings, strategies
from worker import locks, nursery, policy, sharing
from worker.artifacts import ARTIFACTS, COMPILED, INPUTS, ArtifactStore
from worker.nursery import Tick

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.9
"""A measured process may use this share of the machine's memory: beyond it the whole host would suffer."""


class Station:
    """The place where jobs of one host are done; nothing in it outlives `close`."""

    def __init__(
        self,
        config: settings.Settings,
        platform: records.Platform,
        ahead: Mapping[str, nursery.Nursery] = types.MappingProxyType({}),
    ) -> None:
        """`ahead`: nurseries by family that were begun before, and are the station's from now on."""
        self.settings = config
        self.platform = platform
        self.policy = policy.Policy(config)
        self.cpus = sorted(os.sched_getaffinity(0))
        self.prepared: dict[str, records.Artifact] = {}  # recipe → artifact, this process only
        self.tokens: dict[str, tuple[Path, str]] = {}  # what was asked → file of token ids and its digest, likewise
        self.artifacts = ArtifactStore(config.cache / ARTIFACTS)
        self.inputs = ArtifactStore(config.cache / INPUTS)
        self.aside = (self.inputs, ArtifactStore(config.cache / COMPILED))
        self._nurseries = dict(ahead)
        self._lock: int | None = None

    @functools.cached_property
    def sharing(self) -> sharing.Sharing:
        """This host's side of the fleet's store; SettingsError for an address that cannot be meant."""
        return sharing.Sharing(self.settings.store, self.artifacts, self.settings.host)

    @contextmanager
    def exclusive(self, tick: Tick) -> Iterator[None]:
        """Hold the host's measuring lock: one measured job at a time, whoever started it.

        Children inherit the lock's descriptor, so a host stays taken while any of them lives.
        """
        descriptor = locks.open_file(self.settings.lock, "measuring lock")
        try:
            while not locks.try_lock(descriptor):
                tick()
                time.sleep(0.2)
            locks.leave_word(descriptor, self.settings.host)
            self._lock = descriptor
            yield
        finally:
            self._lock = None
            os.close(descriptor)

    @contextmanager
    def child(self, family: str, tick: Tick) -> Iterator[nursery.Child]:
        """A fresh measured process of a runtime family, ended afterwards."""
        born = self.fork(family, tick)
        try:
            yield born
        except BaseException:
            born.kill()
            raise
        finally:
            born.close()

    def fork(self, family: str, tick: Tick) -> nursery.Child:
        """A fresh measured process; the caller closes it."""
        if self._lock is None:
            raise RuntimeError("a measured process needs the measuring lock")
        self._settle(family, tick)
        return self.nursery(family).fork(lock=self._lock, memory_bytes=self.memory_limit(), tick=tick)

    def nursery(self, family: str) -> nursery.Nursery:
        """The nursery of a runtime family; it starts with its first child."""
        if family not in self._nurseries:
            self._nurseries[family] = nursery.of(family, self.settings)
        return self._nurseries[family]

    def _settle(self, family: str, tick: Tick) -> None:
        """Wait for every nursery that still imports: none may while something is measured.

        One that cannot start fails the jobs that need it, and no other.
        """
        for name, one in self._nurseries.items():
            try:
                one.settle(tick)
            except (errors.ChildDied, errors.ChildFailed) as exc:
                if name == family:
                    raise
                log.warning("%s", exc)

    def own_pids(self) -> list[int]:
        """Processes whose CPU time is the tool's own: nurseries, the Celery worker, and in a fleet its launcher."""
        started = (one.pid for one in self._nurseries.values())
        return [*self._elders(), *(pid for pid in started if pid is not None)]

    def _elders(self) -> list[int]:
        elders = [os.getppid()]
        if self.settings.broker:
            with contextlib.suppress(psutil.Error):
                elders.append(psutil.Process(elders[0]).ppid())
        return elders

    def memory_limit(self) -> int:
        """Bytes that one measured process may allocate."""
        if self.settings.memory_gib is not None:
            return int(self.settings.memory_gib * 2**30)
        return int(psutil.virtual_memory().total * MEMORY_SHARE)

    def recover(self) -> None:
        """End every measured process that a failure left behind, and its nursery; the others import nothing again."""
        for one in self._nurseries.values():
            if not one.empty:
                one.stop()

    def close(self) -> None:
        """End every nursery and all its children."""
        for one in self._nurseries.values():
            one.stop()
        self._nurseries.clear()


def family(strategy: str) -> str:
    """The nursery that a strategy's measured process comes from: its runtime's."""
    return strategies.parse(strategy).runtime
