"""A bound on steps that talk to a server: one that was stopped keeps its clients waiting, whatever their timeouts."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

from storage import errors


class TimeUp(BaseException):
    """A step took too long. No ordinary Exception: a library must not take it for an error of its own."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Unreachable when the block takes longer; what it was doing is interrupted wherever it stood.

    Whatever talks to the server must connect anew after that. In the main thread only, not nested; an outer use of
    the process's timer goes on afterwards.
    """
    began, armed, rang = time.monotonic(), True, False

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal armed, rang
        if armed:  # once: what cleans up must not be hit again
            armed, rang = False, True
            raise TimeUp

    handler = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        try:
            yield
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            if left:
                signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - began)), interval)
    except (TimeUp, Exception) as exc:  # a library's own clean-up may stumble over the interrupted step
        if not rang:
            raise
        raise errors.Unreachable(f"no answer for {time.monotonic() - began:.0f} s") from exc


def hurry(seconds: float) -> None:
    """Shorten a bound that holds now."""
    if signal.getitimer(signal.ITIMER_REAL)[0] > seconds:
        signal.setitimer(signal.ITIMER_REAL, seconds)
