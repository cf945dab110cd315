"""Rows as JSON and CSV with stable, flat field names; the unit is the name's end (`_s`, `_bytes`, `_per_s`)."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scheduler.compare import Comparison
from scheduler.paired import Accuracy
from storage import records
from storage.views import ResultView

if TYPE_CHECKING:
    from scheduler.across import Across
    from scheduler.reasons import Difference

_ACCURACY = {
    "accuracy": "accuracy",
    "low": "accuracy_low",
    "high": "accuracy_high",
    "rows": "accuracy_rows",
    "dataset_digest": "dataset_digest",
    "baseline_accuracy": "baseline_accuracy",
    "difference": "accuracy_difference",
    "difference_low": "accuracy_difference_low",
    "difference_high": "accuracy_difference_high",
    "p": "accuracy_p",
    "agreement": "agreement",
    "verdict": "verdict",
    "note": "accuracy_note",
}
"""Field of a paired accuracy → its name in a flat comparison."""

_LATER = (
    *("input_digest", "made_digest", "kind", "instances", "efficiency", "efficiency_low", "efficiency_high"),
    *("cost_per_million", "baseline_cost_per_million", "same_operation", "like_for_like"),
    *("floor_s", "limit_share", "bound", "baseline_limit_share", "joules_per_row", "baseline_joules_per_row"),
    *(f"latency_p{q}_{end}_s" for q in (50, 90, 95) for end in ("low", "high")),
)
"""Fields of a comparison that came later: readers of the CSV may count columns, so these stand behind."""

COMPARISON_FIELDS = (
    *(field.name for field in dataclasses.fields(Comparison) if field.name not in {"accuracy", *_LATER}),
    *_ACCURACY.values(),
    *_LATER,
)
"""Names of a comparison's fields, in the order of CSV columns; described in docs/results.md."""

RESULT_FIELDS = tuple(field.name for field in dataclasses.fields(ResultView) if field.name != "document")
"""Names of a result's fields, in the order of CSV columns; described in docs/results.md."""

SERVICES = ("baseline_service", "strategy_service")
"""What each side of a server did, see `storage.records.Service`."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")
"""A text cell that begins so is run by some spreadsheet (OWASP: "CSV Injection", and ASVS 1.2.10)."""


def flat_comparison(row: Comparison) -> dict[str, Any]:
    """A comparison as plain data under `COMPARISON_FIELDS`."""
    flat = {name: getattr(row, name) for name in COMPARISON_FIELDS if name not in _ACCURACY.values()}
    found = row.accuracy or Accuracy(accuracy=None)
    return flat | {name: getattr(found, field) for field, name in _ACCURACY.items()}


def flat_result(view: ResultView) -> dict[str, Any]:
    """A result as plain data under `RESULT_FIELDS`; a server's with what each side did, which only JSON shows."""
    document = view.document or {}
    served = {name: document[name] for name in SERVICES if name in document}
    return {name: getattr(view, name) for name in RESULT_FIELDS} | served


def as_json(**lists: Iterable[Mapping[str, Any]]) -> str:
    """`{"schema": 1, name: [row, …], …}`; numbers at full precision, absent ones null."""
    document = {"schema": records.SCHEMA_VERSION, **{name: list(rows) for name, rows in lists.items()}}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def comparison_json(rows: Iterable[Comparison], beside: Across | None, told: Iterable[Difference] = ()) -> str:
    """Comparisons one by one, and side by side where there are several platforms; `told`: why gains differ."""
    from scheduler.cli import across_export

    return as_json(
        comparisons=map(flat_comparison, rows),
        across=across_export.matrices(beside) if beside else [],
        platforms=across_export.platforms(beside) if beside else [],
        differences=map(dataclasses.asdict, told),
    )


def as_csv(fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A heading and the rows (RFC 4180); several values in a cell are separated by `; `, absent ones are empty."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(fields)
    writer.writerows([_cell(row[field]) for field in fields] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """Numbers as they are; texts that a spreadsheet would run get an apostrophe, which it shows as text."""
    if isinstance(value, (tuple, list)):
        value = "; ".join(str(item) for item in value)
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value
