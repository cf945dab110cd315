"""The spool's disk is full or cannot be written while the database is away: a result counts once, or is measured
again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import queries
from tests.faults import closing, processes
from tests.faults.conftest import MakeFleet
from tests.faults.fleet import QUICK, Fleet, Host, done

pytestmark = pytest.mark.faults


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    """With a lease that is longer than the pauses between two tries to store."""
    return make_fleet({**QUICK, "lease": 8.0})


@pytest.fixture
def host(fleet: Fleet) -> Host:
    return fleet.add(start=False)


@pytest.fixture
def full(host: Host) -> Iterator[Path]:
    """A spool on a disk of its own that is full."""
    spool = host.cache / "spool"
    spool.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(spool)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield _fill(spool)
    finally:
        subprocess.run(["umount", "--lazy", str(spool)], check=True)


def _fill(spool: Path) -> Path:
    file = spool / "full"
    with file.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            return file


def test_a_result_that_fits_nowhere_waits_for_its_database(fleet: Fleet, host: Host, full: Path) -> None:
    _measure_with_the_database_away(fleet, host)
    full.unlink()
    jobs = closing.check(fleet)
    assert done(jobs)
    assert [job.crashes for job in jobs] == [0, 0], queries.attempts(fleet.db, jobs[0].id)


def test_a_spool_that_cannot_be_made_is_no_loss_either(fleet: Fleet, host: Host) -> None:
    host.cache.mkdir(parents=True)
    (host.cache / "spool").write_text("in the way")
    _measure_with_the_database_away(fleet, host)
    (host.cache / "spool").unlink()
    jobs = closing.check(fleet)
    assert done(jobs)
    assert [job.crashes for job in jobs] == [0, 0], queries.attempts(fleet.db, jobs[0].id)


@pytest.mark.parametrize("dies", [False, True], ids=["goes-on", "dies"])
def test_a_result_waits_in_the_spool_while_the_database_is_away(fleet: Fleet, host: Host, dies: bool) -> None:
    host.start()
    host.wait_serving()
    with fleet.at("storing", jobs=1) as hold:
        fleet.to_postgres.refuse()
        hold.release()
        _wait_spooled(host)
        if dies:
            host.kill()
        time.sleep(2 * fleet.times["lease"])
        assert [job.state for job in fleet.jobs()] == ["running"]
        fleet.to_postgres.restore()

    (job,) = closing.check(fleet)

    assert (job.state, job.attempts, job.crashes) == ("done", 1, 0), queries.attempts(fleet.db, job.id)


def _measure_with_the_database_away(fleet: Fleet, host: Host) -> None:
    host.start()
    host.wait_serving()
    with fleet.at("storing") as hold:
        fleet.to_postgres.refuse()
        hold.release()
        time.sleep(2 * fleet.times["lease"])
        fleet.to_postgres.restore()


def _wait_spooled(host: Host) -> None:
    spooled = processes.until(lambda: [*(host.cache / "spool").rglob("*.json")], bool, 60.0)
    assert spooled, host.tail()
