from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from scheduler.compare import compare
from scheduler.drift import drifts
from scheduler.sessions import Session
from storage.views import ResultView
from tests.factories import latency_view


class Machine:
    """Jobs whose baseline takes 10 ms, moved by a drift for each job and by noise for each session."""

    def __init__(self, drift: float, noise: float = 0.01) -> None:
        self._rng = np.random.default_rng(3)
        self._drift, self._noise = drift, noise
        self.sessions: dict[str, list[Session]] = {}

    def job(self, pairs: int = 6, **given: Any) -> ResultView:
        view = latency_view(**given)
        logs = math.log(0.01) + self._rng.normal(0, self._drift) + self._rng.normal(0, self._noise, pairs)
        self.sessions[view.job_id] = [Session(pair=n, log_time=0.0, log_baseline=log) for n, log in enumerate(logs)]
        return view

    def drifts(self, *views: ResultView) -> dict[str, float]:
        rows = compare(views, lambda job_id: None)
        found = drifts(rows, lambda kind, job_id: self.sessions[job_id])
        return {hardware: math.sqrt(one.variance) for hardware, one in found.items()}


def test_the_baselines_of_many_jobs_tell_how_far_a_machine_moves_between_them() -> None:
    machine = Machine(drift=0.03)
    views = [machine.job(strategy=f"s{n}", threads=threads) for n in range(40) for threads in (1, 2)]
    (found,) = machine.drifts(*views).values()
    assert found == pytest.approx(0.03, rel=0.25)


def test_a_steady_machine_has_no_drift_beyond_its_sessions_noise() -> None:
    machine = Machine(drift=0.0)
    (found,) = machine.drifts(*[machine.job(strategy=f"s{n}") for n in range(60)]).values()
    assert found < 0.003


def test_baselines_of_other_cases_are_not_mixed_up() -> None:
    machine = Machine(drift=0.0)
    alike = [machine.job(strategy=f"s{n}") for n in range(30)]
    slow = machine.job(threads=4)
    machine.sessions[slow.job_id] = [Session(pair=n, log_time=0, log_baseline=5.0 + 0.001 * n) for n in range(6)]
    assert machine.drifts(*alike, slow) == pytest.approx(machine.drifts(*alike))


def test_one_job_of_each_baseline_tells_nothing() -> None:
    machine = Machine(drift=0.03)
    assert machine.drifts(machine.job(), machine.job(threads=2), machine.job(pairs=1, strategy="s")) == {}


def test_machines_have_their_own_drift() -> None:
    machine = Machine(drift=0.03)
    there = [machine.job(strategy=f"s{n}", hardware_key="there") for n in range(3)]
    here = [machine.job(strategy=f"s{n}") for n in range(3)]
    assert set(machine.drifts(*here, *there)) == {"there", "hardware00000001"}
