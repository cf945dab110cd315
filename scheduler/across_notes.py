"""Sentences about a model's matrices: where signs flip, and where content, baseline or software differ (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from scheduler import across, compare, labels
from scheduler.across import Cell, Column, Matrix, Model, Row
from storage import foreign

UNKNOWN = "unknown"
"""A content whose digest nobody stored."""

Owners = dict[Column, set[str]]
"""Columns that have something, with the hosts that measured it."""


def flips(model: Model) -> list[str]:
    """`torch/bf16: faster than torch/fp32 on A, slower on B (b1×l16, 1 thread)`, once for all such cases."""
    cases: dict[tuple[str, str, tuple[Column, ...], tuple[Column, ...]], list[str]] = {}
    for matrix in model.gains:
        for row in matrix.rows:
            if row.flips:
                sides = (_on_side(row, model.columns, "faster"), _on_side(row, model.columns, "slower"))
                cases.setdefault((row.strategy, matrix.baseline, *sides), []).append(compare.shape(matrix))
    return [
        f"{strategy}: faster than {baseline} on {names(faster)}; slower on {names(slower)}{_why(faster, slower)}"
        f" ({'; '.join(shapes)})"
        for (strategy, baseline, faster, slower), shapes in cases.items()
    ]


def differences(model: Model) -> list[str]:
    """Sentences that name each content and who has it, then the baselines where there are several."""
    gains, accuracies = list(_numbered(model, model.gains)), list(_numbered(model, model.accuracies))
    found = [_differs("the model", _model_digests(gains, accuracies))]
    for label in dict.fromkeys(cell.found.input for _, cell in gains):
        here = [(column, cell) for column, cell in gains if cell.found.input == label]
        found.append(_differs(f"the input {label}", _input_digests(here)))
    found.append(_differs("the dataset", _dataset_digests(accuracies)))
    for strategy in dict.fromkeys(cell.found.strategy for _, cell in gains):
        here = [(column, cell) for column, cell in gains if cell.found.strategy == strategy]
        if any(cell.found.made_digest for _, cell in here):
            found.append(_differs(f"the model of {strategy}", _made_digests(here)))
    found.append(_baselines(gains))
    return [sentence for sentence in found if sentence]


def software(columns: Iterable[Column]) -> list[str]:
    """`torch: 2.13.0 on A, B; 2.12.1 on C` for each fact in which the columns' software differs."""
    own = (column for column in columns if not foreign.told_by(column.platform))  # of others little is known
    return labels.software_differences({column.name: column.platform.environment for column in own})


def names(columns: Iterable[Column]) -> str:
    """Names of columns in a sentence."""
    return ", ".join(column.name for column in columns)


def _on_side(row: Row, columns: Sequence[Column], side: str) -> tuple[Column, ...]:
    pairs = zip(columns, row.cells, strict=True)
    return tuple(column for column, cell in pairs if cell and cell.counted and across.sign(cell.found) == side)


def _why(faster: Sequence[Column], slower: Sequence[Column]) -> str:
    """What else could make the difference, or what alone does."""
    if len({column.platform.hardware_key for column in (*faster, *slower)}) == 1:
        return "; the hardware is the same, its software makes the difference"
    shared = {column.libraries for column in faster} & {column.libraries for column in slower}
    return "" if shared else "; their software differs too"


def _numbered(model: Model, matrices: Iterable[Matrix]) -> Iterator[tuple[Column, Cell]]:
    """Cells of ours that have a number, with their columns."""
    for matrix in matrices:
        for row in matrix.rows:
            for column, cell in zip(model.columns, row.cells, strict=True):
                if cell is not None and cell.value is not None and foreign.FLAG not in cell.marks:
                    yield column, cell


def _model_digests(
    gains: Iterable[tuple[Column, Cell]], accuracies: Iterable[tuple[Column, Cell]]
) -> Iterator[tuple[str | None, Column, Iterable[str]]]:
    for column, cell in gains:
        yield cell.found.model_digest, column, cell.found.hosts
    for column, cell in accuracies:
        if cell.found.accuracy is not None:
            yield cell.found.accuracy.model_digest, column, filter(None, [cell.found.accuracy.host])


def _made_digests(cells: Iterable[tuple[Column, Cell]]) -> Iterator[tuple[str | None, Column, Iterable[str]]]:
    for column, cell in cells:
        yield cell.found.made_digest, column, cell.found.hosts


def _input_digests(cells: Iterable[tuple[Column, Cell]]) -> Iterator[tuple[str | None, Column, Iterable[str]]]:
    for column, cell in cells:
        yield cell.found.input_digest, column, cell.found.hosts


def _dataset_digests(cells: Iterable[tuple[Column, Cell]]) -> Iterator[tuple[str | None, Column, Iterable[str]]]:
    for column, cell in cells:
        if cell.found.accuracy is not None:
            yield cell.found.accuracy.dataset_digest, column, filter(None, [cell.found.accuracy.host])


def _differs(what: str, found: Iterable[tuple[str | None, Column, Iterable[str]]]) -> str | None:
    """`the model differs: 3f2a on A (host big-1); 77b0 on B (host old-1)`; None where all have the same."""
    owners: dict[str, Owners] = {}
    for digest, column, hosts in found:
        owners.setdefault(digest or UNKNOWN, {}).setdefault(column, set()).update(hosts)
    if len(owners) < 2:
        return None
    parts = (f"{digest} on {', '.join(map(_with_hosts, here.items()))}" for digest, here in owners.items())
    return f"{what} differs: {'; '.join(parts)}"


def _with_hosts(owner: tuple[Column, set[str]]) -> str:
    column, hosts = owner
    return f"{column.name} [{', '.join(sorted(hosts))}]" if hosts else column.name


def _baselines(gains: Iterable[tuple[Column, Cell]]) -> str | None:
    owners: dict[str, dict[Column, None]] = {}
    for column, cell in gains:
        owners.setdefault(cell.found.baseline, {})[column] = None
    if len(owners) < 2:
        return None
    parts = (f"{baseline} on {names(here)}" for baseline, here in owners.items())
    return f"gains are taken against several baselines, which never share a row: {'; '.join(parts)}"
