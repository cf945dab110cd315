"""What a calibration measures on which machine, and the knee that it reads off."""

from __future__ import annotations

import types
from typing import Any

import psutil
import pytest

from storage import records
from tests import builders
from worker import ceilings


def place(cores: tuple[int, int] = (4, 8), cpus: int = 8, l3: int = 32 << 20, memory: int = 64 << 30) -> Any:
    hardware = builders.platform().hardware
    fields = {name: getattr(hardware, name) for name in records.Hardware.__slots__}
    changed = records.Hardware(
        **{**fields, "physical_cores": cores[0], "logical_cores": cores[1], "cache_bytes": {"l3": l3}}
    )
    return types.SimpleNamespace(
        cpus=list(range(cpus)), platform=types.SimpleNamespace(hardware=changed), memory_limit=lambda: memory
    )


def reads(*rates: float) -> list[Any]:
    return [builders._bandwidth("read", 1, 1 << (19 + step), rate * 1e9) for step, rate in enumerate(rates)]


def test_one_thread_all_cores_and_all_hardware_threads_are_measured_once_each() -> None:
    assert ceilings.thread_counts(place((4, 8))) == (1, 4, 8)
    assert ceilings.thread_counts(place((2, 2), cpus=2)) == (1, 2)
    assert ceilings.thread_counts(place((4, 8), cpus=2)) == (1, 2)  # a worker that may use two CPUs


def test_working_sets_double_from_a_core_s_cache_to_well_beyond_the_last_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=64 << 30))

    assert ceilings.working_sets(place())[0] == 512 << 10
    assert ceilings.working_sets(place())[-1] == 256 << 20
    assert ceilings.working_sets(place(l3=256 << 20))[-1] == 2 << 30
    assert ceilings.working_sets(place(l3=256 << 20, memory=4 << 30))[-1] == 512 << 20


def test_the_cache_seen_is_the_largest_set_read_clearly_faster_than_memory() -> None:
    seen, note = ceilings.cache_seen(reads(60, 60, 50, 48, 20, 11, 10))

    assert seen == 8 << 20
    assert "×1.5" in note


def test_no_knee_is_said_and_not_guessed() -> None:
    assert ceilings.cache_seen(reads(12, 11, 11, 10, 10, 10)) == (
        None,
        "not seen: no working set is read ×1.5 as fast as memory",
    )


def test_a_rate_that_still_changes_at_the_largest_set_shows_no_memory() -> None:
    seen, note = ceilings.cache_seen(reads(60, 60, 50, 40, 20, 10))

    assert seen is None
    assert "still changes" in note
