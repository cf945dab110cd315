"""What befalls a fleet: signals to random processes at random moments, all drawn from one seed."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import psutil

from tests.faults import processes
from tests.faults.fleet import Host

Victim = processes.Role | Literal["everything"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Act:
    """One kind of trouble, and how often it comes beside the others."""

    victim: Victim
    number: signal.Signals
    weight: int = 1


CRASHES = (
    Act(victim="child", number=signal.SIGKILL, weight=4),
    Act(victim="child", number=signal.SIGSTOP),
    Act(victim="nursery", number=signal.SIGKILL, weight=2),
)
"""Inside of one worker, whose launcher, Celery worker and supervisor outlive all of it."""

DEATHS = (
    *CRASHES,
    Act(victim="supervisor", number=signal.SIGKILL, weight=3),
    Act(victim="supervisor", number=signal.SIGTERM),
    Act(victim="supervisor", number=signal.SIGSTOP),
    Act(victim="worker", number=signal.SIGKILL, weight=3),
    Act(victim="worker", number=signal.SIGTERM),
    Act(victim="worker", number=signal.SIGSTOP),
    Act(victim="launcher", number=signal.SIGKILL, weight=2),
    Act(victim="launcher", number=signal.SIGTERM),
    Act(victim="launcher", number=signal.SIGSTOP),
    Act(victim="everything", number=signal.SIGKILL),
)
"""Every process of a host; and the whole host at once, as when its power fails."""

PAUSE_S = (1.0, 25.0)
"""How long a process is stopped: longer than a lease too."""

LOOK_AGAIN_S = 0.5
"""When nobody has the role that was drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strike:
    """What was done."""

    at_s: float  # since the soak began
    host: str
    victim: Victim
    signal: str
    pid: int


@dataclass(kw_only=True)
class Trouble:
    """Strikes hosts every so many seconds on average, until it is asked to end."""

    hosts: Mapping[str, Host]
    acts: Mapping[str, Sequence[Act]]  # host → what befalls it
    every_s: float
    draw: random.Random
    strikes: list[Strike] = field(default_factory=list)

    def __post_init__(self) -> None:
        # which of several processes, and for how long, is drawn aside: how many there are is the machine's affair
        self._aside = random.Random(self.draw.random())
        self._began = time.monotonic()
        self._next = 0.0  # when the next strike is due
        self._stopped: list[tuple[float, psutil.Process]] = []  # when it may go on
        self._plan()

    def tend(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        self._resume(now)
        if now < self._next:
            return
        found = _family(self._host, self._act.victim)
        if not found:
            self._next = now + LOOK_AGAIN_S
            return
        target = self._aside.choice(found)
        for process in found if self._act.victim == "everything" else [target]:
            self._send(process, self._act.number, now)
        self._note(target, now)
        self._plan()

    def end(self) -> None:
        """Let everybody go on, and strike no more."""
        self._resume(float("inf"))
        self._next = float("inf")

    def _plan(self) -> None:
        """Draw whom the next strike is for, and when."""
        name = self.draw.choice(sorted(self.acts))
        acts = self.acts[name]
        (self._act,) = self.draw.choices(acts, [act.weight for act in acts])
        self._host = self.hosts[name]
        self._next = time.monotonic() + self.draw.expovariate(1 / self.every_s)

    def _send(self, process: psutil.Process, number: signal.Signals, now: float) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            if number == signal.SIGSTOP:
                self._stopped.append((now + self._aside.uniform(*PAUSE_S), process))

    def _resume(self, now: float) -> None:
        due = [process for until, process in self._stopped if until <= now]
        self._stopped = [each for each in self._stopped if each[0] > now]
        for process in due:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    def _note(self, target: psutil.Process, now: float) -> None:
        self.strikes.append(
            Strike(
                at_s=round(now - self._began, 1),
                host=self._host.name,
                victim=self._act.victim,
                signal=self._act.number.name,
                pid=target.pid,
            )
        )


def _family(host: Host, victim: Victim) -> list[psutil.Process]:
    return processes.marked(host.mark) if victim == "everything" else host.all(victim)
