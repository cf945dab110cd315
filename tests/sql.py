"""What is sent to a database, and how it finds that: for tests of query plans, and for benchmarks that print them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy.event

from storage.database import Database


@contextmanager
def heard(db: Database) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that is sent meanwhile, with its parameters."""
    said: list[tuple[str, Any]] = []

    def listen(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        said.append((statement, parameters))

    sqlalchemy.event.listen(db._engine, "before_cursor_execute", listen)
    try:
        yield said
    finally:
        sqlalchemy.event.remove(db._engine, "before_cursor_execute", listen)


def plan(db: Database, statement: str, parameters: Any) -> str:
    """The database's own words, a step a line."""
    explain = "EXPLAIN QUERY PLAN " if db.dialect == "sqlite" else "EXPLAIN "
    with db.transaction() as connection:
        return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + statement, parameters))
