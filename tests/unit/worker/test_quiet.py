from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from worker import quiet

MS = 1_000_000

LEG = """
import sys, time
print(flush=True)
for line in sys.stdin:
    until = time.process_time() + 0.08
    while time.process_time() < until: pass
    print(flush=True)
"""


def start(**fields: Any) -> quiet.Snapshot:
    zero = quiet.Snapshot(
        at_ns=0,
        busy_ns=0,
        steal_ns=0,
        accounted_ns=None,
        rounding_ns=quiet.ROUNDING_TICKS * quiet.TICK_NS,
        ignored_ns=0,
        child_ns=0,
        threads={},
        swapped_pages=0,
        throttled=0,
        heated=0,
    )
    return dataclasses.replace(zero, **fields)


def after(wall_ms: float, cpu_ms: float, *, foreign_ms: float = 0, wait_ms: float = 0, **fields: Any) -> quiet.Snapshot:
    """A leg from zero: one thread that used all the CPU time, and `foreign_ms` of other processes."""
    given = {"threads": {1: (int(cpu_ms * MS), int(wait_ms * MS))}, "busy_ns": int((cpu_ms + foreign_ms) * MS)}
    return start(at_ns=int(wall_ms * MS), child_ns=int(cpu_ms * MS), **given | fields)


def test_an_undisturbed_leg_has_no_reason() -> None:
    seen = quiet.judge(start(), after(100, 100), cores=2, threads=1)
    assert seen.disturbed == ()
    assert (seen.wall_ns, seen.cpu_ns, seen.threads_burning, seen.foreign_share) == (100 * MS, 100 * MS, 1, 0)


def test_waiting_for_a_cpu_disturbs_a_single_thread_even_where_ticks_show_nothing() -> None:
    assert quiet.judge(start(), after(103, 100, wait_ms=1), cores=2, threads=1).disturbed == ()
    seen = quiet.judge(start(), after(112, 100, wait_ms=12), cores=2, threads=1)
    assert seen.disturbed == ("waited 11 % of the time for a CPU that others used",)
    assert seen.run_delay_ns == 12 * MS


def test_a_leg_in_which_nothing_ran_for_a_while_is_disturbed() -> None:
    stopped = after(3100, 100)
    assert quiet.judge(start(), stopped, cores=2, threads=1).disturbed == ("stood still for 3 of 3.1 s",)
    assert quiet.judge(start(), after(103, 100), cores=2, threads=1).disturbed == ()
    pool = {1: (100 * MS, 0), 2: (90 * MS, 0)}
    waiting = after(115, 190, threads=pool)
    assert quiet.judge(start(), waiting, cores=2, threads=2).disturbed == (), "a pool's threads wait for one another"
    stopped = after(400, 190, threads=pool)
    assert quiet.judge(start(), stopped, cores=2, threads=2).disturbed == ("stood still for 0.3 of 0.4 s",)
    unknown = after(3100, 100, threads={})
    assert quiet.judge(start(), unknown, cores=2, threads=1).disturbed == (), "a kernel that does not tell"


def test_threads_of_one_pool_that_wait_for_one_another_are_not_blamed_on_others() -> None:
    pool = {1: (90 * MS, 20 * MS), 2: (90 * MS, 15 * MS)}
    quiet_leg = after(110, 180, threads=pool)
    assert quiet.judge(start(), quiet_leg, cores=2, threads=2).disturbed == ()
    crowded = after(110, 180, foreign_ms=40, threads=pool)
    assert any("waited" in reason for reason in quiet.judge(start(), crowded, cores=2, threads=2).disturbed)


def test_what_the_rounding_of_ticks_can_explain_is_not_flagged() -> None:
    short = quiet.judge(start(), after(100, 100, foreign_ms=30), cores=2, threads=1)
    assert short.disturbed == ()
    assert short.foreign_share == pytest.approx(0.15)
    long = quiet.judge(start(), after(1000, 1000, foreign_ms=300), cores=2, threads=1)
    assert long.disturbed == ("other processes used 0.3 cores",)


def test_the_exact_account_sees_on_short_legs_what_ticks_cannot() -> None:
    leg = after(100, 100, foreign_ms=30, accounted_ns=130 * MS)
    assert quiet.judge(start(accounted_ns=0), leg, cores=2, threads=1).disturbed == ("other processes used 0.3 cores",)
    leg = after(100, 100, foreign_ms=30, accounted_ns=100 * MS)
    assert quiet.judge(start(accounted_ns=0), leg, cores=2, threads=1).disturbed == ()


def test_neighbours_outside_of_the_own_container_are_seen_by_their_ticks() -> None:
    leg = after(1000, 1000, foreign_ms=800, accounted_ns=1000 * MS)
    seen = quiet.judge(start(accounted_ns=0), leg, cores=2, threads=1)
    assert seen.disturbed == ("other processes used 0.8 cores",)


def test_the_tools_own_work_is_not_foreign() -> None:
    leg = after(1000, 1000, foreign_ms=400, ignored_ns=300 * MS)
    seen = quiet.judge(start(), leg, cores=2, threads=1, own_cpu_ns=100 * MS)
    assert (seen.foreign_share, seen.disturbed) == (0, ())


def test_steal_swap_quota_and_heat_are_named() -> None:
    leg = after(1000, 1000, steal_ns=80 * MS, swapped_pages=7, throttled=3, heated=1)
    assert quiet.judge(start(), leg, cores=2, threads=1).disturbed == (
        "steal 4 %",
        "swapped 7 pages",
        "throttled by the cgroup quota 3 times",
        "temperature: a CPU throttled itself",
    )
    one_tick = after(100, 100, steal_ns=quiet.TICK_NS)
    assert quiet.judge(start(), one_tick, cores=2, threads=1).disturbed == ()


def test_spinning_threads_burn_and_sleeping_helpers_do_not() -> None:
    before = start(threads={1: (500 * MS, 0), 2: (0, 0), 3: (9 * MS, 0)})
    leg = after(100, 0, threads={1: (600 * MS, 0), 2: (98 * MS, 0), 3: (10 * MS, 0), 4: (60 * MS, 0)})
    assert quiet.judge(before, leg, cores=4, threads=3).threads_burning == 3
    assert quiet.judge(before, before, cores=4, threads=3).threads_burning == 0


def test_a_busy_neighbour_on_the_same_cpu_disturbs_a_real_leg() -> None:
    cpu = max(os.sched_getaffinity(0))
    with _process("while True: pass", cpu), _process(LEG, cpu) as child:
        _answer(child)
        for _ in range(5):  # a loaded machine may move or starve everyone for one leg
            seen = _leg(child)
            if any("waited" in reason for reason in seen.disturbed):
                break
        else:
            pytest.fail(f"never disturbed: {seen}")
    assert seen.threads_burning == 1
    assert seen.run_delay_ns > 0.2 * seen.wall_ns
    assert abs(seen.cpu_ns - 80 * MS) < 40 * MS


def test_a_process_that_sleeps_is_idle_and_one_that_spins_is_not() -> None:
    with _process("while True: pass") as spinner:
        assert quiet.wait_idle(spinner.pid, 0.05) >= 0.05
    with _process("input()") as sleeper:
        assert quiet.wait_idle(sleeper.pid, 20) < 20
        assert quiet.idle(sleeper.pid)


def test_a_process_that_is_gone_is_told() -> None:
    with _process("input()") as child:
        child.kill()
        child.wait()
        assert quiet.idle(child.pid)
        with pytest.raises(ProcessLookupError):
            quiet.Observer().snapshot(child.pid)
        with pytest.raises(ProcessLookupError):
            quiet.resident(child.pid)


def test_memory_that_a_process_gave_back_stays_in_its_peak() -> None:
    code = "kept = bytearray(60_000_000); del kept; print(flush=True); input()"
    with _process(code) as child:
        _answer(child)
        seen = quiet.resident(child.pid)
    assert seen.peak - seen.now > 50_000_000
    assert seen.now > 1_000_000


def test_private_memory_is_a_part_of_resident_memory() -> None:
    assert 0 < quiet.private(os.getpid()) <= quiet.resident(os.getpid()).peak


def _leg(child: subprocess.Popen[str]) -> quiet.LegConditions:
    assert child.stdin is not None
    observer = quiet.Observer()
    before = observer.snapshot(child.pid)
    child.stdin.write("go\n")
    child.stdin.flush()
    _answer(child)
    return quiet.judge(before, observer.snapshot(child.pid), cores=len(os.sched_getaffinity(0)), threads=1)


def _answer(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    child.stdout.readline()


@contextmanager
def _process(code: str, cpu: int | None = None) -> Iterator[subprocess.Popen[str]]:
    pin = "" if cpu is None else f"import os; os.sched_setaffinity(0, {{{cpu}}})\n"
    line = [sys.executable, "-c", pin + code]
    child = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.1)  # past the interpreter's start
        yield child
    finally:
        child.kill()
        child.communicate()
