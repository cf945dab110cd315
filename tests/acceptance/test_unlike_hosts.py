"""Three hosts that are unlike hardware, each in a network namespace of its own, with real addresses between them.

One study for all of them, compared side by side; and one host that is cut off in the middle of a job.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from storage import database, queries, records
from storage.database import Database
from tests import services
from tests.acceptance import namespaces
from worker import hardware

CAPS: Mapping[str, Mapping[str, str]] = {
    "newest": {},
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "FBGEMM_ENABLE_INSTRUCTIONS": "AVX512",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
}
"""Host → the settings that make this machine stand in for an older one."""

STUDY = """\
name: unlike
models:
  encoder:
    random: bert
    config: {hidden_size: 256, num_hidden_layers: 4, num_attention_heads: 4, intermediate_size: 1024, vocab_size: 1000}
strategies: [torch/fp32, torch/int8-dynamic, torch/bf16]
threads: [1]
inputs: [{batch: 1, length: 64}]
kinds: [latency]
precision: 20%
max_seconds: SECONDS
"""

PATIENCE_S = 240.0


def why_not() -> str | None:
    """Why this machine cannot stand in for the others: a cap above what its CPU has ends its processes by SIGILL."""
    lacking = {"avx512f", "avx512_bf16"} - set(hardware.probe({}).isa)
    return f"the caps take instruction sets away that this CPU lacks: {', '.join(sorted(lacking))}" if lacking else None


reason = namespaces.why_not() or why_not()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(reason is not None, reason=str(reason)),
]


@dataclass(kw_only=True)
class Fleet:
    """Services and workers in namespaces; the test itself stands outside, on the same network."""

    folder: Path
    places: Sequence[namespaces.Host]  # the first one's are the services
    redis: services.Redis
    postgres: services.Postgres
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        given = {
            "DATABASE": self.postgres.address,
            "BROKER": self.redis.address,
            "CACHE": str(self.folder / "cache"),
            "LOCK": str(self.folder / "lock"),  # it is one machine after all: they take turns
            "LEASE": "10",
            "HEARTBEAT": "1",
            "RECONCILE": "2",
        }
        outer = {name: value for name, value in os.environ.items() if not name.startswith("QUANTFLEET_")}
        return outer | {f"QUANTFLEET_{name}": value for name, value in given.items()}

    def place(self, host: str) -> namespaces.Host:
        return self.places[1 + list(CAPS).index(host)]

    def start(self, host: str) -> None:
        environ = {**self.environ, **CAPS[host], "QUANTFLEET_HOST": host}
        with (self.folder / f"{host}.log").open("ab") as log:
            self.workers[host] = subprocess.Popen(
                [*self.place(host).prefix, _quantfleet(), "worker"],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self, host: str) -> str:
        return (self.folder / f"{host}.log").read_text(errors="replace")

    def ask(self, *words: str, code: int = 0) -> str:
        """What the command prints, run from outside the namespaces."""
        line = [_quantfleet(), *words]
        done = subprocess.run(
            line, check=False, env=self.environ, cwd=self.folder, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == code, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def database(self) -> Database:
        return Database.open(self.postgres.address, readonly=True)

    def jobs(self) -> list[queries.JobView]:
        with self.database() as opened:
            return queries.jobs(opened)

    def standing(self, host: str) -> str:
        with self.database() as opened:
            return next(view.standing for view in queries.hosts(opened) if view.name == host)

    def stop(self) -> None:
        """End every worker; nothing of them may be left."""
        families = [p for w in self.workers.values() for p in _family(w.pid)]
        for worker in self.workers.values():
            for _ in range(2):
                with contextlib.suppress(ProcessLookupError):
                    worker.send_signal(signal.SIGTERM)
                time.sleep(0.2)
        for host, worker in self.workers.items():
            assert worker.wait(60) == 0, self.log(host)
        _, left = psutil.wait_procs(families, timeout=20)
        assert not left, f"left behind: {left}"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with services.folder() as folder, namespaces.network(4) as places, contextlib.ExitStack() as stack:
        here = places[0]
        redis = services.Redis(folder=folder / "redis", host=here.address, prefix=here.prefix)
        postgres = services.Postgres(folder=folder / "postgres", host=here.address, prefix=here.prefix)
        stack.enter_context(services.running(redis))
        stack.enter_context(services.running(postgres))
        database.upgrade(postgres.address)
        made = Fleet(folder=folder, places=places, redis=redis, postgres=postgres)
        try:
            for host in CAPS:
                made.start(host)
            services.wait_for(lambda: all("serving as" in made.log(host) for host in CAPS), 120, "three workers")
            yield made
        finally:
            for place in places:
                with contextlib.suppress(subprocess.CalledProcessError):
                    place.mend()
            made.stop()


def test_three_unlike_hosts_share_one_study_and_are_compared_side_by_side(fleet: Fleet) -> None:
    (fleet.folder / "study.yaml").write_text(STUDY.replace("SECONDS", "4"))
    hosts = {host["name"]: host for host in json.loads(fleet.ask("hosts", "--json"))["hosts"]}
    assert set(hosts) == set(CAPS)
    assert len({host["hardware_key"] for host in hosts.values()}) == 3

    fleet.ask("submit", "study.yaml", "--wait", "--quiet")

    jobs = fleet.jobs()
    assert [job.state for job in jobs] == ["done"] * 9
    assert sorted(job.host or "" for job in jobs) == sorted(list(CAPS) * 3)
    rows = json.loads(fleet.ask("compare", "--include-disturbed", "--json"))["comparisons"]
    gains = {(row["hosts"][0], row["strategy"]): row["gain"] for row in rows}
    assert len(gains) == 9
    # without its instruction set bf16 is emulated: what is a gain on one host is a loss on another
    assert gains["newest", "torch/bf16"] > 1.3 * gains["avx512", "torch/bf16"]
    assert gains["newest", "torch/bf16"] > 1.3 * gains["avx2", "torch/bf16"]
    shown = fleet.ask("compare", "--include-disturbed")
    assert all(host in shown for host in CAPS)
    assert "nothing" in fleet.ask("submit", "study.yaml", "--dry-run").lower()
    assert len(fleet.jobs()) == 9


@pytest.mark.faults
def test_a_host_that_is_cut_off_in_mid_job_comes_back_and_nothing_is_lost(fleet: Fleet) -> None:
    text = STUDY.replace("SECONDS", "4").replace("[torch/fp32, torch/int8-dynamic, torch/bf16]", "[torch/fp32]")
    (fleet.folder / "study.yaml").write_text(text.replace("[1]", "[1, 2]"))
    fleet.ask("submit", "study.yaml", "--where", "host=avx2", "--quiet")
    services.wait_for(lambda: _measuring(fleet), PATIENCE_S, "a job that is being measured")
    place = fleet.place("avx2")

    place.cut()
    services.wait_for(lambda: fleet.standing("avx2") == "away", 120, "the host to be away")
    assert fleet.workers["avx2"].poll() is None
    assert "away" in fleet.ask("hosts")
    waiting = fleet.jobs()
    place.mend()

    services.wait_for(lambda: _ended(fleet), PATIENCE_S, "the jobs of the host that came back")
    jobs = fleet.jobs()
    assert {job.state for job in jobs} == {"done"}
    assert {job.host for job in jobs} == {"avx2"}
    assert len(jobs) == len(waiting) == 2
    assert max(job.crashes for job in jobs) <= 1  # the lease that ran out while nobody could hear the host
    services.wait_for(lambda: fleet.standing("avx2") == "here", 30, "the host to be here again")
    with fleet.database() as opened:
        results = queries.results(opened)
        assert sorted(result.job_id for result in results) == sorted(job.id for job in jobs)
        newest = [queries.attempts(opened, job.id)[-1].state for job in jobs]
    assert set(newest) <= {"done"}


def _measuring(fleet: Fleet) -> bool:
    return any(job.state == "running" and (job.progress or {}).get("phase") == "measuring" for job in fleet.jobs())


def _ended(fleet: Fleet) -> bool:
    return all(job.state in records.TERMINAL for job in fleet.jobs())


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return []
    return [process, *process.children(recursive=True)]


def _quantfleet() -> str:
    return str(Path(sys.executable).with_name("quantfleet"))
