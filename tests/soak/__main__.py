"""Hours of work under fire: `make soak` (5 minutes), `make soak MINUTES=120`.

A fleet of real workers on a real Redis and a real Postgres measures studies of a tiny model without a pause. On two of
its hosts processes are killed, asked to end and stopped at random: `crashing` loses measured processes and nurseries,
`dying` loses every process that it has, the launcher too, which is started again as systemd would; `calm` is left
alone. In the end everything that was planned must have one result each, the queue must be empty, no process may be
left, and neither the memory nor the descriptors of any long-lived process may have grown.

Exit code 0 when all of this holds, 1 when something does not: the table and the files in the output folder say what.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import common
from storage import database, lifecycle, queries, records
from storage.database import Database
from tests import services
from tests.faults import closing
from tests.faults.fleet import Host, PlainFleet
from tests.soak import findings, report
from tests.soak.load import Load
from tests.soak.samples import Sampler, disk
from tests.soak.trouble import CRASHES, DEATHS, Trouble

TIMES = {"lease": 15.0, "heartbeat": 2.0, "reconcile": 2.0}
"""Seconds: a lease that outlives the heartbeats of a busy machine, and runs out within what some pauses take."""

ACTS = {"crashing": CRASHES, "dying": DEATHS}

HOSTS = ("calm", *ACTS)

TURN_S = 0.5
"""Between two looks at everything."""

TELL_S = 30.0
"""Between two lines of progress where there is no terminal."""

SETTLE_S = 180.0
"""Without any job done, when the time is over: leases must run out, and lost wake-ups be sent again."""

WAITING = 2
"""Jobs that wait for each host, at least."""


@dataclass(kw_only=True)
class Soak:
    """One run."""

    fleet: PlainFleet
    load: Load
    trouble: Trouble
    sampler: Sampler
    console: Console
    sample_s: float
    minutes: float
    revived: int = 0  # jobs that died of two strikes and were tried again, as a person would
    states: Counter[str] = field(default_factory=Counter)
    _next_sample: float = 0.0
    _next_line: float = 0.0

    def run(self) -> None:
        """Work and trouble for the time that was asked for; then let everything come to its end."""
        end = time.monotonic() + 60 * self.minutes
        with self.console.status("soaking") as status:
            while time.monotonic() < end:
                self._turn(status)
                self.load.tend(self.states["queued"])
                self.trouble.tend()
            self.trouble.end()
            self.load.end()
            self._settle(status)

    def _settle(self, status: Any) -> None:
        done, since = -1, time.monotonic()
        while not self._over() and time.monotonic() - since < SETTLE_S:
            self._turn(status, "settling")
            if self.states["done"] > done:
                done, since = self.states["done"], time.monotonic()

    def _over(self) -> bool:
        self.states = self.load.states()
        waiting, _ = findings.messages(self.fleet.redis)
        return set(self.states) <= records.TERMINAL - {"dead"} and waiting == 0

    def _turn(self, status: Any, phase: str = "soaking") -> None:
        for host in self.fleet.hosts:
            host.tend()
        self.states = self.load.states()
        if self.states["dead"]:
            self.revived += lifecycle.retry(self.fleet.db, [job.id for job in _dead(self.fleet.db)])
        if time.monotonic() >= self._next_sample:
            self.sampler.take()
            self._next_sample = time.monotonic() + self.sample_s
        self._tell(status, phase)
        time.sleep(TURN_S)

    def _tell(self, status: Any, phase: str) -> None:
        past = time.monotonic() - self.sampler.began
        line = (
            f"{phase} {past / 60:.1f} of {self.minutes:g} min: {self.states['done']} jobs done, "
            f"{self.states['running']} running, {self.states['queued']} waiting; {len(self.trouble.strikes)} strikes, "
            f"{self.revived} jobs revived"
        )
        status.update(line)
        if not self.console.is_terminal and time.monotonic() >= self._next_line:
            self.console.print(line)
            self._next_line = time.monotonic() + TELL_S


def main() -> None:
    """Soak, print what was found, write it."""
    asked = _arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(common.machine())
    console.print(f"seed {asked.seed}: a strike every {asked.every:g} s on average, for {asked.minutes:g} min")
    asked.output.mkdir(parents=True, exist_ok=True)
    with _fleet(asked.output) as fleet:
        problems = _soak(fleet, asked, console)
    for problem in problems:
        console.print(f"[bold red]wrong:[/] {problem}", markup=True)
    console.print(f"written to {asked.output}")
    sys.exit(1 if problems else 0)


def _soak(fleet: PlainFleet, asked: argparse.Namespace, console: Console) -> list[str]:
    for name in HOSTS:
        (fleet.folder / name / "tmp").mkdir(parents=True)
        fleet.add(name, start=False, TMPDIR=str(fleet.folder / name / "tmp")).start()
    for host in fleet.hosts:
        host.wait_serving()
    hosts = {host.name: host for host in fleet.hosts}
    trouble = Trouble(hosts=hosts, acts=ACTS, every_s=asked.every, draw=random.Random(asked.seed))
    soak = Soak(
        fleet=fleet,
        load=Load(fleet=fleet, folder=fleet.folder / "studies", waiting=WAITING * len(HOSTS)),
        trouble=trouble,
        sampler=Sampler(fleet=fleet),
        console=console,
        sample_s=asked.sample,
        minutes=asked.minutes,
    )
    soak.run()
    return _conclude(soak, hosts, asked, console)


def _conclude(soak: Soak, hosts: dict[str, Host], asked: argparse.Namespace, console: Console) -> list[str]:
    fleet, strikes = soak.fleet, soak.trouble.strikes
    problems = findings.books(fleet.db, planned=soak.load.planned, states=soak.states, strikes=strikes)
    problems += findings.left_in_redis(fleet.redis, strikes)
    folders = disk({name: host.folder for name, host in hosts.items()})
    problems += _closed(fleet)
    found = findings.rows(soak.sampler)
    problems += findings.growing(found)
    facts = {
        "machine": common.machine(),
        "seed": asked.seed,
        "minutes": asked.minutes,
        "jobs": dict(soak.states),
        "planned": soak.load.planned,
        "attempts": dict(findings.attempts(fleet.db)),
        "strikes": Counter(f"{strike.host} {strike.victim} {strike.signal}" for strike in strikes),
        "revived": soak.revived,
        "unacknowledged": findings.messages(fleet.redis)[1],
        "files": folders,
        "problems": problems,
    }
    soak.sampler.write(asked.output / "samples.csv")
    report.write(asked.output, facts=facts, found=found, strikes=strikes)
    console.print(report.table(found))
    _summarize(facts, console)
    console.print(report.sensitivity(found))
    return problems


def _summarize(facts: dict[str, Any], console: Console) -> None:
    console.print(
        f"{facts['planned']} jobs planned: {facts['jobs']}; attempts: {facts['attempts']}; {facts['revived']} revived"
    )
    console.print(f"strikes: {dict(facts['strikes'])}")
    told = (f"{name} {count} files, {size / 2**20:.1f} MiB" for name, (count, size) in facts["files"].items())
    console.print(f"on disk: {'; '.join(told)}; {facts['unacknowledged']} messages taken along by killed workers")


def _closed(fleet: PlainFleet) -> list[str]:
    """The closing check of the fault suite: books, processes, spool, passwords."""
    try:
        closing.check(fleet)
    except AssertionError as exc:
        return [str(exc)]
    return []


def _dead(db: Database) -> list[queries.JobView]:
    return queries.jobs(db, states="dead")


@contextlib.contextmanager
def _fleet(output: Path) -> Iterator[PlainFleet]:
    """Servers and a fleet without hosts; its logs are kept, and nothing else of it."""
    with services.folder() as folder:
        redis = services.Redis(folder=folder / "redis")
        postgres = services.Postgres(folder=folder / "postgres")
        with services.running(redis), services.running(postgres):
            address = postgres.make_database("soak")
            database.upgrade(address)
            with Database.open(address) as db:
                made = PlainFleet(
                    folder=folder / "hosts",
                    redis=redis,
                    postgres=postgres,
                    database_address=address,
                    db=db,
                    times=TIMES,
                )
                try:
                    yield made
                finally:
                    for host in made.hosts:
                        host.kill()
                        if host.log.exists():
                            shutil.copy(host.log, output / f"{host.name}.log")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to work and kill (default: 5)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two strikes, on average")
    parser.add_argument("--sample", type=float, default=5.0, help="seconds between two looks at all processes")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the strikes (default: drawn)")
    parser.add_argument("--output", type=Path, default=Path("build/soak"), help="folder for what is found")
    return parser.parse_args()


if __name__ == "__main__":
    main()
