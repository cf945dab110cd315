"""What the soak's samples see of a process."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import psutil

from tests.soak import samples


def test_private_memory_and_descriptors_are_what_a_process_really_took() -> None:
    def look() -> samples.Sample:
        return samples._look(psutil.Process(os.getpid()), 0.0, "here", "test")

    before = look()
    taken = mmap.mmap(-1, 64 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    taken.write(b"x" * len(taken))
    opened = [Path(os.devnull).open("rb") for _ in range(5)]  # noqa: SIM115 - closed below
    after = look()
    for stream in opened:
        stream.close()
    assert after.private - before.private > 60 * 2**20
    assert after.resident >= after.private > 0
    assert after.descriptors == before.descriptors + 5
    assert (after.pid, after.born) == (before.pid, before.born)


def test_each_process_of_a_role_has_a_life_of_its_own() -> None:
    sampler = samples.Sampler(fleet=None)  # type: ignore[arg-type]  # nobody is looked at
    common = {"where": "calm", "role": "worker", "resident": 1, "proportional": 1, "threads": 1}
    for at_s, pid, born in ((0.0, 7, 1.0), (5.0, 7, 1.0), (10.0, 7, 2.0), (10.0, 8, 1.5)):
        sampler.samples.append(
            samples.Sample(at_s=at_s, pid=pid, born=born, private=int(at_s), descriptors=3, **common)  # type: ignore[arg-type]
        )
    assert sampler.lives("private") == {("calm", "worker"): [[(0.0, 0.0), (5.0, 5.0)], [(10.0, 10.0)], [(10.0, 10.0)]]}
