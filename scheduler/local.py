"""The embedded mode: SQLite, a file queue and one worker on this machine, started and stopped for a run."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import sqlalchemy.engine

from scheduler import plan as planning
from scheduler import resolve, saved, targets, worker_process
from storage import broker, errors, hosts, keys, lifecycle, outbox, queries, records, settings, strategies
from storage.database import Database

POLL_S = 0.5
"""Seconds between two looks at the database while the worker measures: a look costs a few milliseconds of CPU.

The end of a job is looked at when it comes.
"""

IDLE_S = 2.0
"""Nothing running for so long while jobs wait: look at once for what the queue lost."""

OVERLAP_S = 10.0
"""What ended so long ago is read again: an end is dated before its transaction is seen."""

WHOLE_S = 60.0
"""Seconds after which all jobs are read again, whatever happens."""

RESTARTS = 3
"""Times that a worker which died is started again without a finished job in between."""

STOP_S = 15.0
"""Time that a stopping worker gets to give its job back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What `Embedded.work` tells while it waits."""

    jobs: Sequence[queries.JobView]  # the study's jobs that belong to this run
    restarts: int  # how often the worker had to be started again


def probe() -> records.Platform:
    """This machine's platform, as its worker sees it; UserError without the worker extra."""
    answer = worker_process.ask("probe", {})
    return keys.platform(
        records.from_document(records.Hardware, answer["hardware"]),
        records.from_document(records.Environment, answer["environment"]),
    )


def absolute(address: str) -> str:
    """A SQLite address with an absolute path: the worker may stand elsewhere. Refuses other databases."""
    url = sqlalchemy.engine.make_url(address)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise errors.SettingsError(
            f"`quantfleet run` works on a SQLite file, not on {settings.redact(address)} (sqlite:///quantfleet.db)"
        )
    return url.set(database=str(Path(url.database).resolve())).render_as_string(hide_password=False)


class Embedded:
    """One run at a time on one database; use as a context manager."""

    def __init__(self, config: settings.Settings) -> None:
        # whoever runs a study on their own machine may load a pickle that the study vouches for
        given = {"database": absolute(config.database), "broker": "", "pickle": True}
        self.config = config.model_copy(update=given)
        self._stack = contextlib.ExitStack()
        self._worker: subprocess.Popen[bytes] | None = None
        self._news = _News()

    def __enter__(self) -> Embedded:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_run_lock(self.file))
            asked = stack.enter_context(futures.ThreadPoolExecutor(1)).submit(probe)  # while the database is opened
            self.database = Database.create_or_open(self.config.database)
            stack.callback(self.database.close)
            self.platform = asked.result()
            hosts.register(self.database, name=self.config.host, platform=self.platform)
            lifecycle.adopt(self.database, self.config.host)
            self.publisher = broker.Publisher(self.config)
            stack.callback(self.publisher.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            self.stop()

    @property
    def file(self) -> Path:
        """The database's file."""
        return Path(sqlalchemy.engine.make_url(self.config.database).database or "")

    @property
    def log(self) -> Path:
        """What the worker writes."""
        return Path(f"{self.file}.queue") / "worker.log"

    def plan(self, resolved: resolve.Resolved, *, fresh: bool = False) -> planning.Plan:
        """The study's cases on this machine, against what the database holds already.

        `fresh`: as replicas that none of them has yet.
        """
        if fresh:
            here = targets.of_platform(self.platform, self.config.host)
            return planning.fresh(resolved, [here], functools.partial(queries.existing, self.database))
        return plan_here(self.database, resolved, self.platform, self.config.host)

    def submit(self, resolved: resolve.Resolved, plan: planning.Plan) -> lifecycle.Submitted:
        """Store the study with its new jobs, in one transaction.

        What cannot run here is submitted too: the worker answers `unsupported`, and the reason is a stored result.
        """
        text = saved.text_of(resolved, targets.of_study(resolved.study))
        return lifecycle.submit(self.database, study=text, jobs=plan.every_job)

    def work(self, job_ids: Sequence[str], on_update: Callable[[Update], None]) -> list[queries.JobView]:
        """Have the worker do the jobs; returns them when all are terminal.

        A worker that dies is started again; ChildDied when it keeps dying without finishing a job.
        """
        watched, restarts, finished = _Watched(self.database, job_ids), 0, -1
        while True:
            jobs = watched.look()
            on_update(Update(jobs=jobs, restarts=restarts))
            done = sum(job.state in records.TERMINAL for job in jobs)
            if done == len(jobs):
                return jobs
            if self._worker is None:
                self._publish_all()
                self._start(jobs)
            elif not self._alive():
                restarts = 1 if done > finished >= 0 else restarts + 1
                finished = done
                self._restart(restarts, jobs)
            self._reconcile(running=any(job.state == "running" for job in jobs))
            self._news.wait(POLL_S)

    def stop(self) -> None:
        """Stop the worker: it gives its job back; what does not stop is killed, and taken up by the next run."""
        worker, self._worker = self._worker, None
        self._news.close()
        if worker is None or worker.poll() is not None:
            return
        if self._busy():
            for _ in range(2):  # the second one means: give the running job back
                worker.send_signal(signal.SIGTERM)
                time.sleep(0.1)
        deadline = time.monotonic() + STOP_S
        while worker.poll() is None and self._busy() and time.monotonic() < deadline:
            time.sleep(0.1)
        worker.kill()  # an idle worker holds nothing: killing it is safe, and seconds quicker than its farewell
        worker.wait()
        lifecycle.adopt(self.database, self.config.host)

    def _busy(self) -> bool:
        return any(job.host == self.config.host for job in queries.jobs(self.database, states="running"))

    def _publish_all(self) -> None:
        """Drop the wake-ups of earlier runs, and give every queued job its own."""
        for queue in broker.queues_of(self.platform.key, self.config.host):
            self.publisher.purge(queue)
        outbox.reconcile(self.database, self.publisher, older_than=-1.0)

    def _start(self, jobs: Sequence[queries.JobView]) -> None:
        with self.log.open("ab") as sink, self._news.opened() as news:
            self._worker = _spawn(self.config, sink, _runtimes(jobs), news)
        self._reconciled = time.monotonic()

    def _alive(self) -> bool:
        return self._worker is not None and self._worker.poll() is None

    def _restart(self, restarts: int, jobs: Sequence[queries.JobView]) -> None:
        if restarts > RESTARTS:
            raise errors.ChildDied(f"the worker died {restarts} times; its log: {self.log}", stderr=_tail(self.log))
        lifecycle.adopt(self.database, self.config.host)
        self._publish_all()
        self._start(jobs)

    def _reconcile(self, *, running: bool) -> None:
        if time.monotonic() - self._reconciled < (self.config.reconcile if running else IDLE_S):
            return
        self._reconciled = time.monotonic()
        if not running:
            self._same_platform()
        outbox.tick(self.database, self.publisher, f"run {os.getpid()}", self.config)

    def _same_platform(self) -> None:
        """Make sure that the worker serves what was planned for: it probes the machine itself."""
        (here,) = [host for host in queries.hosts(self.database) if host.name == self.config.host]
        if here.platform.key != self.platform.key:
            raise errors.ChildFailed(
                "this machine's fingerprint changed between planning and measuring; "
                "compare `quantfleet hardware` with what `quantfleet plan` saw, and run again"
            )


class _News:
    """A pipe into which the worker puts a byte when it has done something: whoever waits need not look all the time."""

    def __init__(self) -> None:
        self._reader: int | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """The end that a worker which is started meanwhile inherits; an earlier worker's pipe is closed."""
        self.close()
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        try:
            yield writer
        finally:
            os.close(writer)

    def wait(self, seconds: float) -> None:
        """Sleep so long, or until there are news; a worker that has died has none any more."""
        if self._reader is None:
            time.sleep(seconds)
        elif select.select([self._reader], [], [], seconds)[0] and not os.read(self._reader, 1 << 16):
            self.close()

    def close(self) -> None:
        """Close the pipe, if there is one."""
        reader, self._reader = self._reader, None
        if reader is not None:
            os.close(reader)


class _Watched:
    """Some jobs, looked at again and again: only what runs, and what has ended lately, is read each time.

    A database may hold a hundred thousand jobs that have ended, and this machine is being measured.
    """

    def __init__(self, database: Database, job_ids: Sequence[str]) -> None:
        self._database = database
        self._wanted = frozenset(job_ids)
        self._jobs: dict[str, queries.JobView] = {}
        self._since = 0.0  # by the database's clock
        self._whole_at, self._took = -math.inf, 0.0

    def look(self) -> list[queries.JobView]:
        """The jobs as they are now, in planned order."""
        running = self._mine(states="running")
        # when nothing runs something may be odd, such as a job that somebody cancelled or retried
        rest = WHOLE_S if running else max(IDLE_S, 20 * self._took)
        if time.monotonic() - self._whole_at >= rest:
            self._read()
        else:
            self._update(running)
        return list(self._jobs.values())

    def _read(self) -> None:
        began = time.monotonic()
        self._since = queries.clock(self._database) - OVERLAP_S
        self._jobs = self._mine()
        self._whole_at = time.monotonic()
        self._took = self._whole_at - began

    def _update(self, running: Mapping[str, queries.JobView]) -> None:
        since, self._since = self._since, queries.clock(self._database) - OVERLAP_S
        ended = self._mine(states=records.TERMINAL, ended_after=since)
        back = [job for job in self._jobs.values() if job.state == "running" and job.id not in running]
        self._jobs |= {job.id: dataclasses.replace(job, state="queued") for job in back}
        self._jobs |= {**running, **ended}

    def _mine(self, **asked: Any) -> dict[str, queries.JobView]:
        return {job.id: job for job in queries.jobs(self._database, **asked) if job.id in self._wanted}


def plan_here(
    database: Database | None, resolved: resolve.Resolved, platform: records.Platform, host: str
) -> planning.Plan:
    """A study's plan for one platform; without a database nothing exists yet."""
    first = planning.plan(resolved, [targets.of_platform(platform, host)])
    return first if database is None else first.against(queries.existing(database, first.keys))


@contextlib.contextmanager
def _run_lock(file: Path) -> Iterator[None]:
    """Hold `FILE.run`: a second run on the same database is refused, with the first one's process id."""
    path = Path(f"{file}.run")
    try:
        stream: IO[str] = path.open("a+")
    except OSError as exc:
        raise errors.DatabaseReadOnly(f"cannot write beside the database {file}: {exc.strerror}") from exc
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise errors.AlreadyRunning(
                f"{file} is in use by another `quantfleet run` ({holder}); wait for it, or name another --database"
            ) from None
        _leave_word(stream.fileno(), f"process {os.getpid()}")
        yield
        _leave_word(stream.fileno(), "")


def _leave_word(descriptor: int, text: str) -> None:
    """Say who holds the lock; on a full disk the lock works without words."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def worker_environment(config: settings.Settings) -> Mapping[str, str]:
    """The environment that gives a worker process the same settings."""
    given = {
        f"QUANTFLEET_{name.upper()}": json.dumps(value) if isinstance(value, (list, dict)) else str(value)
        for name, value in config.model_dump(mode="json").items()
        if value not in (None, "", [], {})
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUANTFLEET_")}
    return {**inherited, **given}


def _runtimes(jobs: Sequence[queries.JobView]) -> list[str]:
    """Runtimes whose libraries jobs that wait will need, first the one with which everything is prepared."""
    waiting = [job for job in jobs if job.state not in records.TERMINAL and job.kind != "tensor"]
    sides = dict.fromkeys(side for job in waiting for side in (job.baseline, job.strategy) if side)
    return list(dict.fromkeys([strategies.PREPARER, *(strategies.parse(side).runtime for side in sides)]))


def _spawn(config: settings.Settings, sink: IO[bytes], ahead: Sequence[str], news: int) -> subprocess.Popen[bytes]:
    """A worker that dies with this process and does not see the terminal's Ctrl-C.

    `ahead`: runtimes that it imports at once; `news`: the pipe in which it tells what it has done.
    """
    line = [sys.executable, "-P", "-m", "worker.app", f"--with-parent={os.getpid()}", f"--news={news}"]
    return subprocess.Popen(
        [*line, "--ahead", *ahead] if ahead else line,
        env=dict(worker_environment(config)),
        pass_fds=[news],
        stdin=subprocess.DEVNULL,
        stdout=sink,
        stderr=sink,
        start_new_session=True,
    )


def _tail(log: Path, lines: int = 12) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
