"""A fleet of one or more hosts on this machine, behind proxies, and the moments at which a fault can hit it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import psutil

from storage import broker, keys, lifecycle, outbox, queries, records, settings
from storage.database import Database
from tests import services
from tests.faults import processes
from tests.faults.proxy import Hold, Proxy
from worker import kinship

Moment = Literal["claim", "measuring", "storing", "idle"]

MOMENTS: tuple[Moment, ...] = ("claim", "measuring", "storing", "idle")

QUICK: Mapping[str, float] = {"lease": 3.0, "heartbeat": 0.5, "reconcile": 0.5}
"""Seconds; so that what waits for a lease takes seconds too."""

DEFAULTS: Mapping[str, float] = {"lease": 60.0, "heartbeat": 10.0, "reconcile": 15.0}
"""What fleets run with."""

START_S = 120.0
"""A host on a busy machine imports, probes, registers and connects."""

SETTLE_S = 240.0
"""All of a few jobs, with the recovery: a lost wake-up alone takes outbox.LOST_S."""

CLAIM = b"attempts=(job.attempts + "
FINISH = b"RETURNING job.host"
SAMPLES = b"INSERT INTO sample "
MODEL = records.ModelRef(
    name="tiny",
    source="random",
    location="bert",
    config={"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
)


@dataclass(kw_only=True)
class Host:
    """One worker's host: what `quantfleet worker` becomes, with its own cache, lock and log."""

    name: str
    folder: Path
    given: Mapping[str, str]  # its environment, but for what makes it a host
    kept: bool = True  # start the launcher again when it ends, as systemd does
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    ends: list[int] = field(default_factory=list)  # exit codes of its launchers so far
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What its launchers and workers wrote."""
        return self.folder / "log"

    @property
    def cache(self) -> Path:
        """Its cache, with the spool."""
        return self.folder / "cache"

    def start(self) -> None:
        """Start the launcher."""
        self.folder.mkdir(parents=True, exist_ok=True)
        own = {"QUANTFLEET_HOST": self.name, "QUANTFLEET_CACHE": str(self.cache), processes.MARK: self.mark}
        with self.log.open("ab") as log:
            self.process = self._spawn({"QUANTFLEET_LOCK": str(self.folder / "lock"), **self.given, **own}, log)

    def wait_serving(self, times: int = 1) -> None:
        """Until it has been ready so many times."""
        self._wait_for(lambda: self.log.read_text(errors="replace").count("serving as") >= times, "serving")

    def wait_for_log(self, text: str, seconds: float = START_S) -> None:
        """Until its log holds a text."""
        self._wait_for(lambda: text in self.log.read_text(errors="replace"), repr(text), seconds)

    def the(self, role: processes.Role) -> psutil.Process:
        """The oldest process of a role; waits a little for one."""
        found = processes.until(lambda: self.all(role), bool, 15.0)
        assert found, f"no {role} on {self.name}; its log:\n{self.tail()}"
        return found[0]

    def all(self, role: processes.Role) -> list[psutil.Process]:
        """Its processes in a role."""
        return processes.of(self.mark, role)

    def tend(self) -> None:
        """Note the end of the launcher; start it again when it is kept."""
        if self.process is None or self.process.poll() is None:
            return
        self.ends.append(self.process.returncode)
        self.process = None
        if self.kept:
            self.start()

    def stop(self, seconds: float = 60.0) -> int:
        """End it as systemd does; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not stop within {seconds:g} s:\n{self.tail()}") from None

    def kill(self) -> None:
        """Leave nothing of it, whatever state it is in."""
        processes.end(self.mark)
        if self.process is not None:
            self.process.wait()

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _wait_for(self, good: Any, what: str, seconds: float = START_S) -> None:
        seen = processes.until(good, bool, seconds)
        assert seen, f"{self.name}: waited {seconds:g} s in vain for {what}; its log:\n{self.tail()}"

    def _spawn(self, environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "worker.launcher"],
            env={**outer_environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=self.folder,
            preexec_fn=functools.partial(kinship.die_with, os.getpid()),  # noqa: PLW1509 - a killed pytest leaves nothing
        )


@dataclass(kw_only=True)
class PlainFleet:
    """Servers, hosts, and a database connection of the test's own."""

    folder: Path
    redis: services.Redis
    postgres: services.Postgres
    database_address: str
    db: Database
    times: Mapping[str, float] = field(default_factory=lambda: dict(QUICK))
    hosts: list[Host] = field(default_factory=list)

    def add(self, name: str = "one", *, start: bool = True, kept: bool = True, **given: str) -> Host:
        """One more host; started and serving unless told otherwise."""
        host = Host(name=name, folder=self.folder / name, given={**self.environment, **given}, kept=kept)
        self.hosts.append(host)
        if start:
            host.start()
            host.wait_serving()
        return host

    @property
    def environment(self) -> dict[str, str]:
        """The settings of everyone in this fleet."""
        times = {f"QUANTFLEET_{name.upper()}": str(seconds) for name, seconds in self.times.items()}
        return {"QUANTFLEET_DATABASE": self.database_address, "QUANTFLEET_BROKER": self.redis.address, **times}

    @property
    def config(self) -> settings.Settings:
        """Settings of the test's own."""
        return settings.load(database=self.database_address, broker=self.redis.address, cache=self.folder / "none")

    def submit(
        self, jobs: int = 2, *, seconds: float = 1.0, publish: bool = True, first: int = 0, host: str | None = None
    ) -> list[str]:
        """Some latency jobs of a tiny model for the platform of this machine, or for one host; their ids.

        Unpublished ones are left to the reconciler.
        """
        platform_key = queries.hosts(self.db)[0].platform.key
        planned = [planned_job(platform_key, number, seconds, host) for number in range(first, first + jobs)]
        study = lifecycle.StudyText(name="faults", text=f"{jobs} jobs from {first} for {host}")
        new = lifecycle.submit(self.db, study=study, jobs=planned).new
        if publish:
            publisher = broker.Publisher(self.config)
            try:
                outbox.publish(self.db, publisher)
            finally:
                publisher.close()
        return list(new)

    def jobs(self) -> list[queries.JobView]:
        """All jobs."""
        return queries.jobs(self.db)

    def settle(self, seconds: float = SETTLE_S) -> list[queries.JobView]:
        """Wait until every job is terminal, starting launchers again that ended; the jobs."""

        def look() -> list[queries.JobView]:
            for host in self.hosts:
                host.tend()
            time.sleep(0.1)
            return self.jobs()

        jobs = processes.until(look, lambda seen: all(job.state in records.TERMINAL for job in seen), seconds)
        left = [(job.id, job.state, job.attempts, job.message) for job in jobs if job.state not in records.TERMINAL]
        assert not left, f"not terminal after {seconds:g} s: {left}\n{self.tails()}"
        return jobs

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {host.name}\n{host.tail()}" for host in self.hosts)


@dataclass(kw_only=True)
class Fleet(PlainFleet):
    """A fleet that reaches its servers through proxies, which can hold a moment; `database_address` is past them."""

    to_redis: Proxy
    to_postgres: Proxy

    @property
    def environment(self) -> dict[str, str]:
        """The settings of everyone in this fleet."""
        return {
            **super().environment,
            "QUANTFLEET_DATABASE": self.to_postgres.address(self.database_address),
            "QUANTFLEET_BROKER": self.to_redis.address(self.redis.address),
        }

    @contextlib.contextmanager
    def at(self, moment: Moment, jobs: int = 2, seconds: float = 1.0, first: int = 0) -> Iterator[Hold]:
        """Submit, and come to a moment of the first job, which stands still where it can until the hold is released,
        at the latest afterwards. For the idle moment the jobs are submitted afterwards."""
        hold = {"claim": self.hold_claim, "storing": self.hold_store}.get(moment, no_hold)()
        if moment != "idle":
            self.submit(jobs, seconds=seconds, first=first)
        if moment == "measuring":
            self.wait_measuring()
        hold.wait(START_S)
        try:
            yield hold
        finally:
            hold.release()
        if moment == "idle":
            self.submit(jobs, seconds=seconds, first=first)

    def hold_claim(self) -> Hold:
        """The next claim: done by the database, not yet committed, and its worker does not know."""
        return self.to_postgres.hold(CLAIM, side="answered")

    def hold_store(self) -> Hold:
        """The next result: measured, and the database knows nothing of it."""
        return self.to_postgres.hold(FINISH, side="asked")

    def hold_storing(self) -> Hold:
        """The next result, in the middle of its transaction: its job is locked."""
        return self.to_postgres.hold(SAMPLES, side="asked")

    def hold_stored(self) -> Hold:
        """The next result: committed by the database, and its worker does not know."""
        return self.to_postgres.hold(SAMPLES, b"COMMIT", side="answered")

    def wait_measuring(self, host: Host | None = None) -> None:
        """Until a measured process of a host runs legs."""
        wanted = self.hosts if host is None else [host]

        def seen() -> bool:
            names = {job.host for job in self.jobs() if job.state == "running" and _phase(job) == "measuring"}
            return any(each.name in names and each.all("child") for each in wanted)

        assert processes.until(seen, bool, START_S), f"nobody measures:\n{self.tails()}"

    def strike(self, host: Host, number: signal.Signals) -> None:
        """Kill a measured process of a host in such a way that its job feels it: one that ends anyway is no loss."""
        before = sum(job.crashes for job in self.jobs())
        struck = 0.0

        def felt() -> bool:
            nonlocal struck
            pair = host.all("child")
            if sum(job.crashes for job in self.jobs()) > before:
                return True
            if len(pair) == 2 and processes.born(pair[1]) > struck:
                struck = processes.born(pair[1])
                processes.die(pair[1], number)
            return False

        assert processes.until(felt, bool, START_S), f"no crash was counted:\n{host.tail()}"


def outer_environment() -> dict[str, str]:
    """This process's environment without settings of quantfleet."""
    return {name: text for name, text in os.environ.items() if not name.startswith("QUANTFLEET_")}


def no_hold() -> Hold:
    """Nothing stands still."""
    hold = Hold(patterns=(), side="asked")
    hold.caught.set()
    return hold


def planned_job(platform_key: str, number: int, seconds: float, host: str | None = None) -> records.PlannedJob:
    """A job that measures for so many seconds; each number is a replica of its own."""
    case = records.Case(
        kind="latency",
        model=MODEL,
        strategy="torch/fp32",
        baseline="torch/fp32",
        threads=1,
        input=records.InputSpec(batch=1, length=8, calls=1),
    )
    budget = records.Budget(precision=1e-6, max_seconds=seconds, min_pairs=2)
    key = keys.job_key(case, platform_key, number, host)
    return records.PlannedJob(
        key=key, case=case, platform_key=platform_key, replica=number, budget=budget, wanted_host=host
    )


def done(jobs: Sequence[queries.JobView]) -> bool:
    """Whether all are done."""
    return {job.state for job in jobs} == {"done"}


def _phase(job: queries.JobView) -> str:
    return str((job.progress or {}).get("phase", ""))
