"""Waiting for a database that does not answer now, and not for ever."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from storage import errors
from storage.database import Database
from worker import alarm

AWAY = (errors.Unreachable, errors.DatabaseBusy)
"""What passes by itself."""

_LOOK_S = 0.2


def tries(most_s: float, give_up: Callable[[], bool], longest_wait_s: float = 5.0) -> Iterator[None]:
    """One turn for each try: at once, then after growing pauses, until `most_s` seconds are over or `give_up()`."""
    wait, deadline = 0.5, time.monotonic() + most_s
    while True:
        yield
        until = min(time.monotonic() + wait, deadline)
        while time.monotonic() < until:
            if give_up():
                return
            time.sleep(_LOOK_S)
        if give_up() or time.monotonic() >= deadline:
            return
        wait = min(longest_wait_s, 2 * wait)


@contextlib.contextmanager
def within(seconds: float, database: Database) -> Iterator[None]:
    """Unreachable when what is done with the database takes longer; then its connections are dropped."""
    try:
        with alarm.within(seconds):
            yield
    except errors.Unreachable:
        database.close()
        raise
