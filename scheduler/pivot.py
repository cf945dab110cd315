"""Comparisons with one axis of the matrix on the columns, and everything else on the rows (pure).

A row may be read from column to column where its cells speak of the same content, as far as the axis itself does not
change it: of several contents the one that most columns have counts, the others are marked `digest`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scheduler import across, labels
from scheduler.axes import AXES, INPUT_FIELDS
from scheduler.compare import Comparison
from storage import metrics, records

_INPUT = re.compile(
    r"b(?P<batch>\d+)×(?P<length>l\d+|dataset)(?:/(?P<padding>[^ ,]+))?(?P<against>(?: vs [^,]+)?)"
    r"(?:, (?P<instances>\d+) instances?)?(?P<tail>.*)"
)
"""The label of `storage.records.Case`."""

_PLACE = ("hardware", "environment", "model", "kind", "baseline")
"""Fields that make a table of their own."""

_CONTENT: Mapping[str, frozenset[str]] = {
    **{name: frozenset({"input_digest"}) for name in ("input", "padding", "batch", "length", "instances")},
    "model": frozenset({"model_digest", "made_digest", "input_digest"}),
    "strategy": frozenset({"made_digest"}),
}
"""Axis → the digests that it changes by itself."""

_DIGESTS = ("model_digest", "made_digest", "input_digest")

Fields = Mapping[str, Hashable]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A comparison, whether or not it has a number."""

    found: Comparison
    counted: bool  # it has a gain, on the content that most columns of its row have


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One case but for the axis; a second row of a case holds what a column has besides."""

    label: str
    cells: tuple[Cell | None, ...]  # one for each column
    low: float | None  # least counted gain; None where fewer than two count
    high: float | None
    flips: bool  # counted gains: significantly above 1 in one column, below in another


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Everything that shares what is not on the columns, sections or rows."""

    title: str
    columns: tuple[str, ...]
    sections: tuple[tuple[str, tuple[Row, ...]], ...]  # heading, rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Pivot:
    """All tables, and how many comparisons have nothing on this axis."""

    axis: str
    tables: tuple[Table, ...]
    without: int


def pivot(rows: Iterable[Comparison], axis: str, platforms: Iterable[records.Platform]) -> Pivot:
    """Tables with a key of `AXES` on the columns; rows, sections and columns in the order in which they first come.

    Columns of numbers are sorted. Comparisons without a time (an accuracy only) are left out, and so are those that
    have nothing on this axis, which are counted.
    """
    timed = [(row, fields(row)) for row in rows if row.input is not None]
    has = [(row, known) for row, known in timed if _value(axis, known) is not None]
    named = _names([row for row, _ in has], axis, list(platforms))
    groups: dict[Hashable, list[tuple[Comparison, Fields]]] = {}
    for row, known in has:
        groups.setdefault(_key(known, _PLACE, axis), []).append((row, known))
    tables = tuple(_table(axis, group, named) for group in groups.values())
    return Pivot(axis=axis, tables=tables, without=len(timed) - len(has))


def fields(row: Comparison) -> Fields:
    """A case, taken apart as far as axes need it; an operation's label stays whole, as its `tail`."""
    match = _INPUT.fullmatch(row.input or "") if row.kind != "tensor" else None
    parts: dict[str, Hashable] = dict.fromkeys(INPUT_FIELDS)
    if match is None:
        parts["tail"] = row.input
    else:
        length = match["length"]
        parts |= {"batch": int(match["batch"]), "length": int(length[1:]) if length != "dataset" else length}
        parts |= {"padding": (match["padding"] or "longest") + match["against"], "tail": match["tail"] or None}
        parts["instances"] = int(match["instances"]) if match["instances"] else None
    where = {"hardware": row.hardware_key, "environment": row.environment_key}
    case = {"model": row.model, "kind": row.kind, "baseline": row.baseline}
    return {**where, **case, **parts, "threads": row.threads, "strategy": row.strategy}


def _value(axis: str, known: Fields) -> Hashable:
    found = tuple(known[name] for name in AXES[axis])
    return None if all(one is None for one in found) else found


def _key(known: Fields, names: Sequence[str], axis: str) -> Hashable:
    return tuple(known[name] for name in names if name not in AXES[axis])


def _table(axis: str, group: Sequence[tuple[Comparison, Fields]], named: Mapping[tuple[str, str], str]) -> Table:
    values = sorted(dict.fromkeys(_value(axis, known) for _, known in group), key=_order)
    if named:  # machines and software have no order of their own, and rows come in that of their keys
        values.sort(key=lambda value: _heading(axis, value, group, named))
    sections: dict[str, dict[str, list[tuple[Comparison, Fields]]]] = {}
    for row, known in group:
        shape = _shape(known, axis)
        heading, label = ("", shape) if axis == "strategy" else (shape, row.strategy)
        sections.setdefault(heading, {}).setdefault(label, []).append((row, known))
    return Table(
        title=_title(*group[0], axis, named),
        columns=tuple(_heading(axis, value, group, named) for value in values),
        sections=tuple(
            (heading, tuple(row for label, part in labelled.items() for row in _rows(axis, label, part, values)))
            for heading, labelled in sections.items()
        ),
    )


def _order(value: Hashable) -> tuple[bool, float]:
    """Numbers by size, before words in the order in which they come."""
    (first, *more) = value if isinstance(value, tuple) else (value,)
    number = isinstance(first, int) and not more
    return not number, first if number and isinstance(first, int) else 0


def _rows(
    axis: str, label: str, part: Sequence[tuple[Comparison, Fields]], values: Sequence[Hashable]
) -> Iterator[Row]:
    left: dict[Hashable, list[Comparison]] = {}
    for row, known in part:
        left.setdefault(_value(axis, known), []).append(row)
    while any(left.values()):
        found = [left[value].pop(0) if left.get(value) else None for value in values]
        usual = _usual([_content(row, axis) for row in found if row is not None and row.gain is not None])
        yield _row(label, [None if row is None else _cell(row, axis, usual) for row in found])


def _cell(row: Comparison, axis: str, usual: Hashable) -> Cell:
    return Cell(found=row, counted=row.gain is not None and _content(row, axis) == usual)


def _row(label: str, cells: Sequence[Cell | None]) -> Row:
    counted = [cell.found for cell in cells if cell is not None and cell.counted]
    gains = [row.gain for row in counted if row.gain is not None]
    return Row(
        label=label,
        cells=tuple(cells),
        low=min(gains) if len(gains) > 1 else None,
        high=max(gains) if len(gains) > 1 else None,
        flips={"faster", "slower"} <= {across.sign(row) for row in counted},
    )


def _content(row: Comparison, axis: str) -> Hashable:
    return tuple(getattr(row, name) for name in _DIGESTS if name not in _CONTENT.get(axis, ()))


def _usual(contents: Sequence[Hashable]) -> Hashable:
    """What most have, the first of equals; None where several differ and none is there twice."""
    (what, count), *more = Counter(contents).most_common(2) or [(None, 0)]
    return what if count > 1 or not more else None


def _shape(known: Fields, axis: str) -> str:
    """What is left of input and threads, as a heading: `b1×l16, 2 instances, 1 thread`."""
    gone = AXES[axis]
    has = {name: known[name] for name in (*INPUT_FIELDS, "threads") if name not in gone and known[name] is not None}
    stem = [f"b{has['batch']}"] if "batch" in has else []
    stem += [f"l{has['length']}" if isinstance(has["length"], int) else str(has["length"])] if "length" in has else []
    padding = f"/{has['padding']}" if has.get("padding", "longest") != "longest" else ""
    parts = ["×".join(stem) + padding] if stem or padding else []
    parts += [metrics.counted(_int(has["instances"]), "instance")] if "instances" in has else []
    parts += [str(has["tail"]).removeprefix(", ").strip()] if "tail" in has else []
    parts += [metrics.counted(_int(has["threads"]), "thread")] if "threads" in has else []
    return ", ".join(parts)


def _int(value: Hashable) -> int:
    return value if isinstance(value, int) else 0


def _heading(
    axis: str, value: Hashable, group: Sequence[tuple[Comparison, Fields]], named: Mapping[tuple[str, str], str]
) -> str:
    row = next(row for row, known in group if _value(axis, known) == value)
    if axis == "input":
        return row.input or ""
    if axis in {"hardware", "environment"}:
        return named[row.hardware_key, row.environment_key]
    (one,) = value if isinstance(value, tuple) else (value,)
    words = {"threads": "thread", "instances": "instance"}
    if axis in words:
        return metrics.counted(_int(one), words[axis])
    return {"batch": f"b{one}", "length": f"l{one}" if isinstance(one, int) else str(one)}.get(axis, str(one))


def _title(row: Comparison, known: Fields, axis: str, named: Mapping[tuple[str, str], str]) -> str:
    """`minilm on EPYC 9B14, gain over torch/fp32`, without what is on the columns."""
    gone = AXES[axis]
    what = "" if "model" in gone else f"{known['model']} "
    where = "" if "hardware" in gone else f"on {labels.short_cpu(row.cpu)}"
    software = (
        "" if "environment" in gone else f" (hardware {row.hardware_key[:8]}, software {row.environment_key[:8]})"
    )
    over = "gain" if "baseline" in gone else f"gain over {row.baseline}"
    kind = "" if row.kind == "latency" else f"{row.kind}, "
    return f"{what}{where}{software}: {kind}{over}".lstrip(": ")


def _names(rows: Sequence[Comparison], axis: str, platforms: Sequence[records.Platform]) -> dict[tuple[str, str], str]:
    """Hardware and environment key → heading: names of machines, or what tells one's software apart."""
    if axis not in {"hardware", "environment"}:
        return {}
    here = {(row.hardware_key, row.environment_key) for row in rows}
    known = [one for one in platforms if (one.hardware_key, one.environment_key) in here]
    found = {where: where[1][:8] for where in here}
    for group in [known] if axis == "hardware" else _by_hardware(known):
        told = labels.labels(group)
        for one in group:
            lines = told[one.key] if axis == "hardware" else told[one.key][1:] or (one.environment_key[:8],)
            found[one.hardware_key, one.environment_key] = "\n".join(lines)
    return found


def _by_hardware(platforms: Sequence[records.Platform]) -> list[list[records.Platform]]:
    groups: dict[str, list[records.Platform]] = {}
    for one in platforms:
        groups.setdefault(one.hardware_key, []).append(one)
    return list(groups.values())
