"""Worker processes of a benchmark: started, waited for, gone with it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests import services
from worker import kinship

START_S = 120.0


@contextlib.contextmanager
def started(
    folder: Path, lines: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """`python -m …` for each line, with its output in the folder's `log`; killed in the end with all their children."""
    folder.mkdir(parents=True, exist_ok=True)
    environ = {name: text for name, text in os.environ.items() if not name.startswith("QUANTFLEET_")}
    running = []
    try:
        with (folder / "log").open("ab") as log:
            for line in lines:
                running.append(
                    subprocess.Popen(
                        [sys.executable, "-m", *line],
                        env={**environ, **(environment or {})},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        preexec_fn=functools.partial(kinship.die_with, os.getpid()),  # noqa: PLW1509 - one thread
                    )
                )
        yield
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_ready(folder: Path, count: int) -> None:
    """Until so many workers have said that they are ready."""
    services.wait_for(lambda: len(list(folder.glob("*.ready"))) >= count, START_S, f"{count} workers, log in {folder}")


def wait_for_log(folder: Path, text: str) -> None:
    """Until the log holds a text."""
    log = folder / "log"
    services.wait_for(lambda: text in log.read_text(errors="replace"), START_S, f"{text!r} in {log}")
