"""What wakes a single-threaded process from its sleep: a signal, the end of a child, or time."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from collections.abc import Iterator
from types import FrameType, TracebackType

from worker import alarm

URGENT_S = 3.0
"""What is left for a step under way when somebody asks to stop."""

PRESSES = {signal.SIGTERM: 1, signal.SIGINT: 2, signal.SIGQUIT: 2, signal.SIGHUP: 2}
"""How urgently each signal asks to stop: 1 = when the running job is done, 2 = at once."""


class Bell:
    """Counts requests to stop, and wakes the sleeper; use as a context manager in the main thread."""

    def __init__(self) -> None:
        self.pressed = 0  # 0: go on, 1: stop when the running job is done, 2 and more: stop at once
        self._bounded = False
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Bell:
        for number in (*PRESSES, signal.SIGCHLD):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            self._before[number] = signal.signal(number, self._ring)
        signal.set_wakeup_fd(self._far.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._near.close()
        self._far.close()

    def wait(self, seconds: float) -> None:
        """Sleep for so long, or until a signal comes; one that came since the last sleep ends it at once."""
        select.select([self._near], [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            while self._near.recv(1024):
                pass

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Bound a step that talks to a server, as `alarm.within`; shorter once somebody asks to stop."""
        self._bounded = True
        try:
            with alarm.within(min(seconds, URGENT_S) if self.pressed else seconds):
                yield
        finally:
            self._bounded = False

    def _ring(self, number: int, frame: FrameType | None) -> None:
        presses = PRESSES.get(signal.Signals(number), 0)
        self.pressed += presses
        if presses and self._bounded:
            alarm.hurry(URGENT_S)
