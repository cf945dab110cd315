"""Questions to the worker's side: one subprocess that answers in JSON lines.

The scheduler never imports the worker (it installs without torch), so what needs the worker's libraries runs as

    python -P -m worker.tool COMMAND --json-options '{"…": …}'

which prints, a line each, any number of `{"event": "progress", …}` and then either
`{"event": "done", "result": {…}}` or `{"event": "error", "message": "…", "user": true|false}`.
Lines that are no such object (a library's chatter) are passed over; what it writes to stderr is kept for errors.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from storage import errors

WORKER_MODULES = frozenset({"torch", "transformers", "datasets", "tokenizers", "safetensors", "pyarrow", "matplotlib"})
"""What the extra `worker` installs; one of them missing means that the extra is."""

PATIENCE_S = 5.0
"""How long a child that was told to end may take before it is killed."""

_MISSING = re.compile(r"No module named '(\w+)")
_STDERR_TAIL = 20_000  # characters

Listener = Callable[[Mapping[str, Any]], None]


def ask(command: str, options: Mapping[str, Any], on_event: Listener | None = None) -> Mapping[str, Any]:
    """The worker's answer to `command`; each progress event is passed to `on_event` as it comes.

    Raises `UserError` for what a person can mend (a missing worker extra among it), `ChildFailed` for an error of
    the worker itself, `ChildDied` when it ended without an answer. Whatever interrupts the wait ends the child.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        child = _start(command, options, stderr)
        try:
            answer = _listen(child, on_event or _ignore)
            code = child.wait(None if answer is None else PATIENCE_S)
        except subprocess.TimeoutExpired:  # it has answered; what hangs in its exit is of no interest
            code = 0
        finally:
            _end(child)
        if answer is not None and answer["event"] == "done":
            result: Mapping[str, Any] = answer["result"]
            return result
        raise _failure(command, answer, code, _tail(stderr))


def _start(command: str, options: Mapping[str, Any], stderr: IO[str]) -> subprocess.Popen[str]:
    # -P: a folder named `worker` where the person stands must not shadow ours. A session of its own: Ctrl-C reaches
    # only this process, which then ends the child in an orderly way.
    line = [sys.executable, "-P", "-m", "worker.tool", command, "--json-options", json.dumps(dict(options))]
    return subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def _listen(child: subprocess.Popen[str], on_event: Listener) -> Mapping[str, Any] | None:
    assert child.stdout is not None  # noqa: S101  (asked for as a pipe above)
    with child.stdout as stream:
        for event in _events(stream):
            if event["event"] in {"done", "error"}:
                return event
            on_event(event)
    return None


def _events(stream: IO[str]) -> Iterator[Mapping[str, Any]]:
    for line in stream:
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                yield event


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE_S)
            return


def _failure(command: str, answer: Mapping[str, Any] | None, code: int, stderr: str) -> errors.QuantfleetError:
    message = str(answer.get("message", "")) if answer is not None else ""
    if answer is not None and answer.get("user"):
        return errors.UserError(message)
    missing = _MISSING.search(message) or _MISSING.search(stderr)
    if missing and missing[1] in WORKER_MODULES:
        return errors.UserError(
            f"`{command}` needs the worker's libraries, and {missing[1]!r} is not installed here: "
            "pip install 'quantfleet[worker]'"
        )
    if answer is not None:
        return errors.ChildFailed(f"worker {command}: {message}", trace=str(answer.get("trace", stderr)))
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    last = stderr.strip().splitlines()[-1:] or ["nothing on its stderr"]
    dead = -code if code < 0 else None
    return errors.ChildDied(f"worker {command} {how} without an answer: {last[0]}", signal=dead, stderr=stderr)


def _tail(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()[-_STDERR_TAIL:]


def _ignore(event: Mapping[str, Any]) -> None:
    """Progress that nobody wants to see."""
