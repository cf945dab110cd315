"""The dispatcher over real processes that are busy for a fixed time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.spinners import Spinner
from worker import channel, dispatch, serving
from worker.serving import Rules


def _nothing() -> None:
    pass


@pytest.fixture
def spinner() -> Iterator[Spinner]:
    made = Spinner(0.005)
    yield made
    made.close()


def run(spinner: Spinner, times: list[float], items: list[int], rules: Rules) -> serving.Served:
    desk = dispatch.Crew([spinner], _nothing, within_s=5.0)
    return serving.run(np.array(times), np.array(items), rules, 1, desk)


def test_requests_that_come_together_wait_for_one_another(spinner: Spinner) -> None:
    found = run(spinner, [0.0, 0.0, 0.0, 0.05], [0, 1, 2, 3], Rules())

    assert (np.diff(found.latency_s[:3]) >= 0.005).all()
    assert (found.latency_s >= 0.005).all()
    assert [size for size, _, _ in found.batches] == [1, 1, 1, 1]


def test_a_batch_is_one_call_and_a_hit_is_none(spinner: Spinner) -> None:
    found = run(spinner, [0.0, 0.001, 0.1], [7, 8, 7], Rules(max_batch=2, max_wait_s=0.05, cache=2))

    assert [size for size, _, _ in found.batches] == [2]
    assert found.instance.tolist() == [0, 0, -1]
    assert found.latency_s[2] < found.latency_s[1]


def test_the_dispatcher_sleeps_between_requests(spinner: Spinner) -> None:
    before = time.process_time()

    run(spinner, [0.1, 0.2, 0.3, 0.4], [0, 1, 2, 3], Rules())

    assert time.process_time() - before < 0.1, "of 0.4 s"


def test_what_a_call_costs_beyond_its_own_time_is_told(spinner: Spinner) -> None:
    desk = dispatch.Crew([spinner], _nothing, within_s=5.0)
    assert np.isnan(desk.beyond_s)

    serving.run(np.array([0.0, 0.01, 0.02]), np.array([0, 1, 2]), Rules(), 1, desk)

    assert 0 < desk.beyond_s < 0.1


def test_a_process_that_ends_is_no_answer(spinner: Spinner) -> None:
    os.kill(spinner.pid, 9)

    with pytest.raises((channel.Closed, BrokenPipeError)):
        run(spinner, [0.0, 0.01], [0, 1], Rules())


def test_a_process_that_never_answers_is_given_up() -> None:
    slow = Spinner(30.0)
    try:
        desk = dispatch.Crew([slow], _nothing, within_s=0.05)
        with pytest.raises(TimeoutError):
            serving.run(np.array([0.0, 0.2]), np.array([0, 1]), Rules(), 1, desk)
    finally:
        slow.close()
