"""Predictions of many accuracy jobs, read a few hundred at a time and kept packed: memory stays bounded."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Iterable

import sqlalchemy as sa

from storage import plain, tables
from storage.database import Database
from storage.views import Predictions

BLOCK = 250
"""Jobs whose predictions are read together."""

KEPT = 40
"""Blocks that stay, those that were asked for last: 10,000 jobs of 3,000 rows are ten megabytes."""

UNPACKED = 64
"""Arrays that stay unpacked, those that were asked for last."""

Packed = dict[str, tuple[bytes, bytes]]


class Answers:
    """Looks predictions up by job; jobs that stand near one another in `job_ids` are read together."""

    def __init__(self, db: Database, job_ids: Iterable[str]) -> None:
        self._db = db
        self._ids = list(job_ids)
        self._place = {job_id: number // BLOCK for number, job_id in enumerate(self._ids)}
        self._blocks: OrderedDict[int, Packed] = OrderedDict()
        # a baseline's answers and the right ones are asked for again with every strategy
        self._array = functools.lru_cache(UNPACKED)(lambda packed: plain.array(packed, "<i4"))

    def __call__(self, job_id: str) -> Predictions | None:
        """The answers of a job and the right ones, as arrays; None without any, and for a job that was not named."""
        number = self._place.get(job_id)
        packed = None if number is None else self._block(number).get(job_id)
        if packed is None:
            return None
        predictions, labels = map(self._array, packed)
        return Predictions(predictions=predictions, labels=labels)  # type: ignore[arg-type]  # arrays are quicker

    def _block(self, number: int) -> Packed:
        if number not in self._blocks:
            self._blocks[number] = self._read(self._ids[number * BLOCK : (number + 1) * BLOCK])
        self._blocks.move_to_end(number)
        if len(self._blocks) > KEPT:
            self._blocks.popitem(last=False)
        return self._blocks[number]

    def _read(self, ids: list[str]) -> Packed:
        table = tables.prediction
        query = sa.select(table.c.job_id, table.c.predictions, table.c.labels).where(table.c.job_id.in_(ids))
        with self._db.read() as connection:
            return {row.job_id: (row.predictions, row.labels) for row in connection.execute(query)}
