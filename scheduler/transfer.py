"""Does a gain measured there hold here? Platforms by pairs, over the cases that both measured (pure).

A case is a model, kind, input, thread count, baseline and strategy; what may be compared `scheduler.across` decides:
gains on the same model, input and made model. Errors are of taking the gain there as the gain here, on log scale, as a
ratio: 1.25 means that one is off by a quarter, whichever way. Part of an error is noise of both measurements; `differ`
counts the cases whose gains differ by more than their intervals explain (`scheduler.ratios`, each test at 5 %, so that
one in twenty differs by chance).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scheduler import across, compare, ratios
from scheduler.across import Across, Column, Where
from scheduler.compare import Comparison

Numbers = Sequence[float] | npt.NDArray[np.float64]

FEWEST = 5
"""Cases that a rank correlation needs: the same order of four by chance alone has p = 2 ÷ 4! > 5 %, of five not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is measured on several platforms."""

    model: str
    kind: str
    input: str | None
    threads: int | None
    baseline: str
    strategy: str

    @property
    def text(self) -> str:
        """`torch/bf16 (b1×l16, 1 thread)`."""
        return f"{self.strategy} ({compare.shape(self)})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Gains:
    """Comparable gains of every platform."""

    columns: tuple[Column, ...]
    rows: Mapping[Case, Mapping[Where, Comparison]]  # each with a gain; the baseline against itself is left out
    left_out: int = 0  # gains on other content than most platforms have

    def cases(self, *columns: Column) -> list[Case]:
        """The cases that all of these platforms measured."""
        return [case for case, found in self.rows.items() if all(column.where in found for column in columns)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What becomes elsewhere of the gains that are significant on one platform."""

    gains: int  # significant gains there
    held: int  # of them, significant gains here
    unshown: int  # neither a gain nor a loss is shown here
    lost: int  # significant losses here


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """How well the gains of two platforms predict one another. None: too few cases."""

    one: Column
    other: Column
    cases: int
    correlation: float | None  # Spearman's, of at least FEWEST cases
    median_error: float | None  # as a ratio, at least 1
    worst_error: float | None
    worst: Case | None
    differ: int  # cases whose gains differ by more than their intervals explain
    tested: int  # cases whose gains have intervals on both sides
    there: Held  # gains on `one`, seen on `other`
    back: Held  # gains on `other`, seen on `one`
    flips: tuple[Case, ...]  # significantly faster than the baseline on one, slower on the other

    @property
    def same_hardware(self) -> bool:
        """Whether only their software differs."""
        return self.one.platform.hardware_key == self.other.platform.hardware_key


@dataclass(frozen=True, kw_only=True, slots=True)
class Flip:
    """A case that gains on some platforms and loses on others."""

    case: Case
    faster: Mapping[str, Comparison] = field(default_factory=dict)  # platform's name → its significant gain
    slower: Mapping[str, Comparison] = field(default_factory=dict)


def gains(beside: Across) -> Gains:
    """The gains that may be compared from platform to platform, without unlike operations."""
    found: dict[Case, dict[Where, Comparison]] = {}
    left_out = 0
    for row, counted in _cells(beside):
        if row.gain is None or row.strategy == row.baseline or row.same_operation is False:
            continue
        left_out += not counted
        if counted:
            found.setdefault(_case(row), {})[(row.hardware_key, row.environment_key)] = row
    return Gains(columns=beside.columns, rows=found, left_out=left_out)


def pairs(known: Gains) -> list[Pair]:
    """Every two platforms, those with cases in common only."""
    cases = list(known.rows)
    sides = [_side(known, column, cases) for column in known.columns]
    both = itertools.combinations(sides, 2)
    return [_pair(one, other, cases, there) for one, other in both if (there := _shared(one, other)).size]


def flips(known: Gains) -> list[Flip]:
    """Every case that is significantly faster than its baseline on one platform and slower on another."""
    names = {column.where: column.name for column in known.columns}
    found = []
    for case, rows in known.rows.items():
        sides = {
            side: {names[where]: row for where, row in rows.items() if across.sign(row) == side}
            for side in ("faster", "slower")
        }
        if all(sides.values()):
            found.append(Flip(case=case, **sides))
    return found


def spearman(one: Numbers, other: Numbers) -> float | None:
    """Rank correlation of two equally long sequences; None for fewer than two values and for constant ones.

    Spearman, "The proof and measurement of association between two things" (1904): Pearson's correlation of the
    ranks, equal values sharing the mean of theirs.
    """
    if len(one) < 2:
        return None
    ranks = [_ranks(values) for values in (one, other)]
    centred = [values - values.mean() for values in ranks]
    norm = math.sqrt(float((centred[0] ** 2).sum()) * float((centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / norm if norm > 0 else None


def _cells(beside: Across) -> Iterable[tuple[Comparison, bool]]:
    for model in beside.models:
        for matrix in model.gains:
            for row in matrix.rows:
                yield from ((cell.found, cell.counted) for cell in row.cells if cell is not None)


def _case(row: Comparison) -> Case:
    return Case(
        model=row.model,
        kind=row.kind,
        input=row.input,
        threads=row.threads,
        baseline=row.baseline,
        strategy=row.strategy,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Side:
    """A platform's gains as arrays, one place for each case: a fleet has a million pairs of gains."""

    column: Column
    logs: npt.NDArray[np.float64]  # of the gains; NaN where the case is missing
    estimates: ratios.Many
    signs: npt.NDArray[np.int8]  # 1: significantly faster than the baseline, -1: slower, 0: neither is shown


def _side(known: Gains, column: Column, cases: Sequence[Case]) -> _Side:
    rows = [known.rows[case].get(column.where) for case in cases]
    signs = [0 if row is None else _SIGNS[across.sign(row)] for row in rows]
    return _Side(
        column=column,
        logs=np.array([math.nan if row is None else math.log(row.gain or 1.0) for row in rows]),
        estimates=ratios.many([None if row is None else ratios.gain(row) for row in rows]),
        signs=np.array(signs, dtype=np.int8),
    )


_SIGNS = {"faster": 1, "slower": -1, None: 0}


def _shared(one: _Side, other: _Side) -> npt.NDArray[np.intp]:
    """Places of the cases that both measured."""
    return np.flatnonzero(~np.isnan(one.logs) & ~np.isnan(other.logs))


def _pair(one: _Side, other: _Side, cases: Sequence[Case], there: npt.NDArray[np.intp]) -> Pair:
    a, b = one.logs[there], other.logs[there]
    errors = np.abs(a - b)
    worst = int(errors.argmax())
    tests = ratios.differ(one.estimates.at(there), other.estimates.at(there))
    signs, others = one.signs[there], other.signs[there]
    return Pair(
        one=one.column,
        other=other.column,
        cases=len(there),
        correlation=spearman(a, b) if len(there) >= FEWEST else None,
        median_error=math.exp(float(np.median(errors))),
        worst_error=math.exp(float(errors[worst])),
        worst=cases[there[worst]],
        differ=sum(tests),
        tested=len(tests),
        there=_held(signs, others),
        back=_held(others, signs),
        flips=tuple(cases[place] for place in there[signs * others < 0]),
    )


def _held(there: npt.NDArray[np.int8], here: npt.NDArray[np.int8]) -> Held:
    seen = here[there > 0]
    return Held(gains=len(seen), held=int((seen > 0).sum()), unshown=int((seen == 0).sum()), lost=int((seen < 0).sum()))


def _ranks(values: Numbers) -> npt.NDArray[np.float64]:
    """Ranks from 1, ties sharing their mean."""
    found = np.asarray(values, dtype=np.float64)
    _, group, counts = np.unique(found, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: npt.NDArray[np.float64] = (ends - (counts - 1) / 2)[group]
    return means
