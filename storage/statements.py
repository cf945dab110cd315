"""Statements that several modules need, alike on both databases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

CHUNK = 500
"""Rows or values in one statement: both databases bound the number of parameters."""

T = TypeVar("T")


def insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, in the connection's dialect."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def insert_missing(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those rows whose `key` is not there yet."""
    for chunk in chunks(rows):
        connection.execute(insert(connection, table).on_conflict_do_nothing(index_elements=["key"]), chunk)


def chunks(items: Sequence[T], size: int = CHUNK) -> Iterable[Sequence[T]]:
    """The items in pieces that one statement can take."""
    return (items[start : start + size] for start in range(0, len(items), size))
