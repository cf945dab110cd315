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
