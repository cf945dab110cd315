"""Measured processes: forked, isolated, and gone when they should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from storage import errors, records
from worker import latency, prepare, station


def _nothing() -> None:
    pass


def _untold(_progress: object) -> None:
    pass


def case_of(model: records.ModelRef) -> records.Case:
    return records.Case(kind="prepare", model=model, strategy="torch/fp32", baseline="torch/fp32")


def latency_of(model: records.ModelRef) -> records.Case:
    return records.Case(
        kind="latency",
        model=model,
        strategy="torch/fp32",
        baseline="torch/fp32",
        threads=1,
        input=records.InputSpec(batch=1, length=8, calls=1),
    )


def test_a_killed_child_is_told_with_its_signal_and_the_next_one_works(place: station.Station) -> None:
    with place.exclusive(_nothing):
        child = place.fork("torch", _nothing)
        os.kill(child.pid, signal.SIGSEGV)
        with pytest.raises(errors.ChildDied) as caught:
            child.ask("warm")
        child.close()

        assert caught.value.signal == signal.SIGSEGV
        assert "SIGSEGV" in str(caught.value)
        with place.child("torch", _nothing) as other:
            assert other.pid != child.pid


def test_recovering_ends_what_a_failure_left_behind_and_nothing_else(place: station.Station) -> None:
    with place.exclusive(_nothing):
        with place.child("torch", _nothing):
            pass
        before = place.nursery("torch").pid
        place.recover()
        assert place.nursery("torch").pid == before, "a nursery without a child was ended"

        left = psutil.Process(place.fork("torch", _nothing).pid)
        place.recover()
        assert psutil.wait_procs([left], timeout=3)[1] == [], "a measured process was left behind"


def test_a_fork_that_is_given_up_leaves_nothing_that_the_next_one_could_take_for_its_own(
    place: station.Station,
) -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with place.exclusive(_nothing):
        with place.child("torch", _nothing):
            pass
        with pytest.raises(Stop):
            place.fork("torch", stop)
        with place.child("torch", _nothing) as child:
            assert child.ask("memory")["peak_bytes"] > 0
            assert psutil.Process(child.pid).ppid() == place.nursery("torch").pid


def test_a_child_that_stops_answering_is_killed_when_its_time_is_over(place: station.Station) -> None:
    with place.exclusive(_nothing):
        child = place.fork("torch", _nothing)
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(errors.ChildDied, match="did not answer for 1 s during 'warm'"):
            child.ask("warm", within_s=1.0)
        began = time.monotonic()
        child.close()

    assert time.monotonic() - began < 2, "waited for the end of a process that has ended"
    assert not psutil.pid_exists(child.pid)


def test_a_child_that_was_stopped_for_a_while_answers_and_its_leg_is_known_as_disturbed(
    place: station.Station, model: records.ModelRef
) -> None:
    stopped: list[int] = []
    later: list[subprocess.Popen[bytes]] = []

    def stop_a_child(progress: object) -> None:
        if not stopped:
            stopped.extend(_children_of(place)[:1])
            os.kill(stopped[0], signal.SIGSTOP)
            later.append(subprocess.Popen(["sh", "-c", f"sleep 2; kill -CONT {stopped[0]}"]))

    with place.exclusive(_nothing):
        budget = records.Budget(precision=0.9, max_seconds=30.0, min_pairs=2)
        _, legs = latency.measure(place, latency_of(model), budget, _nothing, stop_a_child)

    assert [resume.wait() for resume in later] == [0]
    assert [leg for leg in legs if any("stood still" in reason for reason in leg.disturbed)]


def test_a_child_that_dies_between_two_legs_is_told_with_its_signal(
    place: station.Station, model: records.ModelRef
) -> None:
    def kill_them(_progress: object) -> None:
        for pid in _children_of(place):
            os.kill(pid, signal.SIGTERM)
            with pytest.raises(psutil.NoSuchProcess):
                psutil.Process(pid).wait(10)
                psutil.Process(pid)

    budget = records.Budget(precision=1e-6, max_seconds=30.0, min_pairs=2)
    with place.exclusive(_nothing), pytest.raises(errors.ChildDied, match="SIGTERM during 'leg'") as caught:
        latency.measure(place, latency_of(model), budget, _nothing, kill_them)
    assert caught.value.signal == signal.SIGTERM


def test_the_end_of_a_child_is_seen_while_its_nursery_is_stopped(place: station.Station) -> None:
    with place.exclusive(_nothing):
        child = place.fork("torch", _nothing)
        nursery = place.nursery("torch").pid
        assert nursery is not None
        os.kill(nursery, signal.SIGSTOP)
        try:
            began = time.monotonic()
            child.close()
            assert time.monotonic() - began < 2
        finally:
            os.kill(nursery, signal.SIGCONT)
        with place.child("torch", _nothing) as other:
            assert other.pid != child.pid
        assert place.nursery("torch")._ended == {}, "late news that nobody asks for would pile up"


def _children_of(place: station.Station) -> list[int]:
    nursery = place.nursery("torch").pid
    assert nursery is not None
    return [child.pid for child in psutil.Process(nursery).children()]


def test_a_model_too_large_for_memory_ends_its_process_and_says_so(place: station.Station) -> None:
    huge = records.ModelRef(name="huge", source="random", location="bert", config={"vocab_size": 3_000_000})
    config = place.settings.model_copy(update={"memory_gib": 2.0})
    small = station.Station(config, place.platform)
    try:
        with small.exclusive(_nothing), pytest.raises(errors.ChildDied, match="memory"):
            prepare.model(small, case_of(huge), "torch/fp32", _nothing, _untold)
    finally:
        small.close()


def test_a_child_has_one_thread_until_it_is_told_otherwise(place: station.Station) -> None:
    with place.exclusive(_nothing), place.child("torch", _nothing) as child:
        assert len(list(Path(f"/proc/{child.pid}/task").iterdir())) == 1


def test_the_measuring_lock_is_held_as_long_as_any_child_lives(place: station.Station) -> None:
    with place.exclusive(_nothing):
        orphan = place.fork("torch", _nothing)
    tries = 0

    def patience() -> None:
        nonlocal tries
        tries += 1
        if tries > 3:
            raise TimeoutError

    try:
        with pytest.raises(TimeoutError), place.exclusive(patience):
            pytest.fail("an orphan was measuring, and the lock was given away")
    finally:
        orphan.close()
    with place.exclusive(_nothing):
        pass


def test_errors_of_an_operation_come_back_as_their_own_class(place: station.Station) -> None:
    missing = records.ModelRef(name="gone", source="local", location="/does/not/exist")

    with place.exclusive(_nothing), pytest.raises(errors.ModelError, match="/does/not/exist"):
        prepare.model(place, case_of(missing), "torch/fp32", _nothing, _untold)


PARENT = """
import time
from worker import nursery
import os, sys
made = nursery.Nursery("onnxruntime", nursery.environment(os.environ))
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
child = made.fork(lock=lock)
print(made._process.pid, child.pid, flush=True)
time.sleep(600)
"""


def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()

    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        assert time.monotonic() < deadline, "a nursery or a measured process outlived its supervisor"
        time.sleep(0.05)
