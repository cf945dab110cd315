"""Nurseries that import while their worker still starts: its main process begins them, its pool process has them."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping

from storage import settings
from worker import nursery


class Ahead:
    """Some nurseries, begun at once; made before the pool process is forked.

    They are the main process's children and end with it (prctl). Of the pool processes the first one takes them over.
    """

    def __init__(self, families: Iterable[str], config: settings.Settings) -> None:
        self._taken = mmap.mmap(-1, mmap.PAGESIZE)  # shared with every pool process
        self._nurseries = {family: nursery.of(family, config) for family in families}
        for one in self._nurseries.values():
            one.begin()

    def take(self) -> Mapping[str, nursery.Nursery]:
        """To be called in every pool process as it starts: the nurseries, by family, that are its own from now on.

        Nothing for a later one: the first has died and left them with children of its own, so that they are ended.
        """
        for one in self._nurseries.values():
            one.foster()
        if not self._taken[0]:
            self._taken[0] = 1
            return self._nurseries
        for one in self._nurseries.values():
            one.stop()
        return {}
