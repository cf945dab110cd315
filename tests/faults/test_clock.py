"""A host whose clock is an hour off: leases and waits are reckoned by the database's clock alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import queries
from tests.faults import closing
from tests.faults.fleet import Fleet, done

SHIFT = """
import datetime, time

def _shifted(real, by):
    return lambda *args: real(*args) + by

time.time = _shifted(time.time, {seconds})
time.time_ns = _shifted(time.time_ns, {seconds} * 10**9)

class _Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

datetime.datetime = _Datetime
"""


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [3600, -3600], ids=["fast", "slow"])
def test_a_clock_that_is_an_hour_off_takes_no_job_away(fleet: Fleet, tmp_path: Path, seconds: int) -> None:
    folder = tmp_path / "python"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SHIFT.format(seconds=seconds))
    hosts = [fleet.add("one", PYTHONPATH=_before(folder)), fleet.add("two")]
    for host in hosts:  # longer than a lease
        fleet.submit(1, host=host.name, seconds=2 * fleet.times["lease"])
    fleet.submit(2)

    jobs = closing.check(fleet)

    assert done(jobs)
    assert [(job.attempts, job.crashes) for job in jobs] == 4 * [(1, 0)]
    (mine,) = (job for job in jobs if job.wanted_host == "one")
    (yours,) = (job for job in jobs if job.wanted_host == "two")
    apart = queries.legs(fleet.db, mine.id)[0].started_at - queries.legs(fleet.db, yours.id)[0].started_at
    assert abs(apart - seconds) < 600  # the shift was real: raw samples carry their host's own time
    assert abs((mine.claimed_at or 0) - (yours.claimed_at or 0)) < 600


def _before(folder: Path) -> str:
    import os

    rest = os.environ.get("PYTHONPATH")
    return f"{folder}{os.pathsep}{rest}" if rest else str(folder)
