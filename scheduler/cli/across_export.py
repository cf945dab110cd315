"""Platforms side by side as plain data for `compare --json`; fields are described in docs/results.md."""

from __future__ import annotations

from typing import Any

from scheduler import across_notes, compare
from scheduler.across import Across, Cell, Column, Matrix, Model
from storage import records


def platforms(found: Across) -> list[dict[str, Any]]:
    """Each column's whole hardware and environment, by its key."""
    return [_platform(column) for column in found.columns]


def matrices(found: Across) -> list[dict[str, Any]]:
    """Each model's gains by input and threads, then its accuracies."""
    return [_matrix(model, one) for model in found.models for one in (*model.gains, *model.accuracies)]


def _platform(column: Column) -> dict[str, Any]:
    """Column, hardware and environment; sizes in bytes or GiB as named."""
    document = records.to_document(column.platform)
    del document["schema"]
    return {"platform_key": document.pop("key"), **column_document(column), **document}


def column_document(column: Column) -> dict[str, Any]:
    """A platform by its keys, label and hosts, and how its column is marked."""
    return {**place_document(column), "marks": list(column.marks)}


def place_document(column: Column) -> dict[str, Any]:
    """A platform by its keys, label and hosts."""
    return {
        "platform_key": column.platform.key,
        "hardware_key": column.platform.hardware_key,
        "environment_key": column.platform.environment_key,
        "label": column.name,
        "cpu": column.platform.hardware.cpu,
        "hosts": list(column.hosts),
    }


def _matrix(model: Model, matrix: Matrix) -> dict[str, Any]:
    return {
        "kind": matrix.kind,
        "model": model.name,
        "baseline": matrix.baseline,
        "threads": matrix.threads,
        "input": matrix.input,
        "batch": matrix.batch,
        "length": matrix.length,
        "columns": [column_document(column) for column in model.columns],
        "rows": [
            {
                "strategy": row.strategy,
                "low": row.low,
                "high": row.high,
                "flips": row.flips,
                "cells": [None if cell is None else _cell(matrix, cell) for cell in row.cells],
            }
            for row in matrix.rows
        ],
        "differences": across_notes.differences(model),
        "software": across_notes.software(model.columns),
    }


def _cell(matrix: Matrix, cell: Cell) -> dict[str, Any]:
    common = {"counted": cell.counted, "marks": list(cell.marks)}
    return {**(_gain(cell.found) if matrix.kind == "gain" else _accuracy(cell.found)), **common}


def _gain(row: compare.Comparison) -> dict[str, Any]:
    return {
        "state": row.state,
        "reason": row.reason,
        "gain": row.gain,
        "gain_low": row.gain_low,
        "gain_high": row.gain_high,
        "significant": row.significant,
        "model_digest": row.model_digest,
        "input_digest": row.input_digest,
        "hosts": list(row.hosts),
        "job_ids": list(row.job_ids),
    }


def _accuracy(row: compare.Comparison) -> dict[str, Any]:
    found = row.accuracy
    if found is None:
        return {}
    return {
        "state": found.state,
        "reason": found.note,
        "accuracy": found.accuracy,
        "accuracy_low": found.low,
        "accuracy_high": found.high,
        "accuracy_difference": found.difference,
        "accuracy_p": found.p,
        "verdict": found.verdict,
        "model_digest": found.model_digest,
        "dataset_digest": found.dataset_digest,
        "hosts": [found.host] if found.host else [],
    }
