"""The locks of one machine: who is the worker of a host, and who measures now (flock(2): gone with their holders)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from storage import errors, settings


def file_name(host: str) -> str:
    """A host's name as one part of a path."""
    quoted = urllib.parse.quote(host, safe="")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


@contextlib.contextmanager
def only_worker(config: settings.Settings) -> Iterator[None]:
    """Be the one worker of this host name on this machine; AlreadyRunning names the process that is.

    Workers of other names may stand beside it: they take turns by the measuring lock. The descriptor is closed on
    exec: what a killed launcher leaves behind for a moment does not keep the next one out.
    """
    path = _worker_lock(config)
    descriptor = open_file(path, "worker lock")
    try:
        if not try_lock(descriptor):
            holder = path.read_text(errors="replace").split()[:1] or ["unknown"]
            raise errors.AlreadyRunning(
                f"host {config.host!r} has a worker on this machine already (process {holder[0]}); "
                "stop that one, or give this one another name (QUANTFLEET_HOST)"
            )
        leave_word(descriptor, config.host)
        yield
    finally:
        os.close(descriptor)


def stamp(config: settings.Settings) -> None:
    """Date the worker lock: from its time a health check tells, for next to nothing, that the fleet sees this host."""
    with contextlib.suppress(OSError):
        os.utime(_worker_lock(config))


def measuring(config: settings.Settings) -> bool:
    """Whether this host's worker holds the measuring lock now, or did so last while somebody holds it."""
    try:
        with config.lock.open("r") as stream:
            if try_lock(stream.fileno(), fcntl.LOCK_SH):
                return False
            _, _, host = stream.read().strip().partition(" ")
            return host in ("", config.host)  # a full disk leaves no name
    except OSError:  # never made, or not ours to open: nobody here measures
        return False


def open_file(path: Path, what: str) -> int:
    """A lock file's descriptor; SettingsError where there cannot be one."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as exc:
        raise errors.SettingsError(f"cannot open the {what} {path}: {exc.strerror}") from exc


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Take a lock if that is possible at once."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def leave_word(descriptor: int, host: str) -> None:
    """Write `<process id> <host>` into a lock file, where it is not there yet: a job need not wait for the disk.

    On a full disk the lock works without words.
    """
    word = f"{os.getpid()} {host}\n".encode()
    with contextlib.suppress(OSError):
        if os.pread(descriptor, len(word) + 1, 0) == word:
            return
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, word, 0)


def _worker_lock(config: settings.Settings) -> Path:
    return Path(f"{config.lock}.{file_name(config.host)}.worker")
