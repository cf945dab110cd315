"""A fleet without workers: real Postgres and Redis over TCP with passwords, hosts that are only registered."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from storage import broker, database, hosts, lifecycle, queries, records, settings
from storage.database import Database
from tests import builders, commands, services
from tests.commands import Ended

TEMPLATE = "quantfleet_template"

STUDY = """\
name: demo
models:
  r: {random: bert}
strategies: [torch/fp32, torch/int8-dynamic, onnxruntime/fp32]
threads: [1, 2]
inputs: [{length: 16}]
"""
"""6 cases on each platform; `builders.platform` has no ONNX Runtime unless it is given."""

ONNX = {"onnxruntime": "1.24", "onnx": "1.20", "onnxscript": "0.5"}


@dataclass(kw_only=True)
class Bench:
    """One fleet's database and broker, and a folder to stand in."""

    folder: Path
    database: str
    redis: services.Redis
    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]
    db: Database
    broker: str = ""
    environ: dict[str, str] = field(default_factory=dict)

    def study(self, text: str = STUDY, name: str = "study.yaml") -> str:
        """A study file's path."""
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def join(self, name: str, platform: records.Platform | None = None, **labels: str) -> records.Platform:
        """A host that serves from now on."""
        joined = platform or builders.platform()
        hosts.register(self.db, name=name, platform=joined, labels=labels)
        return joined

    def call(self, *argv: str, **environ: str) -> Ended:
        """A command in this process, as `quantfleet` runs it."""
        ended = commands.run(self.patch, self.capture, *argv, **{**self.environ, **environ})
        assert services.PASSWORD not in ended.out + ended.err
        return ended

    def good(self, *argv: str, **environ: str) -> Ended:
        """A command that ends with 0."""
        ended = self.call(*argv, **environ)
        assert ended.code == 0, ended.err + ended.out
        return ended

    def start(self, *argv: str, code: str | None = None, **environ: str) -> subprocess.Popen[str]:
        """A command in a process of its own; `code`: run instead of the command's entry."""
        line = [str(Path(sys.executable).with_name("quantfleet"))] if code is None else [sys.executable, "-c", code]
        return subprocess.Popen(
            [*line, *argv],
            cwd=self.folder,
            env={**os.environ, **self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def jobs(self, *states: str) -> list[queries.JobView]:
        """Every job, or those in the states."""
        return queries.jobs(self.db, states=states or None)

    def queues(self) -> dict[str, int]:
        """Messages in the broker by queue."""
        client = self.redis.client()
        names = [bytes(key).decode() for key in cast("list[bytes]", client.keys("*"))]
        return {name: int(client.llen(name)) for name in names if not name.startswith("_kombu")}

    def work(self, job: queries.JobView, host: str, *, failure: records.Failure | None = None) -> str:
        """Do a job as a worker would: with a made-up result, or so that it fails for good."""
        platform = next(one.platform.key for one in queries.hosts(self.db) if one.name == host)
        claim = lifecycle.claim(self.db, job.id, host=host, platform_key=platform, lease=60)
        assert claim is not None, f"{host} could not claim {job}"
        if failure is not None:
            return lifecycle.fail(self.db, claim, failure, final=True)
        measured = builders.latency(flags=()) if claim.case.kind == "latency" else builders.accuracy()
        assert lifecycle.finish(self.db, claim, measured, [])
        return "done"

    def config(self) -> settings.Settings:
        """The settings that a worker of this fleet would have."""
        return settings.load(database=self.database, broker=self.broker)


@pytest.fixture(scope="session")
def fleet_servers() -> Iterator[tuple[services.Postgres, services.Redis]]:
    """Both servers, with a migrated template database."""
    with services.folder() as folder:
        postgres = services.Postgres(folder=folder / "postgres")
        redis = services.Redis(folder=folder / "redis")
        with services.running(postgres), services.running(redis):
            database.upgrade(postgres.make_database(TEMPLATE))
            yield postgres, redis


@pytest.fixture
def fleet(
    fleet_servers: tuple[services.Postgres, services.Redis],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Bench]:
    """A fleet with an empty database and broker of its own; hosts join as the test says."""
    postgres, redis = fleet_servers
    name = f"t_{uuid.uuid4().hex}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    redis.client().flushall()
    monkeypatch.chdir(tmp_path)
    with bench(postgres.address_of(name), redis, tmp_path, monkeypatch, capsys) as made:
        yield made
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def bench(
    address: str,
    redis: services.Redis,
    folder: Path,
    patch: pytest.MonkeyPatch,
    capture: pytest.CaptureFixture[str],
) -> Iterator[Bench]:
    """A fleet on a migrated database."""
    environ = {
        "QUANTFLEET_DATABASE": address,
        "QUANTFLEET_BROKER": redis.address,
        "COLUMNS": "80",
        "TERM": "dumb",
    }
    patch.setattr(os, "execve", _never)
    with Database.open(address) as db:
        yield Bench(
            folder=folder,
            database=address,
            redis=redis,
            patch=patch,
            capture=capture,
            db=db,
            broker=redis.address,
            environ=environ,
        )


def _never(*given: object) -> None:
    raise AssertionError("the tests' own process would have become a worker")


def queue_names(jobs: Sequence[queries.JobView]) -> set[str]:
    """Where these jobs' wake-ups go."""
    return {broker.queue_of(job.platform_key, job.wanted_host) for job in jobs}
