"""A query in SQL that can only read, on either database.

SQLite: the file is opened for reading, `PRAGMA query_only` is on, and an authorizer allows nothing but reading.
Postgres: a read-only transaction that is rolled back, a bounded time, and a cursor: the server's own grammar lets a
cursor hold one SELECT, WITH or VALUES and nothing that changes data.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import carets, errors, sql_views, tables
from storage.database import Database
from storage.driver_errors import driver_error

TIMEOUT_S = 60.0
"""A query that takes longer is given up."""

READS = frozenset({"select", "with", "values"})
"""What a query may begin with."""

_STEPS = 20_000
"""SQLite looks at the clock after so many steps of its machine: some milliseconds."""

_CURSOR = "DECLARE quantfleet_answer NO SCROLL CURSOR FOR "
_BLANK = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_UNKNOWN = re.compile(r"""no such (?:column|table): (?:\w+\.)?([\w$]+)|(?:column|relation) "?(?:\w+\.)?([\w$]+)"?""")
_NEAR = re.compile(r'near "([^"]+)"|no such \w+: ([\w.$]+)')
_PRAGMAS = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a query gave."""

    columns: tuple[str, ...]  # each name once: a second `count` is `count_2`
    rows: tuple[tuple[Any, ...], ...]  # None, bool, int, float, str, bytes; lists and dicts from Postgres' JSON
    more: bool  # there are rows beyond the limit


def ask(db: Database, query: str, *, limit: int | None = None, timeout_s: float = TIMEOUT_S) -> Answer:
    """The answer to one query, at most `limit` rows of it.

    Raises QueryError for what does not read, is no SQL, names nothing, or takes too long.
    """
    _require_reading(query)
    answer = _ask_sqlite if db.dialect == "sqlite" else _ask_postgres
    with db.read() as connection:
        try:
            names, rows = answer(connection, query, limit, timeout_s)
        finally:
            _roll_back(connection)
    kept = rows if limit is None else rows[:limit]
    plain = tuple(tuple(map(_plain, row)) for row in kept)
    return Answer(columns=_once(names), rows=plain, more=len(rows) > len(kept))


def _roll_back(connection: sa.Connection) -> None:
    transaction = connection.get_transaction()
    if transaction is not None:
        transaction.rollback()


def _require_reading(query: str) -> None:
    blank = _BLANK.match(query)
    start = blank.end() if blank else 0
    word = re.match(r"\w*", query[start:])
    first = word.group().lower() if word else ""
    if not query[start:].strip():
        raise errors.QueryError("there is no query; for example quantfleet sql 'SELECT strategy, gain FROM v_gain'")
    if first not in READS and query[start] != "(":
        raise _refused(f"it begins with {first.upper() or repr(query[start])}")


def _refused(why: str) -> errors.QueryError:
    return errors.QueryError(
        f"`quantfleet sql` only reads, and this is refused: {why}. A query begins with SELECT, WITH or VALUES; nothing "
        "was changed"
    )


def _late(timeout_s: float) -> errors.QueryError:
    return errors.QueryError(f"the query took longer than {timeout_s:g} s and was given up; --timeout allows more")


Rows = tuple[Sequence[str], list[Any]]


def _ask_sqlite(connection: sa.Connection, query: str, limit: int | None, timeout_s: float) -> Rows:
    driver: Any = connection.connection.driver_connection
    with _guarded(driver, timeout_s), _told_by_sqlite(query, timeout_s, connection):
        cursor = driver.execute(query)
        rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit + 1)
        return [column[0] for column in cursor.description or ()], rows


@contextmanager
def _guarded(driver: sqlite3.Connection, timeout_s: float) -> Iterator[None]:
    deadline = time.monotonic() + timeout_s
    driver.execute("PRAGMA query_only = ON")
    driver.set_authorizer(_authorize)
    driver.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
        driver.set_authorizer(None)
        driver.execute("PRAGMA query_only = OFF")  # the connection goes back to whoever opened the database


def _authorize(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    """Whether SQLite may do one thing while it prepares a query."""
    del database, trigger
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and second != "load_extension":
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS:  # as functions: SELECT * FROM pragma_table_info('job')
        return sqlite3.SQLITE_OK
    if (action, first) == (sqlite3.SQLITE_UPDATE, "sqlite_master"):
        # SQLite asks this when it meets json_each and its like for the first time, and writes nothing then; a real
        # change of this table it refuses by itself, and query_only and the way the file was opened do besides
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


@contextmanager
def _told_by_sqlite(query: str, timeout_s: float, connection: sa.Connection) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as exc:
        name, said = str(getattr(exc, "sqlite_errorname", "")), str(exc)
        if name in ("SQLITE_AUTH", "SQLITE_READONLY") or "not authorized" in said:
            raise _refused("it would change the database, or reach beyond it") from exc
        if name == "SQLITE_INTERRUPT":
            raise _late(timeout_s) from exc
        known = driver_error(exc, connection.engine.url)
        raise known or _wrong(query, said, _place(query, said)) from exc


def _place(query: str, said: str) -> int | None:
    """Where in a query the word stands that SQLite complains of; None where that is not certain."""
    found = _NEAR.search(said)
    word = next(filter(None, found.groups()), "") if found else ""
    places = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", query)] if word else []
    return places[0] if len(places) == 1 else None


def _ask_postgres(connection: sa.Connection, query: str, limit: int | None, timeout_s: float) -> Rows:
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, _told_by_postgres(query, timeout_s, connection):
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.execute(f"SET LOCAL statement_timeout = {max(1, round(1000 * timeout_s))}")
        # binary: the protocol that takes one statement only, so that nothing can end this transaction and go on
        cursor.execute((_CURSOR + query).encode(), binary=True, prepare=False)
        cursor.execute("FETCH " + ("ALL" if limit is None else f"FORWARD {limit + 1}") + " FROM quantfleet_answer")
        return [column.name for column in cursor.description or ()], cursor.fetchall()


@contextmanager
def _told_by_postgres(query: str, timeout_s: float, connection: sa.Connection) -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.Error as exc:
        state, said = exc.sqlstate or "", exc.diag.message_primary or str(exc)
        if state == "25006" or "data-modifying" in said:
            raise _refused("it would change the database") from exc
        if state == "57014":
            raise _late(timeout_s) from exc
        if "multiple commands" in said:
            raise errors.QueryError("one query at a time: leave out what follows the first `;`") from exc
        if "bind message" in said:
            raise errors.QueryError("a query has no parameters here ($1): write the values into it") from exc
        if state[:2] in ("0A", "21", "22", "25", "42", "54"):
            position = exc.diag.statement_position
            raise _wrong(query, said, int(position) - 1 - len(_CURSOR) if position else None) from exc
        known = driver_error(exc, connection.engine.url)
        if known is None:
            raise
        raise known from exc


def _wrong(query: str, said: str, at: int | None) -> errors.QueryError:
    """What the database says, with the nearest name, and the place where it is known."""
    said = next(iter(said.splitlines()), "no reason given")
    unknown = _UNKNOWN.search(said)
    near = _nearest(next(filter(None, unknown.groups()), "")) if unknown else ""
    if at is None:
        return errors.QueryError(f"the database cannot answer: {said}{near}")
    line_start = query.rfind("\n", 0, at) + 1
    line = query[line_start:].split("\n", 1)[0]
    word = re.match(r"[\w.]+", query[at:])
    place = carets.under(line, at - line_start, len(word.group()) if word else 1)
    return errors.QueryError(f"the database cannot answer: {said}{near}\n{place}")


def _nearest(word: str) -> str:
    views = dict.fromkeys(sql_views.VIEWS)
    columns = dict.fromkeys(name for view in sql_views.VIEWS for name in sql_views.columns(view))
    return errors.nearest(word, [*views, *columns, *tables.metadata.tables]) or (
        "; `quantfleet sql` without a query lists views and columns"
    )


def _once(names: Sequence[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for name in names:
        number, own = 1, name
        while own in found:
            number += 1
            own = f"{name}_{number}"
        found[own] = None
    return tuple(found)


def _plain(value: Any) -> Any:
    """A driver's value as plain data, alike for both; what is no number is None."""
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            return None
        return int(value) if int(value.as_tuple().exponent) >= 0 else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (memoryview, bytearray)):
        return bytes(value)
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, uuid.UUID)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
