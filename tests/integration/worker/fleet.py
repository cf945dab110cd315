"""Launchers for tests, on real servers: started, asked to stop in every way, and gone in the end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from storage import broker, keys, lifecycle, outbox, queries, records, settings
from storage.database import Database
from tests import services

PATIENCE_S = 90.0

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MODEL = records.ModelRef(name="tiny", source="random", location="bert", config=TINY)

QUICK = records.Budget(precision=0.9, max_seconds=0.2, min_pairs=2)
LONG = records.Budget(precision=0.0001, max_seconds=30, min_pairs=2)


@dataclass(kw_only=True)
class Host:
    """One launcher, with a log of its own."""

    name: str
    folder: Path
    environ: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """Everything that its launcher and workers have said."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def spooled(self) -> list[Path]:
        """The outcomes that wait on its disk."""
        return sorted((self.folder / "cache" / "spool").rglob("*.json"))

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> Host:
        """Start; does not wait."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "worker.launcher"],
                env={**os.environ, **self.environ, "QUANTFLEET_HOST": self.name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def serving(self, times: int = 1) -> Host:
        """Wait until it has been ready so many times."""
        self.says("serving as", times)
        return self

    def says(self, text: str, times: int = 1) -> None:
        """Wait until its log holds a text."""
        try:
            services.wait_for(lambda: self.log.count(text) >= times, PATIENCE_S, text)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; the log of {self.name}:\n{self.log}") from None

    def ask(self, *numbers: int) -> None:
        """Send signals, each after the other was noticed."""
        assert self.process is not None
        for number in numbers:
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)

    def ended(self, seconds: float = 60.0) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds:g} s; its log:\n{self.log}") from None

    def worker(self) -> psutil.Process:
        """The Celery worker."""
        assert self.process is not None
        (found,) = psutil.Process(self.process.pid).children()
        return found

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
            self.process.kill()
            _, alive = psutil.wait_procs(family[1:], timeout=10)
            for process in alive:
                process.kill()
            assert not alive, f"outlived the launcher: {alive}"
        self.process.wait()


@dataclass(kw_only=True)
class Fleet:
    """Servers, hosts, and the test's own connection to the database."""

    folder: Path
    address: str
    redis: services.Redis
    hosts: list[Host] = field(default_factory=list)

    def host(self, name: str = "one", **given: str) -> Host:
        """A host, not started yet."""
        environ = {
            "QUANTFLEET_DATABASE": self.address,
            "QUANTFLEET_BROKER": self.redis.address,
            "QUANTFLEET_CACHE": str(self.folder / "cache"),
            "QUANTFLEET_LOCK": str(self.folder / "lock"),
            "QUANTFLEET_LEASE": "20",
            "QUANTFLEET_HEARTBEAT": "1",
            "QUANTFLEET_RECONCILE": "1",
            **given,
        }
        self.hosts.append(Host(name=name, folder=self.folder, environ=environ))
        return self.hosts[-1]

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """A connection for one question: servers come and go here."""
        with Database.open(self.address) as opened:
            yield opened

    def jobs(self) -> list[queries.JobView]:
        """All jobs."""
        with self.database() as database:
            return queries.jobs(database)

    def submit(self, count: int = 1, *, budget: records.Budget = QUICK, host: str | None = None) -> list[str]:
        """Publish so many new jobs for this machine's platform; their ids."""
        with self.database() as database:
            platform_key = queries.hosts(database)[0].platform.key
            first = len(queries.jobs(database))
            planned = [_planned(platform_key, first + number, budget, host) for number in range(count)]
            text = lifecycle.StudyText(name=f"from {first}", text=f"{first}")
            new = lifecycle.submit(database, study=text, jobs=planned).new
            config = settings.load(database=self.address, broker=self.redis.address)
            with contextlib.closing(broker.Publisher(config)) as publisher:
                outbox.publish(database, publisher)
        return list(new)

    def wait_running(self) -> None:
        """Until a job is claimed."""
        services.wait_for(
            lambda: any(job.state == "running" for job in self.jobs()), PATIENCE_S, f"a running job:\n{self.logs()}"
        )

    def wait_measuring(self) -> None:
        """Until a job's legs are being timed."""
        services.wait_for(
            lambda: any(job.state == "running" and (job.progress or {}).get("pairs") for job in self.jobs()),
            PATIENCE_S,
            f"legs; the logs:\n{self.logs()}",
        )

    def wait_done(self) -> None:
        """Until every job is done."""
        services.wait_for(
            lambda: all(job.state == "done" for job in self.jobs()), PATIENCE_S, f"the end of all jobs:\n{self.logs()}"
        )

    def tries(self) -> list[list[str]]:
        """The states of the attempts of each job."""
        with self.database() as database:
            return [[one.state for one in queries.attempts(database, job.id)] for job in queries.jobs(database)]

    def standing(self) -> dict[str, str]:
        """Host name → what the database thinks of it."""
        with self.database() as database:
            return {host.name: host.standing for host in queries.hosts(database)}

    def logs(self) -> str:
        """What all hosts said."""
        return "\n".join(f"--- {host.name}\n{host.log}" for host in self.hosts)

    def end(self) -> None:
        """End every host; no log may hold a password."""
        for host in self.hosts:
            host.end()
        secrets = {services.PASSWORD, urllib.parse.quote(services.PASSWORD, safe="")}
        assert not any(secret in self.logs() for secret in secrets), self.logs()


def _planned(platform_key: str, number: int, budget: records.Budget, host: str | None) -> records.PlannedJob:
    case = records.Case(
        kind="latency",
        model=MODEL,
        strategy="torch/fp32",
        baseline="torch/fp32",
        threads=1,
        input=records.InputSpec(batch=1, length=8 + number, calls=1),
    )
    key = keys.job_key(case, platform_key, 0, host)
    return records.PlannedJob(key=key, case=case, platform_key=platform_key, replica=0, budget=budget, wanted_host=host)
