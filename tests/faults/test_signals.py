"""SIGKILL, SIGTERM, SIGQUIT and SIGSTOP with SIGCONT: each process of a host, at each moment of a job."""

from __future__ import annotations

import signal
import time

import psutil
import pytest

from storage import queries
from tests.faults import closing, processes
from tests.faults import fleet as fleets
from tests.faults.conftest import MakeFleet
from tests.faults.fleet import MOMENTS, Fleet, Host, Moment, done
from tests.faults.proxy import Hold

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT, signal.SIGSTOP)
ROLES: tuple[processes.Role, ...] = ("launcher", "worker", "supervisor")

QUICK = {
    ("launcher", signal.SIGKILL, "measuring"),
    ("supervisor", signal.SIGKILL, "storing"),
}
"""Run by `make test`; all by `make faults`."""

ENDS = {signal.SIGKILL: [-9], signal.SIGTERM: [0], signal.SIGQUIT: [0], signal.SIGSTOP: []}
"""How a launcher that is hit itself ends."""


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    """With a lease that is longer than a worker takes to die and its launcher to take its job back."""
    return make_fleet({**fleets.QUICK, "lease": 6.0})


def _cases() -> list[object]:
    every = [(role, number, moment) for role in ROLES for number in SIGNALS for moment in MOMENTS]
    return [
        pytest.param(*case, id="-".join((case[0], case[1].name, case[2])), marks=_mark(case in QUICK)) for case in every
    ]


def _mark(quick: bool) -> pytest.MarkDecorator:
    return pytest.mark.slow if quick else pytest.mark.faults


@pytest.mark.parametrize(("role", "number", "moment"), _cases())
def test_a_signal_at_any_moment_loses_nothing(
    fleet: Fleet, role: processes.Role, number: signal.Signals, moment: Moment
) -> None:
    host = fleet.add()
    with fleet.at(moment) as hold:
        _hit(host.the(role), number, 1.5 * fleet.times["lease"], hold)

    jobs = closing.check(fleet)

    assert done(jobs)
    assert host.ends == (ENDS[number] if role == "launcher" else []), host.tail()
    # only a supervisor that is gone for a lease looks like a job that takes its machine along
    assert sum(job.crashes for job in jobs) <= (role == "supervisor"), _attempts(fleet)
    if number == signal.SIGTERM and role != "supervisor":
        assert [job.attempts for job in jobs] == [1, 1], _attempts(fleet)


@pytest.mark.parametrize(
    "number", [pytest.param(each, id=each.name, marks=_mark(each == signal.SIGTERM)) for each in SIGNALS[:3]]
)
def test_a_measured_process_that_dies_once_costs_one_attempt(fleet: Fleet, number: signal.Signals) -> None:
    host = fleet.add()
    with fleet.at("measuring", jobs=1, seconds=5):
        fleet.strike(host, number)

    (job,) = closing.check(fleet)

    assert (job.state, job.crashes, job.attempts) == ("done", 1, 2), _attempts(fleet)
    first = queries.attempts(fleet.db, job.id)[0]
    assert (first.state, first.signal) == ("crash", number)
    assert host.ends == []


@pytest.mark.faults
def test_a_job_whose_measured_process_always_dies_is_dead_and_says_of_what(fleet: Fleet) -> None:
    host = fleet.add()
    (job_id,) = fleet.submit(1, seconds=5)
    for _ in range(2):
        fleet.strike(host, signal.SIGKILL)

    (job,) = closing.check(fleet)

    assert (job.state, job.crashes, job.attempts) == ("dead", 2, 2)
    assert "died 2 times" in str(job.message) and "SIGKILL" in str(job.message)
    assert [each.signal for each in queries.attempts(fleet.db, job_id)] == [signal.SIGKILL, signal.SIGKILL]


@pytest.mark.faults
@pytest.mark.parametrize("role", ["child", "nursery"])
def test_a_measured_process_that_pauses_for_longer_than_a_lease_goes_on(
    make_fleet: MakeFleet, role: processes.Role
) -> None:
    # a lease that is longer than the farewell of two processes whose nursery does not answer
    fleet = make_fleet({**fleets.QUICK, "lease": 15.0})
    host = fleet.add()
    with fleet.at("measuring", seconds=5) as hold:
        _hit(host.all(role)[-1], signal.SIGSTOP, 2 * fleet.times["lease"], hold)

    jobs = closing.check(fleet)

    assert done(jobs)
    assert [(job.attempts, job.crashes) for job in jobs] == [(1, 0), (1, 0)], _attempts(fleet)


@pytest.mark.faults
@pytest.mark.parametrize("number", SIGNALS[:3], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_nursery_that_dies_costs_at_most_one_attempt(fleet: Fleet, number: signal.Signals, moment: Moment) -> None:
    host = fleet.add()
    fleet.submit(1)  # it starts with its first job
    fleet.settle()
    with fleet.at(moment, first=1):
        processes.die(host.the("nursery"), number)

    jobs = closing.check(fleet)

    assert done(jobs)
    assert [job.attempts for job in jobs] == [1, 2 if moment == "measuring" else 1, 1], _attempts(fleet)


@pytest.mark.faults
def test_a_host_asked_to_stop_finishes_its_job_and_says_goodbye(fleet: Fleet) -> None:
    host = fleet.add(kept=False)
    with fleet.at("measuring"):
        assert host.stop() == 0

    first, second = fleet.jobs()
    assert (first.state, first.attempts, second.state, second.attempts) == ("done", 1, "queued", 0)
    assert not processes.marked(host.mark)
    assert queries.hosts(fleet.db)[0].standing == "stopped"
    host.start()
    assert done(closing.check(fleet))


@pytest.mark.faults
@pytest.mark.parametrize("how", ["twice", "SIGINT", "SIGQUIT"])
def test_a_host_asked_urgently_gives_its_job_back_uncounted(fleet: Fleet, how: str) -> None:
    host = fleet.add(kept=False)
    with fleet.at("measuring", jobs=1):
        _ask(host, how)
        assert host.process is not None and host.process.wait(30) == 0

    (job,) = fleet.jobs()
    assert (job.state, job.attempts, job.crashes) == ("queued", 1, 0)
    assert [each.state for each in queries.attempts(fleet.db, job.id)] == ["released"]
    host.start()
    (job,) = closing.check(fleet)
    assert (job.state, job.attempts, job.crashes) == ("done", 2, 0)


def _ask(host: Host, how: str) -> None:
    assert host.process is not None
    if how != "twice":
        host.process.send_signal(signal.Signals[how])
        return
    for _ in range(2):
        host.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)


def _hit(process: psutil.Process, number: signal.Signals, rest: float, hold: Hold) -> None:
    """Send a signal; what was stopped goes on after `rest` seconds, and only that process stands still so long."""
    process.send_signal(number)
    time.sleep(0.5)
    hold.release()
    if number == signal.SIGSTOP:
        time.sleep(rest)
        process.send_signal(signal.SIGCONT)


def _attempts(fleet: Fleet) -> list[list[tuple[str, str | None]]]:
    found = (queries.attempts(fleet.db, job.id) for job in fleet.jobs())
    return [[(attempt.state, attempt.message) for attempt in attempts] for attempts in found]
