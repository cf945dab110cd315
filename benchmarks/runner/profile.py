"""Where a job's time goes in its worker: steps, statements, commits, and the functions that take longest."""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections import Counter

from benchmarks.runner import servers
from storage import hosts, lifecycle, noop
from storage.database import Database
from tests import builders
from tests.sql import heard
from worker import station, supervisor

HERE = builders.platform()


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--lines", type=int, default=25, help="functions to show")


def run(asked: argparse.Namespace) -> None:
    """Do the jobs in this process, without a queue, first timed and then profiled."""
    with servers.running() as running:
        address = running.make_database("quantfleet")
        config = running.config(address, host="a", lock=running.folder / "lock")
        with Database.open(address) as db:
            hosts.register(db, name="a", platform=HERE)
            place = station.Station(config, HERE)
            jobs = [noop.job(HERE.key, n) for n in range(2 * asked.jobs + 1)]
            ids = list(lifecycle.submit(db, study=lifecycle.StudyText(name="s", text="s"), jobs=jobs).new)
            _statements(db, place, ids.pop())
            began = time.perf_counter()
            for job_id in ids[: asked.jobs]:
                assert supervisor.run_job(place, db, job_id) == "done"
            print(f"{1e3 * (time.perf_counter() - began) / asked.jobs:.2f} ms a job, without Celery and Redis")
            with cProfile.Profile() as profile:
                for job_id in ids[asked.jobs :]:
                    supervisor.run_job(place, db, job_id)
            pstats.Stats(profile).sort_stats("tottime").print_stats(asked.lines)


def _statements(db: Database, place: station.Station, job_id: str) -> None:
    with heard(db) as said:
        supervisor.run_job(place, db, job_id)
    kinds = Counter(" ".join(statement.split()[:3]) for statement, _ in said)
    print(f"statements of one job: {len(said)}, in two transactions: {dict(kinds)}")
