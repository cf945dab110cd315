from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from storage import errors
from worker import alarm
from worker import bell as bell_module
from worker.bell import Bell


def test_a_step_that_hangs_is_ended_and_counts_as_a_server_that_is_away() -> None:
    began = time.monotonic()
    with pytest.raises(errors.Unreachable, match="no answer"), alarm.within(0.2):
        time.sleep(30)
    assert time.monotonic() - began < 5


def test_what_a_library_makes_of_the_interruption_counts_as_away_too() -> None:
    def library() -> None:
        try:
            time.sleep(30)
        finally:
            raise RuntimeError("cannot clean up a connection that is busy")

    with pytest.raises(errors.Unreachable), alarm.within(0.2):
        library()


def test_a_step_in_time_is_left_alone_with_its_own_errors() -> None:
    with pytest.raises(KeyError), alarm.within(0.2):
        raise KeyError
    with alarm.within(0.2):
        pass
    time.sleep(0.3)


def test_an_outer_timer_goes_on_afterwards() -> None:
    before, left = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 50)
    try:
        with alarm.within(5):
            assert signal.getitimer(signal.ITIMER_REAL)[0] <= 5
        assert 5 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
        assert signal.getsignal(signal.SIGALRM) == before
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)


def test_a_signal_ends_a_sleep_and_is_counted_by_its_urgency() -> None:
    with Bell() as bell:
        began = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        bell.wait(30)
        assert bell.pressed == 1
        os.kill(os.getpid(), signal.SIGINT)
        bell.wait(30)
        assert bell.pressed == 3
        bell.wait(0.1)  # nothing is left over
        assert 0.1 < time.monotonic() - began < 5


def test_whoever_asks_to_stop_does_not_wait_for_a_step_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell_module, "URGENT_S", 0.5)
    with Bell() as bell:
        # a thread, not a forked process: that one may come late, and ends the test runner
        asking = threading.Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGTERM))
        asking.start()
        began = time.monotonic()
        with pytest.raises(errors.Unreachable), bell.within(60):
            time.sleep(60)
        assert time.monotonic() - began < 10
        asking.join()
        began = time.monotonic()
        with pytest.raises(errors.Unreachable), bell.within(60):
            time.sleep(60)
        assert time.monotonic() - began < 10
