"""Digests of results with their samples and predictions: the same measurement has the same one on every database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from storage.archive import Row

COMPARED = ("result", "sample", "prediction")
"""The tables that hold a result."""


def of_jobs(rows: Mapping[str, Iterable[Row]], bare: Collection[str] = ()) -> dict[str, str]:
    """Digest of each job's result with its samples and predictions, whatever the job is called; of the `bare` ones
    without their samples, which were pruned on one side."""
    digests: dict[str, Any] = {}
    for table in COMPARED:
        for row in rows[table]:
            if table == "sample" and row["job_id"] in bare:
                continue
            digest = digests.setdefault(row["job_id"], hashlib.sha256())
            content = {name: _canonical(value) for name, value in row.items() if name != "job_id" and value is not None}
            digest.update(json.dumps([table, content], sort_keys=True).encode())
    return {job_id: digest.hexdigest() for job_id, digest in digests.items()}


def _canonical(value: Any) -> Any:
    """A value as every database gives it back: Postgres' JSON does not tell 1e16 from 10000000000000000."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (bytes, memoryview)):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Mapping):
        return {name: _canonical(one) for name, one in value.items()}
    return [_canonical(one) for one in value] if isinstance(value, (list, tuple)) else value
