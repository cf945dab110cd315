"""The closing check, the same after every fault: nothing lost, nothing counted twice, nothing left behind."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from storage import broker, queries, records, tables
from storage.database import Database
from tests import services
from tests.faults import processes
from tests.faults.fleet import SETTLE_S, PlainFleet

SECRETS = tuple(word.encode() for word in (services.PASSWORD, urllib.parse.quote(services.PASSWORD, safe="")))


def check(fleet: PlainFleet, *, seconds: float = SETTLE_S) -> list[queries.JobView]:
    """Let the fleet recover and stop, and look at everything that it leaves; the jobs."""
    fleet.settle(seconds)
    for host in fleet.hosts:
        no_process_shows_a_password(host.mark)
    stop(fleet)
    jobs = fleet.jobs()
    books_are_right(fleet.db)
    wake_ups_are_harmless(fleet, jobs)
    for host in fleet.hosts:
        spooled = [file for file in (host.cache / "spool").rglob("*") if file.is_file()]
        assert not spooled, f"{host.name} still holds {spooled}"
        no_password_in(host.folder)
    return jobs


def stop(fleet: PlainFleet) -> None:
    """Every launcher ends in order, says so in the database, and leaves no process."""
    serving = [host for host in fleet.hosts if host.process is not None]
    for host in serving:
        if host.process is not None and host.process.poll() is None:
            code = host.stop()
            assert code == 0, f"{host.name} ended with {code}:\n{host.tail()}"
    for host in fleet.hosts:
        left = processes.until(lambda host=host: processes.marked(host.mark), lambda seen: not seen, 10.0)  # type: ignore[misc]
        assert not left, f"{host.name} left {[(each.pid, each.cmdline()) for each in left]}"
    standing = {view.name: view.standing for view in queries.hosts(fleet.db)}
    assert all(standing[host.name] == "stopped" for host in serving), standing


def books_are_right(db: Database) -> None:
    """Every job is terminal, with one result when done and none otherwise; only ended attempts, at most one done."""
    with db.read() as connection:
        counted = Counter(connection.execute(sa.select(tables.result.c.job_id)).scalars())
    for job in queries.jobs(db):
        attempts = queries.attempts(db, job.id)
        states = [attempt.state for attempt in attempts]
        assert job.state in records.TERMINAL, (job.state, states)
        assert counted[job.id] == (job.state == "done"), (job.state, states)
        assert states.count("done") == (job.state == "done"), states
        assert "running" not in states, states
        assert [attempt.number for attempt in attempts] == list(range(1, job.attempts + 1)), states
        assert all(attempt.ended_at is not None for attempt in attempts), states


def wake_ups_are_harmless(fleet: PlainFleet, jobs: list[queries.JobView]) -> None:
    """What is left in Redis is known jobs' ids and nothing else."""
    known = {job.id for job in jobs}
    for body in leftover(fleet):
        assert broker.job_of(body) in known, body


def leftover(fleet: PlainFleet) -> list[dict[str, Any]]:
    """The bodies of the messages that still lie in queues."""
    client = fleet.redis.client()
    raw = [text for key in client.scan_iter(_type="list") for text in client.lrange(key, 0, -1)]
    return [_body(json.loads(text)) for text in raw]


def no_password_in(folder: Path) -> None:
    """No file of a host holds a server's password: neither its logs nor its cache, spool and locks."""
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(secret in content for secret in SECRETS), f"a password in {file}"


def no_process_shows_a_password(mark: str) -> None:
    """Neither a command line, which every user of a machine can read, nor the environment of what is measured."""
    for process in processes.marked(mark):
        try:
            shown = " ".join(process.cmdline())
            if processes.role(process) in {"nursery", "child"}:
                shown += str(process.environ())
        except psutil.NoSuchProcess:
            continue
        assert not any(secret.decode() in shown for secret in SECRETS), f"a password in {processes.role(process)}"


def _body(message: dict[str, Any]) -> dict[str, Any]:
    args, _, _ = json.loads(base64.b64decode(message["body"]))
    found: dict[str, Any] = args[0]
    return found
