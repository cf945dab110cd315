"""Rows into an empty database as fast as each kind of database takes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import psycopg
import sqlalchemy as sa

from storage import database, tables


class Sink(Protocol):
    """Takes rows of a table, with values in the order of its columns."""

    def add(self, table: sa.Table, found: Iterable[Sequence[Any]]) -> None:
        """Store rows."""

    def add_legs(self, found: Iterable[tuple[str, Sequence[Sequence[Any]]]]) -> None:
        """Store legs: a job's id, and the values of its rows but for it."""

    def close(self) -> None:
        """Everything is there, and the database knows how much of what it has."""


class SqliteSink(Sink):
    """Into a file, without a thought for a crash meanwhile."""

    def __init__(self, address: str) -> None:
        self._file = str(database.sqlite_file(database.parse(address)))
        self._db = sqlite3.connect(self._file, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -2000000", "locking_mode = EXCLUSIVE"):
            self._db.execute(f"PRAGMA {pragma}")

    def add(self, table: sa.Table, found: Iterable[Sequence[Any]]) -> None:
        """In one transaction."""
        marks = ", ".join("?" * len(table.c))
        self._db.execute("BEGIN")
        self._db.executemany(f"INSERT INTO {table.name} ({_names(table)}) VALUES ({marks})", found)  # noqa: S608
        self._db.execute("COMMIT")

    def add_legs(self, found: Iterable[tuple[str, Sequence[Sequence[Any]]]]) -> None:
        """As other rows."""
        self.add(tables.sample, ((job_id, *leg) for job_id, legs in found for leg in legs))

    def close(self) -> None:
        """Back to a log beside the file, as the program has it."""
        self._db.close()
        again = sqlite3.connect(self._file)
        again.execute("PRAGMA journal_mode = WAL")
        again.close()


class PostgresSink(Sink):
    """By COPY; foreign keys are not looked up for each row."""

    def __init__(self, address: str) -> None:
        url = database.parse(address).set(drivername="postgresql").render_as_string(hide_password=False)
        self._db = psycopg.connect(url, autocommit=True)
        self._db.execute("SET session_replication_role = replica")
        self._db.execute("SET synchronous_commit = off")

    def add(self, table: sa.Table, found: Iterable[Sequence[Any]]) -> None:
        """In one COPY."""
        flags = [number for number, column in enumerate(table.c) if isinstance(column.type, sa.Boolean)]
        with self._db.cursor() as cursor, cursor.copy(_copy(table)) as copy:
            for row in found:
                values = list(row)
                for number in flags:
                    values[number] = bool(values[number])
                copy.write_row(values)

    def add_legs(self, found: Iterable[tuple[str, Sequence[Sequence[Any]]]]) -> None:
        """In one COPY, of lines that are made once for all jobs that share legs."""
        lines: dict[int, list[bytes]] = {}
        with self._db.cursor() as cursor, cursor.copy(_copy(tables.sample)) as copy:
            for job_id, legs in found:
                if id(legs) not in lines:
                    lines[id(legs)] = [_line(leg) for leg in legs]
                key = job_id.encode()
                copy.write(b"".join(key + tail for tail in lines[id(legs)]))

    def close(self) -> None:
        """With statistics, as autovacuum would make them in a while."""
        self._db.execute("VACUUM (ANALYZE)")
        self._db.close()


def _names(table: sa.Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.c)


def _copy(table: sa.Table) -> bytes:
    return f"COPY {table.name} ({_names(table)}) FROM STDIN".encode()


def _line(leg: Sequence[Any]) -> bytes:
    """A row as COPY's text, after its first column."""
    texts = (
        "\\N" if value is None else f"\\\\x{value.hex()}" if isinstance(value, bytes) else str(value) for value in leg
    )
    return f"\t{chr(9).join(texts)}\n".encode()


def sink(address: str) -> Sink:
    """The one for an address."""
    return SqliteSink(address) if address.startswith("sqlite") else PostgresSink(address)
