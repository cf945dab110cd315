"""Several workers: two of one host, two that share a machine, one that falls behind its lease."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import database, queries, tables
from tests.faults import closing, processes
from tests.faults.fleet import Fleet, Host, Moment, done
from tests.faults.proxy import Hold


@pytest.mark.faults  # in `make test` integration/worker/test_launcher.py looks at it
def test_a_second_worker_of_one_host_is_refused_with_the_first_ones_process_id(fleet: Fleet) -> None:
    first = fleet.add()
    assert first.process is not None
    lock = str(first.folder / "lock")
    second = Host(name=first.name, folder=fleet.folder / "again", given={**fleet.environment, "QUANTFLEET_LOCK": lock})
    second.start()
    assert second.process is not None
    try:
        assert second.process.wait(30) == 2
    finally:
        second.kill()
    assert str(first.process.pid) in second.tail()
    assert first.process.poll() is None
    closing.check(fleet)


@pytest.mark.faults
def test_two_workers_that_share_a_machine_never_measure_at_the_same_time(fleet: Fleet, tmp_path: Path) -> None:
    lock = str(tmp_path / "shared.lock")
    hosts = [fleet.add(name, start=False, QUANTFLEET_LOCK=lock) for name in ("one", "two")]
    for host in hosts:
        host.start()
    for host in hosts:
        host.wait_serving()
    watch = Watch(hosts)
    for host in hosts:
        fleet.submit(2, host=host.name)

    jobs = closing.check(fleet)

    assert watch.end() == []
    assert done(jobs)
    attempts = [attempt for job in jobs for attempt in queries.attempts(fleet.db, job.id)]
    assert _overlaps(attempts) == []
    assert sorted(attempt.host for attempt in attempts) == ["one", "one", "two", "two"]


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["measuring", "storing"])
def test_a_host_paused_for_longer_than_its_lease_is_overtaken_and_its_result_not_counted(
    fleet: Fleet, moment: Moment
) -> None:
    hosts = {name: fleet.add(name) for name in ("one", "two")}
    with fleet.at(moment, jobs=1, seconds=4) as hold:
        paused = _overtaken(fleet, hosts, hold)

    (job,) = closing.check(fleet)

    first, second = queries.attempts(fleet.db, job.id)
    assert (job.state, job.crashes) == ("done", 1)
    assert (first.host, second.host, second.state) == (paused.name, job.host, "done")
    assert second.host != paused.name
    assert first.state == ("superseded" if moment == "storing" else "expired")
    if moment == "storing":
        assert _kept(fleet, job.id, first.token)


@pytest.mark.faults
def test_a_host_paused_in_mid_transaction_keeps_its_job_locked_for_seconds_only(fleet: Fleet) -> None:
    hosts = {name: fleet.add(name) for name in ("one", "two")}
    hold = fleet.hold_storing()
    fleet.submit(1)
    hold.wait()
    began = time.monotonic()
    _overtaken(fleet, hosts, hold)
    assert time.monotonic() - began > database.IDLE_S

    (job,) = closing.check(fleet)

    assert (job.state, job.attempts, job.crashes) == ("done", 2, 1)
    assert [attempt.state for attempt in queries.attempts(fleet.db, job.id)] == ["superseded", "done"]


@pytest.mark.faults
def test_a_late_result_that_nobody_overtook_counts_once(fleet: Fleet) -> None:
    host = fleet.add()
    with fleet.at("storing", jobs=1) as hold:
        supervisor = host.the("supervisor")
        supervisor.suspend()
        processes.until(lambda: fleet.jobs()[0].state, lambda state: state == "queued", 30.0)
        supervisor.resume()
        hold.release()

    (job,) = closing.check(fleet)

    assert (job.state, job.attempts, job.crashes) == ("done", 1, 1)
    assert [attempt.state for attempt in queries.attempts(fleet.db, job.id)] == ["done"]


@pytest.mark.faults
def test_a_host_that_vanishes_for_good_leaves_its_job_to_another(fleet: Fleet) -> None:
    hosts = {name: fleet.add(name) for name in ("one", "two")}
    with fleet.at("measuring", jobs=3, seconds=4):
        gone = hosts[next(str(job.host) for job in fleet.jobs() if job.state == "running")]
        gone.kept = False
        gone.kill()
        gone.process = None

    jobs = closing.check(fleet)

    assert done(jobs)
    assert sum(job.crashes for job in jobs) == 1
    standing = {view.name: view.standing for view in queries.hosts(fleet.db)}
    assert standing[gone.name] != "stopped"


class Watch:
    """Looks, about fifty times a second, whether measured processes of two hosts are alive at the same time."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._seen: list[list[str]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> list[list[str]]:
        """Stop looking; what was seen."""
        self._over.set()
        self._thread.join()
        return self._seen

    def _look(self) -> None:
        while not self._over.wait(0.02):
            busy = [host.name for host in self._hosts if host.all("child")]
            if len(busy) > 1:
                self._seen.append(busy)


def _overtaken(fleet: Fleet, hosts: Mapping[str, Host], hold: Hold) -> Host:
    """Pause all of the host that has the job until another has done it, and let it go on; the host."""
    (job,) = fleet.jobs()
    paused = hosts[str(job.host)]
    everyone = processes.marked(paused.mark)
    for each in everyone:
        each.suspend()
    fleet.settle()
    for each in everyone:
        each.resume()
    hold.release()
    paused.wait_for_log("superseded")
    return paused


def _overlaps(attempts: Sequence[queries.AttemptView]) -> list[tuple[str, str]]:
    spans = sorted(attempts, key=lambda attempt: attempt.started_at)
    return [(a.host, b.host) for a, b in itertools.pairwise(spans) if b.started_at < (a.ended_at or math.inf)]


def _kept(fleet: Fleet, job_id: str, token: int) -> bool:
    table = tables.attempt
    query = sa.select(table.c.document).where(table.c.job_id == job_id, table.c.token == token)
    with fleet.db.read() as connection:
        return connection.execute(query).scalar_one() is not None
