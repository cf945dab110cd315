"""Fresh databases: SQLite is migrated once for a test process and copied, Postgres is emptied and handed out again."""

from __future__ import annotations

import functools
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from storage import database

TEMPLATE = "quantfleet_template"

FAREWELL_S = 0.5
"""What the sessions of a test may take to be gone after it."""

SHAPE = """
    SELECT md5(string_agg(line, '|' ORDER BY line)), (SELECT string_agg(version_num, ',') FROM alembic_version)
    FROM (
        SELECT concat_ws(' ', c.relname, c.relkind, a.attname, a.atttypid, a.attnotnull, a.attnum) AS line
        FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace
        UNION ALL SELECT viewname || definition FROM pg_views WHERE schemaname = 'public'
        UNION ALL SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint
        UNION ALL SELECT array_to_string(relacl, ',') FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT nspname FROM pg_namespace WHERE left(nspname, 3) <> 'pg_'
        UNION ALL SELECT array_to_string(setconfig, ',') FROM pg_db_role_setting
        WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    ) AS lines
"""
"""Everything that a test could change of a database beside its rows."""

Connect = Callable[[str], AbstractContextManager[psycopg.Connection[Any]]]
"""A session with autocommit on one of a server's databases."""


def sqlite(file: Path) -> str:
    """The address of a fresh, migrated database in a new file; what `database.upgrade` makes, in a millisecond."""
    file.write_bytes(_migrated())
    return f"sqlite:///{file}"


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory(prefix="qf-") as folder:
        file = Path(folder) / "quantfleet.db"
        database.upgrade(f"sqlite:///{file}")
        assert [one.name for one in file.parent.iterdir()] == [file.name], "something of it is in its log still"
        return file.read_bytes()


class Fresh:
    """Fresh, migrated databases of one Postgres server.

    Making and dropping one costs a quarter of a second, emptying one a fiftieth. One that a test left with another
    shape, or with a session still in it, is dropped.
    """

    def __init__(self, connect: Connect, address_of: Callable[[str], str]) -> None:
        self._connect = connect
        self._address_of = address_of
        self._free: list[str] = []
        self._execute(f"CREATE DATABASE {TEMPLATE}")
        database.upgrade(address_of(TEMPLATE))
        with connect(TEMPLATE) as session:
            self._shape = session.execute(SHAPE.encode()).fetchone()

    @contextmanager
    def database(self) -> Iterator[str]:
        """The address of an empty one."""
        name = self._free.pop() if self._free else self._made()
        yield self._address_of(name)
        if self._emptied(name):
            self._free.append(name)
        else:
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _made(self) -> str:
        name = f"t_{uuid.uuid4().hex}"
        # the files are copied rather than logged: quicker for a small template
        self._execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        return name

    def _emptied(self, name: str) -> bool:
        try:
            with self._connect(name) as session:
                if not _alone(session) or session.execute(SHAPE.encode()).fetchone() != self._shape:
                    return False
                query = "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
                row = session.execute(f"{query} AND tablename <> 'alembic_version'".encode()).fetchone()
                assert row is not None
                session.execute(f"TRUNCATE {row[0]} RESTART IDENTITY".encode())
        except psycopg.Error:
            return False
        return True

    def _execute(self, statement: str) -> None:
        with self._connect("postgres") as session:
            session.execute(statement.encode())


def _alone(session: psycopg.Connection[Any]) -> bool:
    """Whether nobody else is in the database, after a moment."""
    query = (
        b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        b" AND backend_type = 'client backend'"
    )
    deadline = time.monotonic() + FAREWELL_S
    while session.execute(query).fetchone() != (0,):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
