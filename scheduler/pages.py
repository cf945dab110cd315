"""Pages of what is too much for one: things that belong together stay together (pure)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from storage import errors

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One page of several."""

    most: int  # after so many things a page takes no further group
    number: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut(Generic[T]):
    """What stands on a page."""

    kept: list[T]
    pages: int  # there are; 1 where there is nothing
    left: int  # things on other pages


def cut(items: Sequence[T], group: Callable[[T], Hashable], page: Page) -> Cut[T]:
    """A page of items whose groups stand together; QueryError for a page that is not there."""
    starts = [0]
    for number in range(1, len(items)):
        if number - starts[-1] >= page.most and group(items[number]) != group(items[number - 1]):
            starts.append(number)
    if not 1 <= page.number <= len(starts):
        raise errors.QueryError(f"there is no page {page.number} of {len(starts)}")
    begin, end = starts[page.number - 1], [*starts, len(items)][page.number]
    return Cut(kept=list(items[begin:end]), pages=len(starts), left=len(items) - (end - begin))
