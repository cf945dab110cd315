"""`quantfleet submit` of a large study: wall time, CPU and memory of the command; again, and again when all is done.

The last two lines are `quantfleet run` on SQLite with the same study done: until it says what is left, and to its end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from benchmarks.runner import servers
from benchmarks.runner.servers import Servers
from scheduler import local, resolve, study
from storage import hosts, lifecycle, tables
from storage.database import Database
from tests import builders

STUDY = """\
name: large
models:
  r: {{random: bert}}
strategies: [torch/fp32, torch/int8-dynamic]
threads: [1, 2]
inputs: [{{batch: [1, 2, 4, 8], length: [{lengths}]}}]
kinds: [latency]
replicas: {replicas}
"""

LENGTHS = 125
"""With two strategies, two thread counts and four batches 2,000 cases."""

CODE = "from scheduler.cli.main import run; run()"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a command took."""

    wall_s: float
    first_s: float | None  # until its first line on standard error
    cpu_s: float
    peak_bytes: int
    said: str  # its last line


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--jobs", type=int, default=20_000, help="rounded to thousands")


def run(asked: argparse.Namespace) -> None:
    """Print a row for each command."""
    cases = 16 * LENGTHS
    text = STUDY.format(lengths=", ".join(map(str, range(1, LENGTHS + 1))), replicas=max(1, asked.jobs // cases))
    print("| command | wall | CPU | peak memory | said |")
    print("| --- | ---: | ---: | ---: | --- |")
    with servers.running() as running:
        (running.folder / "study.yaml").write_text(text)
        _fleet(running)
        _embedded(running)


def _fleet(running: Servers) -> None:
    address = running.make_database("quantfleet")
    environment = {"QUANTFLEET_DATABASE": address, "QUANTFLEET_BROKER": running.redis.address}
    line = ["submit", "study.yaml"]
    with Database.open(address) as db:
        hosts.register(db, name="a", platform=builders.platform())
        _tell("submit", _command(running.folder, line, environment))
        _tell("submit again", _command(running.folder, line, environment))
        _finish(db)
        _tell("submit, all done", _command(running.folder, line, environment))
        _tell("plan, all done", _command(running.folder, ["plan", "study.yaml"], environment))


def _embedded(running: Servers) -> None:
    file = running.folder / "large.db"
    environment = {"QUANTFLEET_DATABASE": f"sqlite:///{file}", "QUANTFLEET_CACHE": str(running.folder / "cache")}
    platform = local.probe()
    resolved = resolve.resolve(study.load(running.folder / "study.yaml"))
    with Database.create_or_open(f"sqlite:///{file}") as db:
        plan = local.plan_here(db, resolved, platform, "here")
        lifecycle.submit(db, study=lifecycle.StudyText(name="large", text="large"), jobs=plan.every_job)
        _finish(db)
    seen = _command(running.folder, ["run", "study.yaml"], environment)
    assert seen.first_s is not None, seen
    print(f"| run on SQLite, all done: until it says what is left | {seen.first_s:.1f} s | | | |")
    _tell("… to its end", seen)


def _finish(db: Database) -> None:
    """End every job, as if it were done."""
    ended = {"state": "done", "published_at": tables.now(), "claimed_at": tables.now(), "finished_at": tables.now()}
    with db.transaction() as connection:
        connection.execute(sa.update(tables.job).values(ended))
    if db.dialect == "postgresql":
        with db.transaction() as connection:
            connection.exec_driver_sql("ANALYZE job")


def _command(folder: Path, line: Sequence[str], environment: Mapping[str, str]) -> Seen:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("QUANTFLEET_")}
    began, first = time.monotonic(), None
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, *line],
            cwd=folder, env={**environ, **environment}, stdout=out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stderr is not None
        said = process.stderr.readline()
        if said:
            first = time.monotonic() - began
        said += process.stderr.read()
        _, code, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    printed = [text for text in (folder / "out").read_text().splitlines() if text.strip()]
    assert code == 0, said.decode()
    return Seen(
        wall_s=wall,
        first_s=first,
        cpu_s=used.ru_utime + used.ru_stime,
        peak_bytes=used.ru_maxrss * 1024,
        said=printed[-1].strip() if printed else said.decode().strip(),
    )


def _tell(what: str, seen: Seen) -> None:
    memory = f"{seen.peak_bytes / 2**20:.0f} MiB"
    print(f"| {what} | {seen.wall_s:.1f} s | {seen.cpu_s:.1f} s | {memory} | {seen.said[:60]} |", flush=True)
