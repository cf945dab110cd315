from __future__ import annotations

import time

import pytest

from worker import rounds


@pytest.mark.parametrize(
    ("pass_ns", "items", "passes"),
    [
        (1_000_000, 1, 100),  # 1 ms a call: a leg of 100 ms
        (30_000_000, 1, 8),  # 30 ms: eight calls, longer than a leg needs
        (100_000_000, 1, 4),
        (5_000_000_000, 1, 1),  # 5 s: one call is a long leg
        (80_000_000, 16, 2),  # a pass over 16 inputs of 5 ms
        (3_200_000_000, 16, 1),
    ],
)
def test_a_leg_is_long_enough_and_holds_the_calls_that_percentiles_need(pass_ns: int, items: int, passes: int) -> None:
    assert rounds.passes_for(pass_ns, items) == passes


def test_only_a_long_leg_is_disturbed_by_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[float] = []
    monkeypatch.setattr(rounds, "LONG_LEG_S", 0.2)
    began = time.monotonic()
    tick = rounds.late(lambda: beats.append(time.monotonic()), 60.0)
    while time.monotonic() < began + 0.4:
        tick()
    assert beats
    assert beats[0] - began >= 0.2
