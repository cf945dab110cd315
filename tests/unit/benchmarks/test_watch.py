from __future__ import annotations

from benchmarks.peers import watch
from benchmarks.peers.watch import Look

TOOL, MEASURED, HELPER = 10, 11, 12


def look(at: float, tool: float, measured: dict[int, float], helper: float = 0.0) -> Look:
    """A tool that starts a measured process and a small helper."""
    return Look(
        at=at,
        cpu_s={TOOL: {TOOL: tool}, MEASURED: measured, HELPER: {HELPER: helper}},
        parents={TOOL: 1, MEASURED: TOOL, HELPER: TOOL},
    )


def test_a_parent_that_spins_is_no_thread_of_the_measured_process() -> None:
    looks = [look(0, 4.0, {1: 3.0}), look(1, 5.0, {1: 4.0}), look(2, 6.0, {1: 5.0})]

    found = watch.seen(looks, 2.0)

    assert found == watch.Seen(threads=1, beside=1.0)


def test_only_the_last_seconds_count_and_a_thread_that_hardly_ran_does_not() -> None:
    importing = look(0, 0.0, {1: 0.0, 2: 0.0, 3: 0.0})
    imported = look(10, 0.0, {1: 10.0, 2: 0.0, 3: 5.0})
    timed = look(12, 0.0, {1: 11.9, 2: 1.8, 3: 5.01})

    found = watch.seen([importing, imported, timed], 2.0)

    assert found is not None
    assert found.threads == 2


def test_several_measured_processes_one_after_the_other_are_each_counted_and_a_helper_is_not() -> None:
    def alone(at: float, pid: int, threads: dict[int, float]) -> Look:
        return Look(at=at, cpu_s={TOOL: {TOOL: 0.1}, pid: threads}, parents={TOOL: 1, pid: TOOL})

    looks = [
        alone(0, 21, {1: 0.0, 2: 0.0}),
        alone(2, 21, {1: 2.0, 2: 1.9}),
        alone(3, 22, {1: 0.0, 2: 0.0}),
        alone(5, 22, {1: 2.0, 2: 1.9}),
        alone(6, HELPER, {1: 0.05}),
        alone(7, HELPER, {1: 0.06}),
    ]

    found = watch.seen(looks, 2.0)

    assert found is not None
    assert found.threads == 2


def test_one_look_tells_nothing() -> None:
    assert watch.seen([look(0, 1.0, {1: 1.0})], 2.0) is None
