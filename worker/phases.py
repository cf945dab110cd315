"""Where a job's wall time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

MEASURING = ("warm-up", "legs", "accuracy")
"""The phases that a user pays for; all others are overhead."""


class Phases:
    """Seconds by phase; nested phases count for the inner one only."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since = time.monotonic()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time inside the block for `name`."""
        self._turn()
        self._stack.append(name)
        try:
            yield
        finally:
            self._turn()
            self._stack.pop()

    def seconds(self) -> Mapping[str, float]:
        """Seconds by phase so far; what no phase covers is `other`."""
        self._turn()
        return dict(self._seconds)

    def of(self, *names: str) -> float:
        """Seconds of some phases together."""
        self._turn()
        return sum(self._seconds.get(name, 0.0) for name in names)

    def _turn(self) -> None:
        now = time.monotonic()
        self._seconds[self._stack[-1] if self._stack else "other"] += now - self._since
        self._since = now
