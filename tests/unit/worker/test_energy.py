"""Joules from a machine's counters, read from a tree that looks like one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from storage import records
from worker import energy, fitness, gains, quiet, rounds

RANGE = 262_143_328_850


def zone(root: Path, folder: str, name: str, energy_uj: int) -> Path:
    made = root / "sys/class/powercap" / folder
    made.mkdir(parents=True, exist_ok=True)
    for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", RANGE)):
        (made / file).write_text(f"{value}\n")
    return made


def used(root: Path, made: Path, first: int, last: int) -> dict[str, float]:
    meter = energy.Meter(root)
    (made / "energy_uj").write_text(f"{first}\n")
    before = meter.read()
    (made / "energy_uj").write_text(f"{last}\n")
    after = meter.read()
    assert before is not None and after is not None
    return meter.joules(before, after)


def test_joules_are_the_difference_of_the_counters(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    zone(tmp_path, "intel-rapl:1", "package-1", 500)

    assert used(tmp_path, package, 1_000_000, 3_500_000) == {"package-0": 2.5, "package-1": 0.0}


def test_a_counter_that_went_round_counts_what_it_went_through(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)

    assert used(tmp_path, package, RANGE - 1_000_000, 500_000) == {"package-0": pytest.approx(1.5)}


def test_parts_of_a_package_and_the_whole_platform_are_not_counted_again(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    zone(tmp_path, "intel-rapl:0:0", "core", 0)
    zone(tmp_path, "intel-rapl:1", "psys", 0)

    assert [one.name for one in energy.Meter(tmp_path).zones] == ["package-0"]


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    meter = energy.Meter(tmp_path)

    assert meter.read() is None
    assert meter.absent is not None and "tells no energy" in meter.absent


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_counters_that_only_root_may_read_are_told_apart_from_none(tmp_path: Path) -> None:
    (zone(tmp_path, "intel-rapl:0", "package-0", 0) / "energy_uj").chmod(0)

    meter = energy.Meter(tmp_path)

    assert meter.read() is None
    assert meter.absent is not None and "only root" in meter.absent


def test_legs_carry_the_energy_of_the_time_in_which_their_calls_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    observer = quiet.Observer()
    monkeypatch.setattr(observer, "meter", energy.Meter(tmp_path))
    before = observer.snapshot(os.getpid())
    (package / "energy_uj").write_text("4000000\n")
    after = observer.snapshot(os.getpid())
    half = (after.at_ns - before.at_ns) // 2

    assert observer.joules(before, after) == 4.0
    assert rounds.joules(observer, before, after, [half]) == pytest.approx(2.0, rel=0.01)


def test_a_machine_that_tells_no_energy_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observer = quiet.Observer()
    monkeypatch.setattr(observer, "meter", energy.Meter(tmp_path))
    before, after = observer.snapshot(os.getpid()), observer.snapshot(os.getpid())

    assert rounds.joules(observer, before, after, [1]) is None
    assert "tells no energy" in fitness.energy_finding(tmp_path).seen


def test_joules_are_told_by_row_over_all_legs_of_a_side() -> None:
    def leg(side: records.Side, joules: float | None, calls: int) -> records.Leg:
        plain: dict[str, Any] = dict.fromkeys(
            ("pair", "round", "position", "cpu_ns", "run_delay_ns", "threads_burning"), 0
        )
        return records.Leg(
            **plain,
            side=side,
            samples_ns=(1,) * calls,
            items=1,
            started_at=0.0,
            foreign_share=0.0,
            steal_share=0.0,
            preemptions=0,
            joules=joules,
        )

    legs = [leg("strategy", 6.0, 2), leg("strategy", 2.0, 2), leg("strategy", None, 5)]

    assert gains._joules_per_row(legs, 4) == pytest.approx(8.0 / (4 * 4))
    assert gains._joules_per_row(legs[2:], 4) is None
