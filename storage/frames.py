"""Results as pandas frames and as Parquet (extra `[frames]`).

::

    from storage import frames
    from storage.database import Database

    with Database.open("sqlite:///quantfleet.db", readonly=True) as db:
        gains = frames.results(db, kind="latency", states="done")
        hosts = frames.sql(db, "SELECT host, cpu, results FROM v_host")
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from storage import columns, errors, queries, sql_query
from storage.columns import Kind
from storage.database import Database
from storage.views import ResultView

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

DERIVED = ("floor_s", "limit_share", "bound", "baseline_limit_share")
"""Fields that the database does not hold: `scheduler.limits.results` fills them, `of` then shows them."""


def results(db: Database, **filters: Any) -> pd.DataFrame:
    """One row for each job that has come to its end, filtered as by `storage.queries.results`.

    Columns are the fields of `storage.views.ResultView`, with their units; without `document` and `DERIVED`.
    """
    return of(queries.results(db, **filters)).drop(columns=list(DERIVED))


def of(views: Iterable[ResultView]) -> pd.DataFrame:
    """Results that one has as a frame: whole numbers and texts may be `<NA>`, other numbers NaN, lists stay lists."""
    kinds = columns.kinds(ResultView)
    rows = [{name: getattr(view, name) for name in kinds} for view in views]
    return _frame(table(kinds, kinds, rows))


def sql(db: Database, query: str, *, limit: int | None = None) -> pd.DataFrame:
    """The answer to a query that only reads; raises as `storage.sql_query.ask`."""
    answer = sql_query.ask(db, query, limit=limit)
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    return _frame(table(answer.columns, {}, rows))


def table(names: Iterable[str], kinds: Mapping[str, Kind], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table; a column without a kind takes the type of its values."""
    pyarrow = _library("pyarrow")
    types = {
        "text": pyarrow.string(),
        "integer": pyarrow.int64(),
        "real": pyarrow.float64(),
        "flag": pyarrow.bool_(),
        "texts": pyarrow.list_(pyarrow.string()),
    }
    found = {name: (kinds.get(name), [row.get(name) for row in rows]) for name in names}
    return pyarrow.table(
        {
            name: _inferred(pyarrow, values)
            if kind is None
            else pyarrow.array([_fitting(kind, value) for value in values], type=types[kind])
            for name, (kind, values) in found.items()
        }
    )


def write_parquet(made: pa.Table, sink: IO[bytes]) -> None:
    """The table as a Parquet file."""
    _library("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(made, sink)


def _frame(made: pa.Table) -> pd.DataFrame:
    pandas, pyarrow = _library("pandas"), _library("pyarrow")
    types = {pyarrow.int64(): pandas.Int64Dtype(), pyarrow.string(): pandas.StringDtype()}
    types[pyarrow.bool_()] = pandas.BooleanDtype()
    found: pd.DataFrame = made.to_pandas(types_mapper=types.get)
    return found


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise errors.SettingsError(
            f"frames and Parquet need {name}, which is not installed here: pip install 'quantfleet[frames]'"
        ) from exc


def _fitting(kind: Kind, value: Any) -> Any:
    if kind == "integer" and isinstance(value, str):
        return None  # a length that is "dataset": the input's label tells
    return list(value) if kind == "texts" and value is not None else value


def _inferred(pyarrow: Any, values: list[Any]) -> Any:
    plain = [json.dumps(value) if isinstance(value, (list, dict)) else value for value in values]
    try:
        return pyarrow.array(plain)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        return pyarrow.array([None if value is None else str(value) for value in plain])
