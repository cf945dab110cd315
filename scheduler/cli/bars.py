"""A bar on the error stream for what takes long, where somebody sees it: on a terminal, and gone when it is done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

T = TypeVar("T")

Tell = Callable[[int, int | None], None]
"""How many are done, and of how many; None: nobody knows."""

WIDTH = 30
"""Columns of a bar itself."""


@contextlib.contextmanager
def counted(what: str, total: int | None = None, unit: str = "") -> Iterator[Tell]:
    """A bar that counts: `reading samples ━━━━━━ 120/300`."""
    with bar(TextColumn("{task.description}"), BarColumn(WIDTH), MofNCompleteColumn(), TextColumn(unit)) as shown:
        task = shown.add_task(what, total=total)

        def tell(done: int, of: int | None) -> None:
            shown.update(task, completed=done, total=of)

        yield tell


@contextlib.contextmanager
def added(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """The same, told how many more are done."""
    done = 0
    with counted(what, total, unit) as tell:

        def more(count: int) -> None:
            nonlocal done
            done += count
            tell(done, total)

        yield more


def over(things: Sequence[T], what: str, *, least: int) -> Iterable[T]:
    """The things one by one under a bar; with fewer than `least` of them there is none."""
    if len(things) < least:
        yield from things
        return
    with counted(what, len(things)) as tell:
        for done, thing in enumerate(things):
            tell(done, len(things))
            yield thing


def bar(*columns: ProgressColumn, refresh_per_second: float = 10) -> Progress:
    """A bar of these columns; it draws nothing where the error stream is no terminal."""
    console = Console(stderr=True)
    return Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        refresh_per_second=refresh_per_second,
    )
