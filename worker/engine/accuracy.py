"""A model's predictions over labelled rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from worker.engine import inputs, sessions

TELL_EVERY_S = 0.5
"""Seconds between two reports of progress, at least."""


def predict(
    session: sessions.Session, path: Path, batch: int, tell: Callable[[int, int], None]
) -> tuple[list[int], list[int]]:
    """Predicted and right class indices, row by row, in the order of the dataset.

    Rows go `batch` at a time and are padded to the longest of their call, as a service would do it; activations
    that are quantized call by call make the batch part of the result.
    """
    rows = inputs.load_rows(path)
    total, told = len(rows.tokens), time.monotonic()
    predictions: list[int] = []
    for start in range(0, total, batch):
        call = rows.tokens.call(range(start, min(start + batch, total)))
        predictions += session.logits(call).argmax(axis=1).tolist()
        if time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            tell(len(predictions), total)
    tell(total, total)
    return predictions, rows.labels.tolist()
