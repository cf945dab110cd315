from __future__ import annotations

import pytest

from worker import cores


def _core(cpu: int) -> str:
    return str(cpu % 4)  # eight hardware threads on four cores: 0 and 4 are siblings


@pytest.mark.parametrize(
    ("threads", "chosen"),
    [(1, [7]), (2, [6, 7]), (4, [4, 5, 6, 7]), (5, [3, 4, 5, 6, 7]), (8, list(range(8))), (20, list(range(8)))],
)
def test_one_hardware_thread_of_each_core_comes_first(threads: int, chosen: list[int]) -> None:
    assert cores.choose(threads, range(8), _core) == chosen


def test_only_allowed_cpus_are_chosen() -> None:
    assert cores.choose(2, {0, 1}, _core) == [0, 1]


def test_instances_side_by_side_share_no_cpu() -> None:
    assert cores.layout(2, 2, range(4), group=str) == [[0, 1], [2, 3]]
    assert cores.layout(3, 1, range(8), group=str) == [[5], [6], [7]]


def test_hardware_threads_of_one_core_go_to_one_instance_once_whole_cores_are_spent() -> None:
    def sibling(cpu: int) -> str:
        return str(cpu % 4)  # CPUs 0 and 4 are one core

    assert cores.layout(4, 1, range(8), group=sibling) == [[4], [5], [6], [7]]
    assert cores.layout(4, 2, range(8), group=sibling) == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_more_threads_than_cpus_have_no_layout() -> None:
    with pytest.raises(ValueError, match="2 × 2 threads are more than 3 CPUs"):
        cores.layout(2, 2, range(3), group=str)
