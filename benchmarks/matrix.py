"""A study as one Markdown table: a row a strategy, a column of gains for each thread count and input.

python -m benchmarks.matrix quantfleet.db strategies

A gain whose interval excludes ×1 is bold; `!` marks one that other load disturbed, `~` one whose threads were not those
asked for. Accuracies come with the paired verdict, preparation with what it took when it was really done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from scheduler import compare
from scheduler.compare import Comparison
from storage import metrics, queries
from storage.database import Database

Shape = tuple[int, str]
"""Threads and input label."""


def main() -> None:
    """Write the table of a database's study to standard output."""
    file, study = sys.argv[1:3]
    with Database.open(f"sqlite:///{Path(file).resolve()}", readonly=True) as database:
        views = queries.results(database, study=study)
        rows = compare.compare(views, lambda job_id: queries.predictions(database, job_id), include_disturbed=True)
    prepared = {view.strategy: view.prepare_s for view in views if view.prepare_s is not None}
    sys.stdout.write("\n".join(table(rows, prepared)) + "\n")


def table(rows: Iterable[Comparison], prepared: Mapping[str, float]) -> Iterator[str]:
    """The table's lines."""
    found: dict[str, dict[Shape | None, Comparison]] = {}
    for row in rows:
        shape = None if row.threads is None or row.input is None else (row.threads, row.input)
        found.setdefault(row.strategy, {})[shape] = row
    shapes = sorted(
        {shape for cells in found.values() for shape, row in cells.items() if shape and row.gain}, key=_order
    )
    heads = [f"{label.rpartition('×')[2]}, {metrics.counted(threads, 'thread')}" for threads, label in shapes]
    yield _line(["strategy", *heads, "size", "prepared in", "accuracy", "verdict, paired"])
    yield _line(["---"] * (len(shapes) + 5))
    for strategy, cells in found.items():
        if all(row.state == "cancelled" for row in cells.values()):
            continue
        gains = [_gain(cells.get(shape)) for shape in shapes]
        yield _line([f"`{strategy}`", *gains, *_rest(list(cells.values()), prepared.get(strategy))])


def _order(shape: Shape) -> tuple[int, str, int]:
    threads, label = shape
    return len(label), label, threads


def _gain(row: Comparison | None) -> str:
    if row is None or row.gain is None:
        return "–" if row is None or row.state == "cancelled" else row.state
    text = metrics.ratio(row.gain)
    text = f"**{text}**" if row.significant else text
    band = "" if row.gain_low is None or row.gain_high is None else f" [{row.gain_low:.2f}, {row.gain_high:.2f}]"
    marks = {"disturbed": "!", "threads": "~"}
    return text + band + "".join(sign for mark, sign in marks.items() if mark in row.marks)


def _rest(rows: list[Comparison], prepared_s: float | None) -> list[str]:
    size = next((row.artifact_bytes for row in rows if row.artifact_bytes), None)
    accuracy = next((row.accuracy for row in rows if row.accuracy), None)
    known = accuracy is not None and accuracy.accuracy is not None
    return [
        "–" if size is None else metrics.bytes_(size),
        "–" if prepared_s is None else metrics.seconds(prepared_s),
        f"{accuracy.accuracy:.4f}" if known and accuracy else "–",
        (accuracy.verdict or "–") if accuracy else "–",
    ]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
