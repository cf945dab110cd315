"""The supervisor's side of measured processes: start a nursery, have children forked, talk to them."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, Any

from storage import errors, settings
from worker import channel, procfs, quiet

Tick = Callable[[], None]
"""Called about every second while the supervisor waits; raises to give up (lease lost, cancelled, stopped)."""

TICK_S = 1.0
STDERR_LINES = 12
_FAREWELL_S = 3.0
_NEWS_S = 0.1  # more than a nursery takes to tell of an end
_HIDDEN = ("QUANTFLEET_", "CELERY", "PGPASS", "REDISCLI_AUTH", "HUGGING_FACE_HUB_TOKEN", "AWS_", "AZURE_")
_SECRET_WORDS = ("PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL")
_NEEDED = ("PATH", "HOME", "LANG", "LC_", "LD_", "TMPDIR", "PYTHON", "OMP_", "KMP_", "GOMP_", "MALLOC_", "MKL_", "HF_")
_READY_S = 300.0
_LOOK_S = 0.01  # at a process that only its parent may wait for


def _nothing() -> None:
    pass


class Child:
    """One measured process: asks go out, answers come back; its death is an exception with what was seen."""

    def __init__(self, pid: int, connection: channel.Channel, stderr: IO[bytes], nursery: Nursery) -> None:
        self.pid = pid
        self._channel = connection
        self._stderr = stderr
        self._nursery = nursery
        self._end: dict[str, Any] | None = None  # how it ended, once that is known

    def fileno(self) -> int:
        """What becomes readable when an operation that was begun has been answered, or the process has ended."""
        return self._channel.fileno()

    def ask(
        self,
        op: str,
        request: Mapping[str, Any] | None = None,
        *,
        tick: Tick = _nothing,
        tell: Callable[[Mapping[str, Any]], None] | None = None,
        within_s: float = math.inf,
    ) -> dict[str, Any]:
        """The result of one operation; raises what `answer` raises."""
        self.begin(op, request)
        return self.answer(op, tick=tick, tell=tell, within_s=within_s)

    def begin(self, op: str, request: Mapping[str, Any] | None = None) -> None:
        """Start an operation whose result `answer` waits for. Raises ChildDied."""
        try:
            self._channel.send({"op": op, **(request or {})})
        except channel.Closed:
            raise self.died(op) from None

    def answer(
        self,
        op: str,
        *,
        tick: Tick = _nothing,
        tell: Callable[[Mapping[str, Any]], None] | None = None,
        within_s: float = math.inf,
    ) -> dict[str, Any]:
        """The result of the operation that was begun.

        Raises ChildDied when the process ends before it answers (or runs out of memory), or is killed because it
        said nothing for `within_s` seconds; Unsupported or a UserError that the operation raised, ChildFailed for
        any other error in it.
        """
        heard = time.monotonic()
        try:
            while True:
                message = self._channel.receive(timeout=TICK_S)
                tick()
                if message is None:
                    if time.monotonic() - heard > within_s:
                        raise self._hung(op, within_s)
                    continue
                heard = time.monotonic()
                if message["event"] == "progress":
                    if tell is not None:
                        tell(message)
                    continue
                return self._result(message)
        except channel.Closed:
            raise self.died(op) from None

    def died(self, op: str) -> errors.ChildDied:
        """The exception for a process that was found to be gone during an operation, with how it ended."""
        ended = self._ended() or {}
        how, number = _how(ended.get("code"))
        hint = ", as the kernel does when memory runs out" if number == signal.SIGKILL else ""
        return errors.ChildDied(
            f"the measured process ended {how} during {op!r}{hint}",
            signal=number,
            stderr=self.stderr_tail(),
            resident_peak_bytes=ended.get("peak_bytes"),
        )

    def leave(self) -> None:
        """Ask the process to end, and do not wait for it."""
        with contextlib.suppress(channel.Closed):
            self._channel.send({"op": "exit"})

    def close(self) -> None:
        """Ask the process to end, and make sure that it does."""
        self.leave()
        self._channel.close()
        if not self._gone():
            self.kill()
        self._stderr.close()

    def kill(self) -> None:
        """End the process now."""
        if self._end is not None:
            return  # its process id may be another's by now
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._gone()

    def stderr_tail(self) -> str:
        """The last lines that the process wrote to its standard error."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-STDERR_LINES:])

    def _ended(self) -> dict[str, Any] | None:
        """How it ended, waiting a little for the news; None when none comes."""
        if self._end is None:
            self._end = self._nursery.ending(self.pid, _FAREWELL_S)
        return self._end

    def _gone(self) -> bool:
        """Whether it has ended, after a little while; a nursery that was stopped has no news of that."""
        deadline = time.monotonic() + _FAREWELL_S
        while self._end is None and time.monotonic() < deadline:
            self._end = self._nursery.ending(self.pid, _NEWS_S)
            if self._end is None and _is_over(self.pid):
                self._end = {}
                self._nursery.forget(self.pid)
            elif self._end is None:
                time.sleep(_NEWS_S / 10)  # a nursery that has ended answers at once, and nothing
        return self._end is not None

    def _hung(self, op: str, within_s: float) -> errors.ChildDied:
        self.kill()
        peak = (self._end or {}).get("peak_bytes")
        return errors.ChildDied(
            f"the measured process did not answer for {within_s:g} s during {op!r}, and was killed",
            stderr=self.stderr_tail(),
            resident_peak_bytes=peak,
        )

    def _result(self, message: Mapping[str, Any]) -> dict[str, Any]:
        if message["event"] == "done":
            result: dict[str, Any] = message["result"]
            return result
        name, text, trace = message["class"], message["message"], message.get("trace", "")
        if name == "MemoryError":
            raise errors.ChildDied(f"not enough memory: {text}", stderr=trace)
        known = getattr(errors, name, None)
        if isinstance(known, type) and issubclass(known, (errors.UserError, errors.Unsupported)):
            raise known(text)
        raise errors.ChildFailed(text, trace=trace)


class _Fostered:
    """A nursery that this process's parent has started: only that one may wait for it, but /proc tells how it ended.

    The parent leaves the ended process alone, so that nobody else gets its process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """Its return code as `Popen.poll` has it; 0 where nothing is left of it."""
        words = _stat(self.pid)
        if not words:
            return 0
        return os.waitstatus_to_exitcode(int(words[-1])) if words[0] in ("Z", "X") else None

    def wait(self) -> int:
        """Its return code, once it has ended."""
        while (code := self.poll()) is None:
            time.sleep(_LOOK_S)
        return code


class Nursery:
    """A process that has imported one runtime family and forks measured processes from that state."""

    def __init__(self, family: str, environ: Mapping[str, str], log: Path | None = None) -> None:
        self.family = family
        self._log = log
        self._environ = dict(environ)
        self._process: subprocess.Popen[bytes] | _Fostered | None = None
        self._control: channel.Channel | None = None
        self._began: float | None = None  # when it was started, until it has said that it is ready
        self._ended: dict[int, dict[str, Any]] = {}  # news that nobody has asked for yet
        self._wanted: set[int] = set()  # whose end somebody will ask for
        self._living: set[int] = set()  # forked, and nothing was heard of their end yet
        self.start_s = 0.0  # what starting and importing took the last time

    @property
    def pid(self) -> int | None:
        """Its process id, None while it is not running."""
        return None if self._process is None else self._process.pid

    @property
    def empty(self) -> bool:
        """Whether every process that it forked is known to have ended."""
        return not self._living

    def begin(self) -> None:
        """Start it where it is not running, and let it import by itself: `settle` or the next fork waits for it."""
        if self._control is not None:
            return
        ours, theirs = channel.pair()
        sink: Any = self._log.open("ab") if self._log else subprocess.DEVNULL
        with theirs:
            self._began = time.monotonic()
            self._process = _spawn(self.family, self._environ, theirs.fileno(), sink)
        if self._log:
            sink.close()
        self._control = ours
        self._ended, self._wanted = {}, set()

    def settle(self, tick: Tick = _nothing) -> None:
        """Wait until it no longer imports, if it does; raises ChildDied or ChildFailed when it cannot start."""
        if self._began is not None:
            self._start(tick)

    def foster(self) -> None:
        """Take it over from the process that began it: this one's parent, of which this one is a fork."""
        if self._process is not None:
            self._process = _Fostered(self._process.pid)

    def fork(self, *, lock: int, memory_bytes: int | None = None, tick: Tick = _nothing) -> Child:
        """A fresh measured process; `lock` is the measuring lock's descriptor, which it keeps open."""
        control = self._alive(tick)
        ours, theirs = channel.pair()
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - the child's, closed with it
        with theirs:
            try:
                control.send({"memory_bytes": memory_bytes}, [theirs.fileno(), stderr.fileno(), lock])
                pid = int(self._await("born", tick)["pid"])
                self._ended.pop(pid, None)  # late news of an earlier process of that number
                self._wanted.add(pid)
                self._living.add(pid)
            except channel.Closed:
                self.stop()
                raise errors.ChildDied(f"the {self.family} nursery ended while it forked") from None
            except BaseException:  # its answer is still to come, and would be taken for the next one's
                self.stop()
                raise
        return Child(pid, ours, stderr, self)

    def ending(self, pid: int, within_s: float) -> dict[str, Any] | None:
        """How a child ended, waiting for the news at most `within_s` seconds; None when none came."""
        deadline = time.monotonic() + within_s
        while pid not in self._ended and self._control is not None and time.monotonic() < deadline:
            try:
                message = self._control.receive(timeout=max(0.0, deadline - time.monotonic()))
            except channel.Closed:
                return None
            if message is not None and message["event"] == "ended":
                self._hear(message)
        found = self._ended.pop(pid, None)
        if found is not None:
            self._wanted.discard(pid)
        return found

    def forget(self, pid: int) -> None:
        """Nobody will ask how a child ended: the news of it is to be dropped when it comes."""
        self._wanted.discard(pid)
        self._ended.pop(pid, None)

    def stop(self) -> None:
        """End the nursery and every process that it forked."""
        process, self._process, self._began = self._process, None, None
        if self._control is not None:
            self._control.close()
            self._control = None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._living.clear()

    def _alive(self, tick: Tick) -> channel.Channel:
        if self._began is None and self._process is not None and self._process.poll() is not None:
            self.stop()
        if self._control is None or self._began is not None:
            self._start(tick)
        assert self._control is not None  # noqa: S101 - _start sets it or raises
        return self._control

    def _start(self, tick: Tick) -> None:
        self.begin()
        assert self._process is not None and self._began is not None  # noqa: S101 - it has just begun
        try:
            ready = self._await("ready", tick)
        except channel.Closed:
            code = self._process.wait()
            self.stop()
            how, number = _how(code)
            if number:  # as with a measured process: somebody, or the kernel for lack of memory, ended it
                said = f"the {self.family} nursery ended {how} while it started"
                raise errors.ChildDied(said, signal=number, stderr=self._log_tail()) from None
            raise errors.ChildFailed(
                f"the {self.family} nursery did not start (exit code {code})", trace=self._log_tail()
            ) from None
        except BaseException:
            self.stop()
            raise
        self.start_s, self._began = time.monotonic() - self._began, None
        if ready["threads"] != 1:
            self.stop()
            raise errors.ChildFailed(f"importing {self.family} started {ready['threads'] - 1} threads: cannot fork")

    def _await(self, event: str, tick: Tick) -> dict[str, Any]:
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            assert self._control is not None  # noqa: S101
            message = self._control.receive(timeout=TICK_S)
            tick()
            if message is None:
                continue
            if message["event"] == event:
                return message
            if message["event"] == "ended":
                self._hear(message)
        raise errors.ChildDied(f"the {self.family} nursery did not answer for {_READY_S:g} s, and was killed")

    def _hear(self, message: dict[str, Any]) -> None:
        """News of an end."""
        if message["pid"] in self._wanted:
            self._ended[message["pid"]] = message
        self._living.discard(message["pid"])

    def _log_tail(self) -> str:
        if self._log is None or not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-STDERR_LINES:])


def look(observer: quiet.Observer, op: str, *children: Child) -> quiet.Snapshot:
    """Counters now, of processes that are measured together; ChildDied, with how it ended, when one is gone."""
    try:
        return observer.snapshot(*(child.pid for child in children))
    except ProcessLookupError:
        gone = next((child for child in children if _is_over(child.pid)), children[0])
        raise gone.died(op) from None


def environment(outer: Mapping[str, str], addresses: Collection[str] = ()) -> dict[str, str]:
    """What a measured process may see of its surroundings: no addresses, no secrets; no thread pool at import.

    `addresses`: database and broker, whose passwords no variable may repeat.
    """
    kept = {name: value for name, value in outer.items() if not _is_secret(name.upper(), value, addresses)}
    return {
        **kept,
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's own pool starts at import, and this process must stay forkable
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",
    }


def of(family: str, config: settings.Settings) -> Nursery:
    """The nursery of a runtime family for a worker with these settings; nothing is started yet."""
    log = config.cache / "log"
    log.mkdir(parents=True, exist_ok=True)
    environ = environment(os.environ, (config.database, config.broker, config.store))
    return Nursery(family, environ, log / f"nursery-{family}.log")


def _is_secret(name: str, value: str, addresses: Collection[str]) -> bool:
    if name.startswith(_HIDDEN) or name.endswith("_KEY") or any(word in name for word in _SECRET_WORDS):
        return True
    if name.endswith("_PROXY") or name.startswith(_NEEDED):  # downloads need the one, everything the others
        return False
    if "://" in value and settings.has_password(value):
        return True
    return any("://" in address and settings.without_password(value, address) != value for address in addresses)


def _is_over(pid: int) -> bool:
    """Whether a process is gone, or only its exit code is left of it."""
    return _stat(pid)[:1] in ([], ["Z"], ["X"])


def _stat(pid: int) -> list[str]:
    """What /proc/PID/stat says, from the state on; nothing when there is no such process. Last: how it ended."""
    return procfs.read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()


def _how(code: object) -> tuple[str, int | None]:
    """How a process ended, in words, by its return code; the signal that ended it, if one did."""
    number = -code if isinstance(code, int) and code < 0 else None
    return f"by signal {signal.Signals(number).name}" if number else f"with exit code {code}", number


def _spawn(family: str, environ: Mapping[str, str], control: int, sink: Any) -> subprocess.Popen[bytes]:
    """Start a nursery in a process group of its own; it inherits its control channel."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "worker.child", family, str(control), str(os.getpid())],
        env=dict(environ),
        pass_fds=[control],
        stdin=subprocess.DEVNULL,
        stdout=sink,
        stderr=sink,
        start_new_session=True,
    )
