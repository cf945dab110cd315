from __future__ import annotations

import time

import pytest

from worker.phases import Phases


def test_every_second_belongs_to_exactly_one_phase() -> None:
    began = time.monotonic()
    phases = Phases()
    with phases("outer"):
        time.sleep(0.02)
        with phases("inner"):
            time.sleep(0.03)
    time.sleep(0.01)
    seconds = phases.seconds()
    wall = time.monotonic() - began

    assert seconds["outer"] >= 0.02
    assert seconds["inner"] >= 0.03
    assert seconds["other"] >= 0.01
    assert sum(seconds.values()) == pytest.approx(wall, abs=0.005)
    assert phases.of("inner", "nothing") == seconds["inner"]
