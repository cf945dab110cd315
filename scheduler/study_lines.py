"""YAML as a study may use it: plain data, and the line that each value stands on.

Study files may come from strangers, so this reads less than YAML allows: one document of bounded size and
depth, no anchors and aliases (which can blow up), no tags, no key twice. Plain words are read by the narrow
rules of YAML 1.2: `no` and `on` are words, `0123` is text (a revision must not become an octal number).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from storage import errors

MAX_BYTES = 256 * 1024
"""Largest study file."""

MAX_DEPTH = 12
"""Deepest nesting; the deepest field of a study lies at 6."""

Place = tuple[str | int, ...]
"""Where a value lies: keys and indices from the top."""

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?[0-9]*\.[0-9]+([eE][-+]?[0-9]{1,3})?")
_WORDS: Mapping[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """The data of one file with its lines."""

    file: str  # as messages show it
    text: str  # as it was written
    data: dict[str, Any]
    lines: Mapping[Place, int]  # from 1; of a mapping's entry: the line of its key

    def line(self, place: Place) -> int:
        """The line of a place; of the nearest thing around it where the place does not exist."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def message(self, place: Place, text: str) -> str:
        """`file:line: field: text`."""
        field = dotted(place)
        return f"{self.file}:{self.line(place)}: {field}: {text}" if field else f"{self.file}: {text}"


def dotted(place: Place) -> str:
    """A place as people write it: `models.minilm.path`, `strategies[1]`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in place]
    return "".join(parts).removeprefix(".")


def read(path: Path) -> Document:
    """A study file as data with lines; StudyError for what cannot be read or is not allowed."""
    return parse(_text(path), file=str(path))


def parse(text: str, *, file: str) -> Document:
    """YAML text as data with lines; StudyError for what is not allowed, with its line."""
    reader = _Reader(file)
    try:
        data = reader.document(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        hint = "; a value with ${…} goes in quotes" if "${" in "".join(text.splitlines()[line - 1 : line]) else ""
        raise errors.StudyError(f"{file}:{line}: this is not YAML: {exc.problem or exc.context}{hint}") from exc
    except yaml.YAMLError as exc:
        raise errors.StudyError(f"{file}: this is not YAML: {' '.join(str(exc).split())}") from exc
    return Document(file=file, text=text, data=data, lines=reader.lines)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as exc:
        near = errors.nearest(path.name, _neighbours(path.parent))
        raise errors.StudyError(f"there is no study file {path}{near}") from exc
    except OSError as exc:
        raise errors.StudyError(f"cannot read the study file {path}: {exc.strerror}") from exc
    if len(content) > MAX_BYTES:
        raise errors.StudyError(f"{path}: larger than {MAX_BYTES // 1024} kB, which no study file is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise errors.StudyError(f"{path}:{line}: not UTF-8 text") from exc


def _neighbours(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir() if path.suffix in (".yaml", ".yml")]
    except OSError:
        return []


class _Reader:
    """Builds data from parser events, which are flat, so that hostile nesting cannot exhaust the stack."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Place, int] = {}

    def document(self, events: Iterator[yaml.Event]) -> dict[str, Any]:
        content = (event for event in events if not isinstance(event, (yaml.StreamStartEvent, yaml.DocumentEndEvent)))
        if not isinstance(next(content), yaml.DocumentStartEvent):
            raise errors.StudyError(f"{self.file}: the file is empty; expected at least name, models and strategies")
        first = next(content)
        data = self._value(first, content, ())
        if not isinstance(data, dict):
            raise self._error(first, "expected fields such as `name: my-study`, found something else")
        after = next(content)
        if isinstance(after, yaml.DocumentStartEvent):
            raise self._error(after, "a second document; a study is one document")
        return data

    def _value(self, event: yaml.Event, events: Iterator[yaml.Event], place: Place) -> Any:
        self._allowed(event, place)
        self.lines.setdefault(place, _line(event))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, place)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, place)
        return _scalar(event) if isinstance(event, yaml.ScalarEvent) else None

    def _mapping(self, events: Iterator[yaml.Event], place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            self._allowed(event, place)
            if not isinstance(event, yaml.ScalarEvent):
                raise self._error(event, "a field's name is a word, not a list or mapping")
            key = str(event.value)
            if key in found:
                first = self.lines[(*place, key)]
                raise self._error(event, f"{dotted((*place, key))} is given twice (first in line {first})")
            self.lines[(*place, key)] = _line(event)
            found[key] = self._value(next(events), events, (*place, key))
        return found

    def _sequence(self, events: Iterator[yaml.Event], place: Place) -> list[Any]:
        found: list[Any] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            found.append(self._value(event, events, (*place, len(found))))
        return found

    def _allowed(self, event: yaml.Event, place: Place) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise self._error(event, "anchors (&) and aliases (*) are not allowed; a glob goes in quotes")
        tag = getattr(event, "tag", None)
        if tag:
            raise self._error(event, f"tags ({tag}) are not allowed in a study")
        if len(place) > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")

    def _error(self, event: yaml.Event, text: str) -> errors.StudyError:
        return errors.StudyError(f"{self.file}:{_line(event)}: {text}")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _scalar(event: yaml.ScalarEvent) -> Any:
    text = str(event.value)
    if event.style is not None:  # quoted, or a block
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
