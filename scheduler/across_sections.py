"""The order in which a model's gains are read: thread counts that platforms share, then what each has alone (pure).

Words such as `physical` give another number of threads on each machine. Matrices of one platform only are set beside
one another instead of below one another; nothing is said of their rows, for the threads are not the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scheduler.across import Cell, Matrix, Model, Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Gains of one input over one baseline, on one thread count or on each platform's own."""

    input: str | None
    baseline: str
    threads: tuple[int | None, ...]  # one for each column; None: no such case there
    rows: tuple[Row, ...]

    @property
    def shared(self) -> int | None:
        """The thread count, where it is one."""
        counts = {count for count in self.threads if count is not None}
        return counts.pop() if len(counts) == 1 else None


def sections(model: Model) -> list[Section]:
    """Every cell of the model's gains, by input and baseline: shared thread counts first."""
    found: dict[tuple[str | None, str, bool], list[Section]] = {}
    for matrix in model.gains:
        # threads that nobody told are never set beside a number of threads
        place = (matrix.input, matrix.baseline, matrix.threads is None)
        found.setdefault(place, []).append(_section(matrix, len(model.columns)))
    return [section for group in found.values() for section in _packed(group)]


def _section(matrix: Matrix, columns: int) -> Section:
    has = [any(row.cells[number] for row in matrix.rows) for number in range(columns)]
    threads = tuple(matrix.threads if here else None for here in has)
    return Section(input=matrix.input, baseline=matrix.baseline, threads=threads, rows=matrix.rows)


def _packed(group: Iterable[Section]) -> list[Section]:
    several: list[Section] = []
    packed: list[Section] = []
    for section in group:
        if _width(section) > 1:
            several.append(section)
            continue
        place = next((n for n, other in enumerate(packed) if _disjoint(section, other)), len(packed))
        packed[place : place + 1] = [_beside(packed[place], section) if place < len(packed) else section]
    return [*several, *packed]


def _width(section: Section) -> int:
    return sum(count is not None for count in section.threads)


def _disjoint(one: Section, other: Section) -> bool:
    return all(a is None or b is None for a, b in zip(one.threads, other.threads, strict=True))


def _beside(left: Section, right: Section) -> Section:
    threads = tuple(b if a is None else a for a, b in zip(left.threads, right.threads, strict=True))
    return replace(left, threads=threads, rows=_merged(left.rows, right.rows))


def _merged(left: Sequence[Row], right: Sequence[Row]) -> tuple[Row, ...]:
    """Rows of the same strategy, the first with the first, side by side."""
    rows = list(left)
    free = set(range(len(rows)))
    for row in right:
        place = next((n for n in sorted(free) if rows[n].strategy == row.strategy), None)
        if place is None:
            rows.append(row)
        else:
            free.discard(place)
            cells: tuple[Cell | None, ...] = tuple(a or b for a, b in zip(rows[place].cells, row.cells, strict=True))
            rows[place] = replace(rows[place], cells=cells)
    return tuple(rows)
