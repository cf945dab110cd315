"""A submitting command that is killed: before its commit nothing is there, after it nothing is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import closing
from tests.faults.fleet import MODEL, START_S, Fleet, Host, done, outer_environment
from tests.faults.proxy import Hold, Proxy

STUDY = f"""\
name: killed
models:
  tiny: {{random: {MODEL.location}, config: {dict(MODEL.config)}}}
strategies: [torch/fp32, torch/int8-dynamic]
threads: [1]
inputs: [{{batch: 1, length: 8}}]
kinds: [latency]
precision: 50%
max_seconds: 1
"""


class Desk:
    """A machine that submits, with proxies of its own."""

    def __init__(self, fleet: Fleet, folder: Path, to_redis: Proxy, to_postgres: Proxy) -> None:
        self.to_redis = to_redis
        self.to_postgres = to_postgres
        self._folder = folder
        self._environment = {
            **outer_environment(),
            "QUANTFLEET_DATABASE": to_postgres.address(fleet.database_address),
            "QUANTFLEET_BROKER": to_redis.address(fleet.redis.address),
        }

    def submit(self) -> subprocess.Popen[bytes]:
        """Start `quantfleet submit`."""
        (self._folder / "study.yaml").write_text(STUDY)
        code = "from scheduler.cli.main import run; run()"
        line = [sys.executable, "-P", "-c", code, "submit", "study.yaml"]
        with (self._folder / "submit.log").open("ab") as log:
            return subprocess.Popen(line, cwd=self._folder, env=self._environment, stdout=log, stderr=log)

    def killed_at(self, hold: Hold) -> None:
        """Submit, and be killed at a moment."""
        with self.submit() as command:
            hold.wait(START_S)
            command.kill()
        hold.release()


@pytest.fixture
def desk(fleet: Fleet, tmp_path: Path) -> Iterator[Desk]:
    with Proxy(fleet.redis) as to_redis, Proxy(fleet.postgres) as to_postgres:
        yield Desk(fleet, tmp_path, to_redis, to_postgres)


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host that is known and away: what is published, the command has published."""
    host = fleet.add()
    assert host.stop() == 0
    host.process = None
    return host


@pytest.mark.slow
def test_a_command_killed_between_commit_and_publish_has_submitted(fleet: Fleet, host: Host, desk: Desk) -> None:
    desk.killed_at(desk.to_redis.hold(b"quantfleet.run_job", side="asked"))
    assert [(job.state, job.published_at) for job in fleet.jobs()] == 2 * [("queued", None)]
    host.start()

    jobs = closing.check(fleet)

    assert len(jobs) == 2 and done(jobs)
    assert [job.attempts for job in jobs] == [1, 1]


@pytest.mark.faults
def test_a_command_killed_between_publish_and_its_note_sends_harmless_repeats(
    fleet: Fleet, host: Host, desk: Desk
) -> None:
    desk.killed_at(desk.to_redis.hold(b"quantfleet.run_job", side="answered"))
    assert len(closing.leftover(fleet)) == 2  # wake-ups go out many at a time
    assert [job.published_at for job in fleet.jobs()] == [None, None]
    host.start()

    jobs = closing.check(fleet)

    assert done(jobs)
    assert [job.attempts for job in jobs] == [1, 1]


@pytest.mark.faults
def test_a_command_killed_before_its_commit_has_submitted_nothing_and_can_be_repeated(
    fleet: Fleet, host: Host, desk: Desk
) -> None:
    desk.killed_at(desk.to_postgres.hold(b"INSERT INTO study_job", side="answered"))
    assert fleet.jobs() == []
    for new in (2, 2):  # the second time finds everything there
        with desk.submit() as command:
            assert command.wait(START_S) == 0
        assert len(fleet.jobs()) == new
    host.start()

    assert done(closing.check(fleet))
