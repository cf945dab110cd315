"""What the command line asks of the worker's side: `python -m worker.tool COMMAND --json-options '{…}'`.

Prints JSON lines on stdout: `{"event": "progress", …}` any number of times, then `{"event": "done", "result": …}` or
`{"event": "error", "message": …, "user": …, "trace": …}`. Exit code 0, 2 for what a person can mend, 1 otherwise.
Whatever libraries print goes to stderr. Commands: `probe`, `doctor`, `train`, `inspect`, `weigh`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from storage import errors, keys, records, strategies
from worker import environment, hardware, kinship

Options = Mapping[str, Any]
Tell = Callable[[Mapping[str, Any]], None]


def probe(options: Options, tell: Tell) -> Mapping[str, Any]:
    """This host's hardware and environment with their keys; no options."""
    platform = keys.platform(hardware.probe(os.environ), environment.probe(os.environ))
    return {
        "hardware": records.to_document(platform.hardware),
        "environment": records.to_document(platform.environment),
        "hardware_key": platform.hardware_key,
        "environment_key": platform.environment_key,
        "platform_key": platform.key,
    }


def doctor(options: Options, tell: Tell) -> Mapping[str, Any]:
    """The findings on this host; options are settings (`database`, `broker`, …) that stand before the environment."""
    from storage import settings
    from worker import fitness  # with Celery and SQLAlchemy: every run asks `probe`, which needs neither

    findings = fitness.fitness(settings.load(**options), os.environ)
    return {"findings": [dataclasses.asdict(finding) for finding in findings]}


def train(options: Options, tell: Tell) -> Mapping[str, Any]:
    """Train a small classifier; options are the fields of `TrainOptions`."""
    # libgomp spins 300,000 times for a thread that another process keeps from its core: 8 times slower, seen here
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    from worker.engine import train as training

    known = [field.name for field in dataclasses.fields(training.TrainOptions)]
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        raise errors.SettingsError(f"training has no option {unknown!r}{errors.nearest(unknown, known)}")
    return _plain(training.train(training.TrainOptions(**options), tell))


def inspect(options: Options, tell: Tell) -> Mapping[str, Any]:
    """What a model is made of, and a strategy makes of it; options `model`: a ModelRef's document, and `strategy`."""
    strategy = strategies.parse(options["strategy"])
    reason = strategies.unsupported(strategy, hardware.probe(os.environ), environment.probe(os.environ))
    if reason is not None:
        raise errors.StrategyError(reason)
    from storage import settings
    from worker.engine import operations

    model = records.from_document(records.ModelRef, options["model"])
    return operations.inspect(model, strategy, settings.load().cache)


def weigh(options: Options, tell: Tell) -> Mapping[str, Any]:
    """A weight before and after quantization; options `model`, `layer`, and `picture`: a PNG file's path, or None."""
    from worker.engine import operations

    model = records.from_document(records.ModelRef, options["model"])
    picture = options.get("picture")
    return operations.weigh(model, options["layer"], None if picture is None else Path(picture))


COMMANDS: Mapping[str, Callable[[Options, Tell], Mapping[str, Any]]] = {
    "probe": probe,
    "doctor": doctor,
    "train": train,
    "inspect": inspect,
    "weigh": weigh,
}


def answer(command: str, options: Options, stdout: TextIO) -> int:
    """Run one command, write its events to `stdout`, and return the exit code."""

    def emit(event: str, content: Mapping[str, Any]) -> None:
        stdout.write(json.dumps({"event": event, **content}, default=_encode) + "\n")
        stdout.flush()

    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = COMMANDS[command](options, lambda content: emit("progress", content))
        emit("done", {"result": result})
    except errors.UserError as exc:
        emit("error", {"message": str(exc), "user": True})
        return 2
    except Exception as exc:  # the process that asked hears of every error, whatever it is
        message = str(exc) if isinstance(exc, errors.QuantfleetError) else f"{type(exc).__name__}: {exc}"
        emit("error", {"message": message, "user": False, "trace": traceback.format_exc()})
        return 1
    return 0


def main() -> None:
    """Entry of `python -m worker.tool`; ends when the process that asked ends."""
    kinship.die_with(os.getppid())
    parser = argparse.ArgumentParser(prog="python -m worker.tool", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--json-options", type=json.loads, default={}, metavar="JSON", help="an object")
    given = parser.parse_args()
    sys.exit(answer(given.command, given.json_options, sys.stdout))


def _plain(record: Any) -> Mapping[str, Any]:
    plain: Mapping[str, Any] = dataclasses.asdict(record)
    return plain


def _encode(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} does not go into JSON")


if __name__ == "__main__":
    main()
