"""Rows of a file of studies, judged: whether somebody could read what they hold, and nobody would be given it to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from storage import measurements, records
from storage.archive import Row


def job(row: Row) -> None:
    """Raises for a job that could be given to a worker, or that nobody could read."""
    if row["state"] not in records.TERMINAL:
        raise ValueError(f"a job is {row['state']}: only what has come to its end travels")
    if row["kind"] not in measurements.BY_KIND:
        raise ValueError(f"there is no kind {row['kind']!r}")
    records.from_document(records.Case, row["case_document"])
    records.from_document(records.Budget, row["budget_document"])


def result(row: Row, job: Row) -> None:
    """Raises for a result that its job cannot have, or that nobody could read."""
    if job["state"] != "done":
        raise ValueError("a job that is not done has a result")
    rows: Row = {"predictions": [], "labels": []} if job["kind"] == "accuracy" else {}  # they have their own table
    if "origin" not in row["document"]:  # which another tool's result has: its document is of no kind of ours
        records.from_document(measurements.BY_KIND[job["kind"]], {**row["document"], **rows})
    if not all(isinstance(row[name], list) for name in ("flags", "notes")):
        raise ValueError("flags and notes are lists")


def hardware(row: Row) -> None:
    """Raises for a machine that nobody could read."""
    records.from_document(records.Hardware, row["document"])


def environment(row: Row) -> None:
    """Raises for software that nobody could read."""
    records.from_document(records.Environment, row["document"])


def pruned(row: Row) -> None:
    """Raises for what is left of samples where it is not of sessions and spreads, each a list."""
    if not all(isinstance(row["document"][name], list) for name in ("sessions", "spreads")):
        raise ValueError("sessions and spreads are lists")


CHECKS: Mapping[str, Callable[[Row], None]] = {
    "hardware": hardware,
    "environment": environment,
    "job": job,
    "pruned": pruned,
}
"""Table → the check of its rows; a result's needs its job besides."""

UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError)
"""What a check raises."""
