from __future__ import annotations

import time

from worker.engine import timing


class Machine:
    """Calls that take as long as a script says."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds
        self.calls = 0

    def __call__(self) -> None:
        time.sleep(self.seconds[min(self.calls, len(self.seconds) - 1)])
        self.calls += 1


def test_a_leg_counts_whole_passes_and_throws_the_first_calls_away() -> None:
    first, second = Machine([0.05, 0.002]), Machine([0.004])

    samples = timing.run_leg([first, second], passes=5, rewarm_ns=1_000_000)

    assert len(samples) == 10
    assert first.calls == 6  # one call of the first was the re-warming
    assert second.calls == 5
    assert max(samples[::2]) < 50_000_000, "the slow first call was counted"
    assert min(samples[1::2]) >= 4_000_000


def test_warm_up_goes_on_until_times_stop_falling() -> None:
    falling = Machine([0.08, 0.075, 0.05, 0.04, 0.03, 0.02, *[0.005] * 1000])

    result = timing.warm_up([falling])

    assert falling.calls > 6 + 12
    assert result.calls == falling.calls
    assert 4.5e6 < result.pass_ns < 20e6  # of the settled calls, which a busy machine stretches, not of the first ones


def test_a_process_is_warm_when_two_windows_bring_nothing_however_they_scatter() -> None:
    assert not timing.settled([2.0, 1.0, 1.0]), "the second window was faster: nothing is known of it yet"
    assert timing.settled([2.0, 1.0, 1.0, 1.0])
    assert not timing.settled([5.0, 4.0, 3.5, 3.2]), "still falling"
    assert timing.settled([1.0, 1.4, 1.2]), "a neighbour's noise is no reason to wait"
    assert timing.settled([1.0, 0.98, 0.99])
