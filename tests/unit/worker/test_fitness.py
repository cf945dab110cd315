from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage import settings
from tests.unit.worker import hosts
from worker import fitness
from worker.fitness import Load

QUIET = Load(cores=0.02, steal_share=0, swapped_pages=0)


@pytest.mark.parametrize(("used", "level"), [(0.05, "ok"), (0.3, "warn"), (1.2, "bad")])
def test_load_of_others_is_judged_by_its_share_of_the_cores(used: float, level: str) -> None:
    found = fitness.load_finding(Load(cores=used, steal_share=0, swapped_pages=0), cores=2)
    assert found.level == level
    assert bool(found.advice) == (level != "ok")


def test_the_busiest_processes_are_named_without_their_arguments() -> None:
    spin = [sys.executable, "-c", "while True: pass  # --password=hunter2"]
    with subprocess.Popen(spin) as neighbour:
        try:
            load = fitness.sample(0.5)
        finally:
            neighbour.kill()
    assert load.busiest
    assert "hunter2" not in fitness.load_finding(load, 2).seen


def test_steal_swap_and_little_memory_are_found() -> None:
    bad = Load(cores=0, steal_share=0.04, swapped_pages=12)
    assert (fitness.steal_finding(QUIET).level, fitness.steal_finding(bad).level) == ("ok", "warn")
    assert (fitness.swap_finding(QUIET).level, fitness.swap_finding(bad).level) == ("ok", "bad")
    assert fitness.memory_finding(500 << 20).level == "bad"
    assert fitness.memory_finding(64 << 30).level == "ok"


def test_a_quota_or_a_single_core_is_a_warning() -> None:
    assert fitness.cores_finding(4, 4, None).level == "ok"
    assert fitness.cores_finding(1, 4, None).level == "warn"
    quota = fitness.cores_finding(4, 4, 1.5)
    assert quota.level == "warn"
    assert "1.5" in quota.seen


def test_a_governor_that_saves_power_is_a_warning_and_a_hidden_one_is_none(tmp_path: Path) -> None:
    governor = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    root = hosts.write(tmp_path, {governor: "powersave\n", "sys/devices/system/cpu/intel_pstate/no_turbo": "0\n"})
    found = fitness.clock_finding(root)
    assert (found.level, found.seen) == ("warn", "governor powersave, turbo on")
    assert fitness.clock_finding(hosts.write(root, {governor: "performance"})).level == "ok"
    assert fitness.clock_finding(tmp_path / "nothing").level == "ok"


def test_a_cache_folder_is_judged_where_it_will_be_made(tmp_path: Path) -> None:
    assert fitness.disk_finding(tmp_path / "not" / "yet").level in {"ok", "warn", "bad"}
    assert not (tmp_path / "not").exists()
    (tmp_path / "file").touch()
    assert fitness.disk_finding(tmp_path / "file" / "cache").level == "bad"


def test_everything_is_looked_at_and_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "SAMPLE_S", 0.05)
    config = settings.load(
        database=f"sqlite:///{tmp_path}/q.db", cache=tmp_path / "cache", lock=tmp_path / "lock", broker=""
    )
    checks = [finding.check for finding in fitness.fitness(config, os.environ)]
    wanted = {"cores", "load", "steal", "clock", "swap", "memory", "cache", "timer", "measuring", "database", "broker"}
    assert wanted <= set(checks)
    assert len(set(checks)) == len(checks)
    assert list(tmp_path.iterdir()) == []
