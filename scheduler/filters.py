"""Which results a person wants to see; a value that names nothing is an error with the nearest name (pure)."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from scheduler import labels
from storage import errors
from storage.views import StudyName, StudyView


class Row(Protocol):
    """What results and comparisons have in common."""

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def strategy(self) -> str: ...  # noqa: D102
    @property
    def cpu(self) -> str | None: ...  # noqa: D102
    @property
    def hardware_key(self) -> str | None: ...  # noqa: D102
    @property
    def environment_key(self) -> str | None: ...  # noqa: D102
    @property
    def threads(self) -> int | None: ...  # noqa: D102
    @property
    def input(self) -> str | None: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """None: everything. Patterns are shell globs (`onnxruntime/*`), compared without case."""

    model: str | None = None  # pattern over names in the study
    strategy: str | None = None  # pattern over normal forms
    hardware: str | None = None  # pattern over CPU and host names, part of a CPU's name, or start of a key
    threads: int | None = None  # asked for
    input: str | None = None  # pattern over labels, or over what stands before a label's first comma; x means ×
    state: str | None = None  # done, unsupported, …

    def select(self, rows: Iterable[R]) -> list[R]:
        """The rows that fit; QueryError when there are rows and a value, or all values together, fit none."""
        every = list(rows)
        kept = every
        for name, test, known in self._tests():
            wanted = getattr(self, name)
            if wanted is None or not every:
                continue
            if not any(test(row) for row in every):
                raise errors.QueryError(_unknown(name, wanted, [word for row in every for word in known(row)]))
            kept = [row for row in kept if test(row)]
        if every and not kept:
            raise errors.QueryError("no result fits all of these filters together; leave one out")
        return kept

    def _tests(self) -> Sequence[tuple[str, Callable[[Row], bool], Callable[[Row], list[str]]]]:
        return (
            ("model", lambda row: matches(self.model, row.model), lambda row: [row.model]),
            ("strategy", lambda row: matches(self.strategy, row.strategy), lambda row: [row.strategy]),
            ("hardware", self._on_hardware, _machine),
            ("threads", lambda row: row.threads == self.threads, _threads),
            ("input", self._of_input, lambda row: [row.input] if row.input else []),
            ("state", lambda row: row.state == self.state, lambda row: [row.state]),
        )

    def kept(self, rows: Iterable[R]) -> list[R]:
        """The rows that fit, be it none."""
        tests = [test for name, test, _ in self._tests() if getattr(self, name) is not None]
        return [row for row in rows if all(test(row) for test in tests)]

    def _of_input(self, row: Row) -> bool:
        labels_ = [] if row.input is None else [row.input, row.input.partition(",")[0]]
        return any(matches(self.input, text) for label in labels_ for text in (label, label.replace("×", "x")))

    def _on_hardware(self, row: Row) -> bool:
        wanted = (self.hardware or "").lower()
        names = _machine(row)
        keys = (row.hardware_key, row.environment_key)
        return (
            any(matches(wanted, name) for name in names)
            or any(wanted in name for name in _cpu_names(row))
            or (len(wanted) >= 4 and any((key or "").startswith(wanted) for key in keys))
        )


def matches(pattern: str | None, text: str) -> bool:
    """Whether a glob fits a name, without case; None fits all."""
    return pattern is None or fnmatch.fnmatchcase(text.lower(), pattern.lower())


def choice(option: str, value: str | None, known: Sequence[str]) -> str | None:
    """An option's value if it is one of the known words; QueryError with the nearest otherwise."""
    if value is None or value in known:
        return value
    raise errors.QueryError(_unknown(option, value, known))


def study(option: str, value: str | None, known: Sequence[StudyName | StudyView]) -> None:
    """QueryError with the nearest for a study that is neither the name nor the id of a known one."""
    if value not in {one.id for one in known}:
        choice(option, value, [one.name for one in known])


def hosts(row: Any) -> tuple[str, ...]:
    """Host names of a result (`host`) or a comparison (`hosts`)."""
    many: tuple[str, ...] = getattr(row, "hosts", None) or tuple(filter(None, [getattr(row, "host", None)]))
    return many


def _cpu_names(row: Row) -> list[str]:
    """In full, and as the columns of a comparison are headed."""
    return [row.cpu.lower(), labels.short_cpu(row.cpu).lower()] if row.cpu else []


def _machine(row: Row) -> list[str]:
    return [name for name in (row.cpu, *hosts(row)) if name]


def _threads(row: Row) -> list[str]:
    return [] if row.threads is None else [str(row.threads)]


def _unknown(name: str, value: object, known: Iterable[str]) -> str:
    words = sorted(set(known))
    shown = ", ".join(words[:8]) + (", …" if len(words) > 8 else "")
    return f"--{name}: nothing is called {str(value)!r}{errors.nearest(str(value), words)} (there is {shown or 'none'})"
