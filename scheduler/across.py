"""Comparisons of several platforms, side by side: strategy × hardware, and what forbids reading along a row (pure).

A row may be read from column to column where its cells speak of the same content: the same model and input for a
gain, the same model and dataset for an accuracy, and the same model that the strategy's transforms made. Of several
contents the one that most columns have counts; the others are shown, marked `digest`, and left out of what is said of
the row. Gains against different baselines never share a
matrix. Software may differ between columns, for it often cannot be helped: that is marked at the column, and said.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from scheduler import compare, labels
from scheduler.compare import Comparison
from storage import foreign, records

MARKS = {
    "software": "not that of most columns, or no two columns share theirs; the list above says in what it differs",
    "flips": "significantly faster than the baseline on one column, slower on another",
}
"""Marks of columns and rows, besides `compare.MARKS` of cells."""

K = TypeVar("K", bound=Hashable)

Kind = Literal["gain", "accuracy"]

Where = tuple[str, str]
"""Hardware and environment key."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)  # a key of dicts by itself: platforms hold dicts
class Column:
    """A platform: one hardware with one environment."""

    platform: records.Platform
    label: tuple[str, ...]  # lines of a heading, see labels.labels
    hosts: tuple[str, ...]  # that results are of, sorted
    marks: tuple[str, ...] = ()  # "software", or "foreign"

    @property
    def name(self) -> str:
        """The label on one line: `Xeon 8581C (16 GiB)`."""
        first, *more = self.label
        return f"{first} ({', '.join(more)})" if more else first

    @property
    def where(self) -> Where:
        """What comparisons of this column carry."""
        return self.platform.hardware_key, self.platform.environment_key

    @property
    def libraries(self) -> frozenset[tuple[str, str]]:
        """The software that a column is marked for: all but the kernel, which every machine has another of."""
        facts = labels.software(self.platform.environment)
        return frozenset((name, value) for name, value in facts.items() if name != labels.KERNEL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A strategy on a platform: a comparison, whether or not it has a number."""

    found: Comparison
    value: float | None  # the gain or the accuracy
    counted: bool  # it has a value, on the content that most columns have
    marks: tuple[str, ...]  # keys of compare.MARKS


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A strategy on every platform. A second row of a strategy holds what a platform has on further contents."""

    strategy: str
    cells: tuple[Cell | None, ...]  # one for each column; None: no result there
    low: float | None  # least counted number; None where fewer than two count
    high: float | None
    flips: bool  # counted gains: significantly above 1 on one column, below on another


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """Strategies × platforms of one model, for one baseline and, where they are gains, one input and thread count."""

    kind: Kind
    baseline: str
    threads: int | None
    input: str | None
    batch: int | None
    length: int | str | None
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Everything that is known of one model's name, on those platforms that have results of it."""

    name: str
    columns: tuple[Column, ...]
    gains: tuple[Matrix, ...]
    accuracies: tuple[Matrix, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Across:
    """Every selected comparison: on platforms, or of jobs that no platform ever took."""

    columns: tuple[Column, ...]
    models: tuple[Model, ...]
    nowhere: tuple[Comparison, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Number:
    """What a kind of matrix reads of a comparison."""

    kind: Kind
    value: Callable[[Comparison], float | None]
    content: Callable[[Comparison], Hashable]  # what must be the same along all rows
    made: Callable[[Comparison], Hashable]  # what must be the same along a strategy's row besides
    marks: Callable[[Comparison], Iterable[str]]


_GAIN = _Number(
    kind="gain",
    value=lambda row: row.gain,
    content=lambda row: (row.model_digest, row.input_digest),
    made=lambda row: (row.made_digest,),
    marks=lambda row: row.marks,
)
_ACCURACY = _Number(
    kind="accuracy",
    value=lambda row: row.accuracy.accuracy if row.accuracy else None,
    content=lambda row: (row.accuracy.model_digest, row.accuracy.dataset_digest) if row.accuracy else None,
    made=lambda row: (row.accuracy.made_digest if row.accuracy else None,),
    marks=lambda row: (),
)


def across(rows: Iterable[Comparison], platforms: Iterable[records.Platform]) -> Across:
    """Matrices of the rows; models, matrices and strategies in the order in which the rows first name them.

    `platforms`: at least those that the rows are of; a row of an unknown one is `nowhere`.
    """
    found = list(rows)
    known = {(one.hardware_key, one.environment_key): one for one in platforms}
    placed = [row for row in found if _where(row) in known]
    columns = _columns(placed, known)
    models = tuple(_model(name, part, columns) for name, part in _grouped(placed, lambda row: row.model).items())
    return Across(columns=columns, models=models, nowhere=tuple(row for row in found if _where(row) not in known))


def _where(row: Comparison) -> Where:
    return row.hardware_key, row.environment_key


def _grouped(rows: Iterable[Comparison], key: Callable[[Comparison], K]) -> dict[K, list[Comparison]]:
    groups: dict[K, list[Comparison]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _columns(rows: Iterable[Comparison], known: Mapping[Where, records.Platform]) -> tuple[Column, ...]:
    """The platforms of the rows by their labels, with the hosts that measured."""
    hosts: dict[Where, set[str]] = {}
    for row in rows:
        measured = row.accuracy.host if row.accuracy else None
        hosts.setdefault(_where(row), set()).update({*row.hosts, *([measured] if measured else [])})
    named = labels.labels(known[where] for where in hosts)
    columns = [
        Column(platform=known[where], label=named[known[where].key], hosts=tuple(sorted(names)))
        for where, names in hosts.items()
    ]
    columns.sort(key=lambda column: (column.label, column.where))
    own = [column for column in columns if not foreign.told_by(column.platform)]
    usual = _usual([(column.where, column.libraries) for column in own])
    return tuple(dataclasses.replace(column, marks=_column_marks(column, usual)) for column in columns)


def _column_marks(column: Column, usual: Hashable) -> tuple[str, ...]:
    if foreign.told_by(column.platform):
        return (foreign.FLAG,)
    return () if column.libraries == usual else ("software",)


def _usual(found: Iterable[tuple[Where, Hashable]]) -> Hashable:
    """What most columns have, the leftmost of equals; None when there are several and each is one column's only."""
    owners: dict[Hashable, set[Where]] = {}
    for where, what in found:
        owners.setdefault(what, set()).add(where)
    counts = Counter({what: len(columns) for what, columns in owners.items()})
    what, count = max(counts.items(), key=lambda item: item[1], default=(None, 0))
    return what if count > 1 or len(counts) == 1 else None


def _model(name: str, rows: Sequence[Comparison], columns: Sequence[Column]) -> Model:
    own = tuple(column for column in columns if any(_where(row) == column.where for row in rows))
    measured = _grouped((row for row in rows if row.input is not None), lambda row: row.input).values()
    return Model(
        name=name,
        columns=own,
        gains=tuple(matrix for part in measured for matrix in _matrices(part, own, _GAIN)),
        accuracies=tuple(_matrices(_accuracies(rows), own, _ACCURACY)),
    )


def _accuracies(rows: Iterable[Comparison]) -> list[Comparison]:
    """One row for each accuracy, the baseline's first: a strategy's stands in its rows of all inputs and threads."""
    once = {(_where(row), row.strategy, row.baseline, row.accuracy): row for row in rows if row.accuracy}
    numbered = {key[:3] for key in once if key[3].accuracy is not None}
    # where another content of the model has a number, its absence here says nothing more
    found = [row for key, row in once.items() if key[3].accuracy is not None or key[:3] not in numbered]
    return sorted(found, key=lambda row: row.strategy != row.baseline)


def _matrices(rows: Sequence[Comparison], columns: Sequence[Column], number: _Number) -> Iterator[Matrix]:
    """Matrices by baseline and threads; what content is usual is decided once for all of them."""
    order = [column.where for column in columns]
    counts = _counts(rows, order, number)
    gain = number.kind == "gain"
    for part in _grouped(rows, lambda row: (row.threads if gain else None, row.baseline)).values():
        yield Matrix(
            kind=number.kind,
            baseline=part[0].baseline,
            threads=part[0].threads if gain else None,
            input=part[0].input if gain else None,
            batch=part[0].batch if gain else None,
            length=part[0].length if gain else None,
            rows=tuple(_rows(part, order, number, counts)),
        )


def _counts(rows: Iterable[Comparison], order: Sequence[Where], number: _Number) -> Callable[[Comparison], bool]:
    """Whether a comparison has a number, on the content and, of its strategy, the made model that most columns have."""
    place = order.index
    numbered = sorted((row for row in rows if _is_own(row, number)), key=lambda row: place(_where(row)))
    content = _usual([(_where(row), number.content(row)) for row in numbered])
    made = {
        strategy: _usual([(_where(row), number.made(row)) for row in part if number.content(row) == content])
        for strategy, part in _grouped(numbered, lambda row: row.strategy).items()
    }

    def counts(row: Comparison) -> bool:
        alike = number.content(row) == content and number.made(row) == made.get(row.strategy)
        return alike and _is_own(row, number)

    return counts


def _is_own(row: Comparison, number: _Number) -> bool:
    """Whether it has a number, and of our own measuring."""
    return number.value(row) is not None and foreign.FLAG not in row.marks


def _rows(
    rows: Sequence[Comparison], order: Sequence[Where], number: _Number, counts: Callable[[Comparison], bool]
) -> Iterator[Row]:
    for strategy, part in _grouped(rows, lambda row: row.strategy).items():
        left = _grouped(sorted(part, key=lambda row: not counts(row)), _where)
        while any(left.values()):
            cells = [_cell(left[where].pop(0), number, counts) if left.get(where) else None for where in order]
            yield _row(strategy, cells, number.kind)


def _cell(row: Comparison, number: _Number, counts: Callable[[Comparison], bool]) -> Cell:
    value, counted, own = number.value(row), counts(row), _is_own(row, number)
    # a comparison is marked `digest` where its own platform has several contents; here all platforms are looked at
    marks = {*number.marks(row)} - {"digest"} | ({"digest"} if own and not counted else set())
    return Cell(found=row, value=value, counted=counted, marks=tuple(mark for mark in compare.MARKS if mark in marks))


def _row(strategy: str, cells: Sequence[Cell | None], kind: Kind) -> Row:
    counted = [cell for cell in cells if cell and cell.counted]
    values = [cell.value for cell in counted if cell.value is not None]
    several = len(values) > 1
    return Row(
        strategy=strategy,
        cells=tuple(cells),
        low=min(values) if several else None,
        high=max(values) if several else None,
        flips=kind == "gain" and {"faster", "slower"} <= {sign(cell.found) for cell in counted},
    )


def sign(row: Comparison) -> Literal["faster", "slower"] | None:
    """Which side of the baseline a gain is shown to be on; the baseline itself is on neither."""
    if not row.significant or row.gain is None or row.strategy == row.baseline:
        return None
    return "faster" if row.gain > 1 else "slower"
