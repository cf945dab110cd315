"""What is sent to a database, and how it finds that: for tests of query plans, and for benchmarks that print them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
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


def exchanges(db: Database, act: Callable[[], object]) -> int:
    """How often Postgres is waited for meanwhile: each exchange ends with its ReadyForQuery, in libpq's own trace."""
    with db._engine.connect() as connection, tempfile.TemporaryFile() as trace:
        driver: Any = connection.connection.driver_connection
        connection.close()  # it is the pool's only one, and so the one that is used next
        driver.pgconn.trace(trace.fileno())
        act()
        driver.pgconn.untrace()
        trace.seek(0)
        return trace.read().count(b"ReadyForQuery")


def plan(db: Database, statement: str, parameters: Any) -> str:
    """The database's own words, a step a line."""
    explain = "EXPLAIN QUERY PLAN " if db.dialect == "sqlite" else "EXPLAIN "
    with db.transaction() as connection:
        return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + statement, parameters))
