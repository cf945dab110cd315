"""Jobs a second from submit to result, beside bare Celery tasks on the same Redis.

One host is the real thing: launcher, Celery worker, supervisor. More are simulated by a few worker processes, see
`benchmarks.runner.simulated`, ten hosts to a platform; the bare workers are as many, with the same queues.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import celery

from benchmarks import common
from benchmarks.runner import bare, processes, servers
from benchmarks.runner.servers import Servers
from storage import broker, hosts, lifecycle, noop, outbox, queries, settings, tables
from storage.database import Database
from tests import builders

HOSTS_OF_A_PLATFORM = 10

WARM_UP = 200
"""Jobs before the clock starts."""

LONGEST_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    hosts: int
    jobs_per_s: float
    commits: float  # of the database, for a job
    bare_per_s: float


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10], help="1 is a real one, more are simulated")
    parser.add_argument("--workers", type=int, default=8, help="processes that simulate many hosts, at most ten")
    parser.add_argument("--memory", action="store_true", help="servers' files in memory: what a job costs but the disk")
    parser.add_argument("--jobs", type=int, default=2000, help="jobs, and bare tasks, for each row")


def run(asked: argparse.Namespace) -> None:
    """Print a row for each number of hosts."""
    if asked.memory:
        tempfile.tempdir = "/dev/shm"  # noqa: S108 - what else is memory
    with common.scratch() as folder:
        print(f"fsync of 8 KiB here: {1e3 * _fsync_s(folder):.2f} ms (median)")
    print("| hosts | jobs/s | commits a job | bare Celery tasks/s | ratio |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for count in asked.hosts:
        with servers.running() as running:
            row = _row(running, count, asked.jobs, min(asked.workers, count, HOSTS_OF_A_PLATFORM))
        ratio = row.jobs_per_s / row.bare_per_s
        cells = (f"{row.jobs_per_s:.0f}", f"{row.commits:.2f}", f"{row.bare_per_s:.0f}", f"{ratio:.2f}")
        print(f"| {count} | {' | '.join(cells)} |", flush=True)


def _fsync_s(folder: Path) -> float:
    taken = []
    with (folder / "file").open("wb") as stream:
        for _ in range(50):
            stream.write(bytes(8192))
            stream.flush()
            began = time.perf_counter()
            os.fsync(stream.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _row(running: Servers, count: int, jobs: int, workers: int) -> Row:
    address = running.make_database("quantfleet")
    lock = running.folder / "lock"
    config = running.config(address, host="host0", lock=lock)
    with Database.open(address) as db:
        platforms = [] if count == 1 else _join(db, count)
        with ExitStack() as stack:
            _start(stack, running, config, platforms, workers)
            routes = platforms or [queries.hosts(db)[0].platform.key]
            _jobs(db, config, routes, WARM_UP)
            time.sleep(1.5)  # Postgres tells its counts once a second
            before = servers.commits(db)
            rate = _jobs(db, config, routes, jobs)
            time.sleep(1.5)
            commits = (servers.commits(db) - before) / jobs
    queues = [broker.queue_of(key) for key in routes]
    listening = queues if platforms else broker.queues_of(routes[0], config.host)
    bare_rate = _bare(running, config, queues, [listening] * workers, jobs)
    return Row(hosts=count, jobs_per_s=rate, commits=commits, bare_per_s=bare_rate)


def _join(db: Database, count: int) -> list[str]:
    """Register hosts; the keys of their platforms."""
    platforms = [builders.platform(f"CPU {n}") for n in range(-(-count // HOSTS_OF_A_PLATFORM))]
    for n in range(count):
        hosts.register(db, name=f"host{n}", platform=platforms[n % len(platforms)])
    return [platform.key for platform in platforms]


def _start(
    stack: ExitStack, running: Servers, config: settings.Settings, platforms: Sequence[str], workers: int
) -> None:
    folder = running.folder / "workers"
    environment = {
        "QUANTFLEET_DATABASE": config.database,
        "QUANTFLEET_BROKER": config.broker,
        "QUANTFLEET_CACHE": str(config.cache),
        "QUANTFLEET_LOCK": str(config.lock),
        "QUANTFLEET_HOST": config.host,
        "QUANTFLEET_NOOP": "true",
    }
    if not platforms:
        stack.enter_context(processes.started(folder, [["worker.launcher"]], environment))
        processes.wait_for_log(folder, "serving as")
        return
    module = "benchmarks.runner.simulated"
    lines = [[module, "worker", str(folder), f"{n}/{workers}", *platforms] for n in range(workers)]
    stack.enter_context(processes.started(folder, [*lines, [module, "launchers"]], environment))
    processes.wait_ready(folder, len(lines))


def _jobs(db: Database, config: settings.Settings, platforms: Sequence[str], count: int) -> float:
    """Submit jobs for the platforms in turn; jobs a second until the last is stored."""
    first = sum(study.states.get("done", 0) for study in queries.studies(db))
    planned = [noop.job(platforms[n % len(platforms)], first + n) for n in range(count)]
    study = lifecycle.StudyText(name="rate", text=uuid.uuid4().hex)
    publisher = broker.Publisher(config)
    began = time.monotonic()
    lifecycle.submit(db, study=study, jobs=planned)
    while outbox.publish(db, publisher):
        pass
    _wait(lambda: not _open(db))
    seconds = time.monotonic() - began
    publisher.close()
    done = sum(study.states.get("done", 0) for study in queries.studies(db))
    assert done == first + count, f"{done} jobs are done, {first + count} were submitted"
    return count / seconds


def _open(db: Database) -> bool:
    with db.read() as connection:
        waiting = tables.job.select().where(tables.in_state("queued", "running")).limit(1)
        return connection.execute(waiting).first() is not None


def _bare(
    running: Servers, config: settings.Settings, queues: Sequence[str], listening: Sequence[Sequence[str]], count: int
) -> float:
    """Bare tasks a second, sent to the same queues in turn."""
    running.redis.client().flushall()
    folder = running.folder / "bare"
    lines = [["benchmarks.runner.bare", config.broker, str(folder), *some] for some in listening]
    with processes.started(folder, lines):
        processes.wait_ready(folder, len(lines))
        app = bare.app(config.broker, queues)
        _send(app, queues, WARM_UP, folder)
        return _send(app, queues, count, folder)


def _send(app: celery.Celery, queues: Sequence[str], count: int, folder: Path) -> float:
    before = bare.done(folder)
    began = time.monotonic()
    for n in range(count):
        app.send_task(bare.TASK, args=[{"job": uuid.uuid4().hex, "schema": 1}], queue=queues[n % len(queues)])
    _wait(lambda: bare.done(folder) >= before + count)
    return count / (time.monotonic() - began)


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not until():
        assert time.monotonic() < deadline, f"not done after {LONGEST_S:g} s; {os.getloadavg()}"
        time.sleep(0.05)
