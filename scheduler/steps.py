"""Named steps of a waterfall: what each changes, read from a command line or a file, and where it leads (pure).

A step is `NAME=WHAT`; WHAT is one or several words: a strategy, `padding=longest`, `threads=physical`,
`instances=auto`, `batch=8`, `length=dataset`, `kind=throughput`. What a step does not name stays as before it. A
strategy that begins with `+` keeps the transforms so far: `+onnxruntime/int8-dynamic`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scheduler import cases, study_lines
from scheduler.shapes import Shape
from storage import errors, records, strategies

KINDS = ("latency", "throughput", "server")
"""Kinds of jobs whose gains and rates can make a chain."""

_VALUES: Mapping[str, tuple[str, str]] = {
    "padding": (r"longest|sorted|(max|buckets):[1-9]\d{0,5}", "longest, max:N, sorted or buckets:N"),
    "batch": (r"[1-9]\d{0,5}", "a number of rows"),
    "length": (r"[1-9]\d{0,5}|dataset", "a number of tokens, or dataset"),
    "threads": (r"[1-9]\d{0,3}|physical|logical", "a number, physical or logical"),
    "instances": (r"[1-9]\d{0,3}|auto", "a number, or auto: as many as fill the cores"),
    "kind": ("|".join(KINDS), ", ".join(KINDS)),
}
"""Field → what it accepts, as a pattern and in words."""

FIELDS = ("strategy", *_VALUES)
"""What a step can change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A configuration on one machine."""

    kind: str
    strategy: str  # normal form
    shape: Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A change of configuration with a name."""

    name: str
    changes: Mapping[str, str] = field(default_factory=dict)  # some of FIELDS → the value, as it was said

    @property
    def text(self) -> str:
        """What it changes, as it would be written."""
        words = (value if name == "strategy" else f"{name}={value}" for name, value in self.changes.items())
        return " ".join(words)


def parse(text: str) -> Step:
    """`NAME=WHAT` as a step; QueryError, with the nearest word, for what is none."""
    name, equals, what = (part.strip() for part in text.partition("="))
    if not equals or not name or not what:
        raise errors.QueryError(f"step {text!r}: a step is NAME=WHAT, such as 'int8=torch/int8-dynamic'")
    return Step(name=name, changes=changes(what, f"step {name!r}"))


def changes(what: str, place: str) -> dict[str, str]:
    """Words as field → value; QueryError, which begins with `place`, for what no step can change."""
    found: dict[str, str] = {}
    for word in what.split():
        key, value = _word(word, place)
        if key in found:
            raise errors.QueryError(f"{place}: {key} is given twice")
        found[key] = value
    return found


def read(path: Path) -> list[Step]:
    """The steps of a YAML file, `waterfall: {NAME: WHAT, …}`; an error of study files or QueryError otherwise."""
    document = study_lines.read(path)
    found: Any = document.data.get("waterfall")
    if not isinstance(found, Mapping) or not found:
        raise errors.QueryError(f"{path}: expected `waterfall:` with a name and a change for each step")
    known = [(str(name), str(what), document.line(("waterfall", name))) for name, what in found.items()]
    return [Step(name=name, changes=changes(what, f"{path}:{line}: step {name!r}")) for name, what, line in known]


def check(steps: Iterable[Step]) -> None:
    """QueryError where two steps have one name."""
    names: set[str] = set()
    for step in steps:
        if step.name in names:
            raise errors.QueryError(f"two steps are called {step.name!r}; each needs a name of its own")
        names.add(step.name)


def applied(step: Step, before: Point, hardware: records.Hardware) -> Point:
    """Where a step leads on a machine, whose words (`physical`, `auto`) it gives their numbers.

    Several processes need jobs that measure several: from a latency, `instances` leads to throughput.
    """
    said = step.changes
    strategy = _strategy(said.get("strategy"), before.strategy)
    shape = dataclasses.replace(before.shape, **_shape(said, before.shape, hardware))
    several = before.kind == "latency" and shape.instances > 1
    kind = said.get("kind", "throughput" if several else before.kind)
    return Point(kind=kind, strategy=strategy, shape=shape)


def _word(word: str, place: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if equals and re.fullmatch(r"[A-Za-z_]+", key):
        if key == "strategy":
            return key, _checked(value, place)
        if key not in _VALUES:
            near = errors.nearest(key, FIELDS)
            raise errors.QueryError(f"{place}: no step changes {key!r}{near} (there are {', '.join(FIELDS)})")
        pattern, accepts = _VALUES[key]
        if not re.fullmatch(pattern, value):
            raise errors.QueryError(f"{place}: {key} is {accepts}, not {value!r}")
        return key, value
    return "strategy", _checked(word, place)


def _checked(text: str, place: str) -> str:
    """A strategy in its one spelling, its leading `+` kept."""
    try:
        parsed = str(strategies.parse(text.removeprefix("+")))
    except errors.StrategyError as exc:
        raise errors.QueryError(f"{place}: {exc}") from exc
    return f"+{parsed}" if text.startswith("+") else parsed


def _strategy(said: str | None, before: str) -> str:
    if said is None:
        return before
    if not said.startswith("+"):
        return said
    so_far = strategies.parse(before).steps
    return "+".join([*map(str, so_far), said.removeprefix("+")])


def _shape(said: Mapping[str, str], before: Shape, hardware: records.Hardware) -> dict[str, Any]:
    found: dict[str, Any] = {name: _number(said[name]) for name in ("batch", "length") if name in said}
    found |= {"padding": said["padding"]} if "padding" in said else {}
    threads = before.threads
    if "threads" in said:
        (threads,) = cases.thread_counts([_number(said["threads"])], hardware)
        found["threads"] = threads
    if "instances" in said:
        (found["instances"],) = cases.instance_counts([_number(said["instances"])], threads, hardware)
    return found


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text
