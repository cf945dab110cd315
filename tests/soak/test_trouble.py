"""The soak's strikes: drawn from a seed, and nobody is left standing still."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests import services
from tests.faults import processes
from tests.faults.fleet import Host
from tests.soak.trouble import DEATHS, Act, Trouble


@dataclass(kw_only=True)
class One(Host):
    """A host with one process, whatever role is asked for."""

    only: psutil.Process

    def all(self, role: processes.Role) -> list[psutil.Process]:
        return [self.only]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[dict[str, Host]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as sleeper:
        only = psutil.Process(sleeper.pid)
        yield {name: One(name=name, folder=tmp_path, given={}, only=only) for name in ("left", "right")}
        sleeper.kill()


def trouble(hosts: dict[str, Host], acts: tuple[Act, ...], seed: int = 7) -> Trouble:
    return Trouble(hosts=hosts, acts=dict.fromkeys(hosts, acts), every_s=1e-6, draw=random.Random(seed))


def test_a_seed_says_who_is_struck_and_how(hosts: dict[str, Host]) -> None:
    harmless = tuple(Act(victim=act.victim, number=signal.SIGCONT, weight=act.weight) for act in DEATHS[:-1])

    def drawn(seed: int) -> list[tuple[str, str]]:
        made = trouble(hosts, harmless, seed)
        while len(made.strikes) < 20:
            made.tend()
        return [(strike.host, strike.victim) for strike in made.strikes]

    assert drawn(7) == drawn(7) != drawn(8)
    assert len(set(drawn(7))) > 5


def test_what_was_stopped_goes_on_when_the_trouble_ends(hosts: dict[str, Host]) -> None:
    made = trouble(hosts, (Act(victim="worker", number=signal.SIGSTOP),))
    while not made.strikes:
        made.tend()
    only = hosts["left"].all("worker")[0]
    services.wait_for(lambda: only.status() == psutil.STATUS_STOPPED, 10, "a process that stands still")

    made.end()
    made.tend()

    services.wait_for(lambda: only.status() != psutil.STATUS_STOPPED, 10, "a process that goes on")
    assert len(made.strikes) == 1
