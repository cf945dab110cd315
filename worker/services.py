"""What a measuring host needs beside its CPUs: runtimes, the measuring lock, database, broker and shared store."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import psutil

from storage import broker, database, errors, settings
from storage.catalogue import registry
from worker.finding import Finding
from worker.shared_store import SharedStore


def runtimes(versions: Mapping[str, str]) -> list[Finding]:
    """One finding for each extra of quantfleet: which of its packages are missing, with the pip line."""
    needed: dict[str, set[str]] = {}
    for description in (*registry.descriptions().values(), *registry.transforms_by_name().values()):
        needed.setdefault(description.extra, set()).update(description.packages)
    return [_runtime(extra, sorted(packages), versions) for extra, packages in needed.items()]


def measuring_lock(path: Path) -> Finding:
    """Whether somebody measures on this host now; the lock is held for an instant to see."""
    try:
        with path.open("r") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return Finding(check="measuring", level="ok", seen="nobody measures on this host now")
    except FileNotFoundError:
        return Finding(check="measuring", level="ok", seen="nobody has measured on this host yet")
    except BlockingIOError:
        seen = f"process {_holder(path)} measures on this host now"
        return Finding(check="measuring", level="warn", seen=seen, advice="a new job waits until it is done")
    except OSError as exc:
        advice = "set QUANTFLEET_LOCK to a file that every worker of this host can open"
        return Finding(check="measuring", level="bad", seen=f"cannot open {path}: {exc.strerror}", advice=advice)


def neighbours() -> Finding:
    """Other processes of quantfleet on this host."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    others = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.pid not in ours and _is_quantfleet(process.info["cmdline"] or [])
    ]
    if not others:
        return Finding(check="processes", level="ok", seen="no other process of quantfleet")
    seen = f"{len(others)} other processes of quantfleet: {', '.join(str(pid) for pid in sorted(others)[:8])}"
    return Finding(check="processes", level="ok", seen=seen, advice="workers on one host take turns in measuring")


def database_finding(config: settings.Settings) -> Finding:
    """Whether the database answers, has our schema, and can be written."""
    where = config.redacted_database()
    try:
        url = database.parse(config.database)
        file = database.sqlite_file(url)
        if file is not None and not file.exists():
            return _new_file(file)
        state = database.check(config.database)
    except errors.QuantfleetError as exc:
        advice = "set QUANTFLEET_DATABASE, or start the server"
        return Finding(check="database", level="bad", seen=str(exc), advice=advice)
    if not state.fits:
        seen = f"{where} has schema {state.current or 'none'}, this program needs {state.head}"
        return Finding(check="database", level="bad", seen=seen, advice="quantfleet db upgrade")
    if file is not None and not (os.access(file, os.W_OK) and os.access(file.absolute().parent, os.W_OK)):
        advice = "the file and its folder must be writable: results and the write-ahead log go there"
        return Finding(check="database", level="bad", seen=f"{where} cannot be written", advice=advice)
    return Finding(check="database", level="ok", seen=f"{where} answers, schema {state.head}")


def broker_finding(config: settings.Settings) -> Finding:
    """Whether the broker answers; in the embedded mode there is none to ask."""
    if not config.broker:
        return Finding(check="broker", level="ok", seen="none set: jobs go through files beside the database")
    where = settings.redact(config.broker)
    try:
        with contextlib.closing(broker.Publisher(config)) as publisher:
            publisher.ping()
    except errors.QuantfleetError as exc:
        advice = "start it, or set QUANTFLEET_BROKER to its address (empty: the file queue)"
        return Finding(check="broker", level="bad", seen=str(exc), advice=advice)
    return Finding(check="broker", level="ok", seen=f"{where} answers")


def store_finding(config: settings.Settings) -> Finding:
    """Whether the store that the fleet shares can be reached, written and read."""
    if not config.store:
        return Finding(check="store", level="ok", seen="none set: every host prepares its own models")
    try:
        SharedStore(config.store).check()
    except errors.QuantfleetError as exc:
        advice = "mend it, or set QUANTFLEET_STORE to a folder or URL that this host can write (empty: none)"
        return Finding(check="store", level="bad", seen=str(exc), advice=advice)
    return Finding(check="store", level="ok", seen=f"{config.redacted_store()} can be written and read")


def _runtime(extra: str, packages: list[str], versions: Mapping[str, str]) -> Finding:
    missing = [package for package in packages if package not in versions]
    check = f"extra {extra}" if extra else "added strategies"
    if not missing:
        seen = ", ".join(f"{package} {versions[package]}" for package in packages)
        return Finding(check=check, level="ok", seen=seen)
    seen = f"{', '.join(missing)} not installed: strategies that need it cannot run here"
    level: Literal["warn", "bad"] = "bad" if "torch" in missing else "warn"  # without torch not even a baseline runs
    what = f"'quantfleet[{extra}]'" if extra else " ".join(missing)
    return Finding(check=check, level=level, seen=seen, advice=f"pip install {what}")


def _holder(path: Path) -> str:
    """`1234 (host name)` as `worker.station` left it in the lock file."""
    pid, _, host = path.read_text(errors="replace").strip().partition(" ")
    return f"{pid or 'unknown'} ({host})" if host else pid or "unknown"


def _is_quantfleet(line: list[str]) -> bool:
    """Whether a command line is one of ours: the command, `-m worker.…`, or a nursery."""
    if any(Path(word).name == "quantfleet" for word in line[:2]):
        return True
    after = [line[i + 1] for i, word in enumerate(line[:-1]) if word in {"-m", "-c"}]
    return any(word.startswith("worker.") or "from worker import child" in word for word in after)


def _new_file(file: Path) -> Finding:
    folder = file.absolute().parent
    if folder.is_dir() and os.access(folder, os.W_OK):
        seen = f"there is no {file} yet; `quantfleet run` makes it"
        return Finding(check="database", level="ok", seen=seen)
    advice = "set QUANTFLEET_DATABASE to a file in a folder that exists and can be written"
    return Finding(
        check="database", level="bad", seen=f"{file} cannot be made: no writable folder {folder}", advice=advice
    )
