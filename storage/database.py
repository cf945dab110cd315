"""One database: SQLite on one machine, Postgres for a fleet; engine, transactions, and what differs.

Errors of the drivers are translated here and nowhere else (`translated`). An open `Database` belongs to the
process that opened it: open it again after a fork.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import sqlalchemy.event
import sqlalchemy.exc

from storage import addresses, errors, plain, tables
from storage.driver_errors import translated

BUSY_TIMEOUT = 30.0
"""Seconds that a writer waits for another writer before DatabaseBusy."""

IDLE_S = 20.0
"""After so many seconds between two statements of a transaction Postgres ends it: a host that was paused or lost its
power there must not keep its job locked. Shorter than others wait for that lock."""

FRESH_S = 1.0
"""A connection to Postgres that was used so lately is taken for alive."""

UPGRADE_LOCK = 0x71666C74
"""Postgres advisory lock: two upgrades at the same time run one after the other."""

EXPECTED = "expected sqlite:///FILE or postgresql://USER@HOST/NAME"


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaState:
    """The revision that a database has (None: no schema yet) and the one that this program needs."""

    current: str | None
    head: str

    @property
    def fits(self) -> bool:
        """Whether this program may use the database."""
        return self.current == self.head


class Database:
    """A database of the right schema version, ready for use; made by `open` or `create_or_open`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @property
    def address(self) -> str:
        """The address without its password."""
        return addresses.redact(self._engine.url.render_as_string(hide_password=False))

    @classmethod
    def open(cls, address: str, *, readonly: bool = False, busy_timeout: float = BUSY_TIMEOUT) -> Database:
        """The database at a SQLAlchemy address.

        Raises SettingsError for an address that cannot be read, DatabaseError for a missing file or one that is
        no database, SchemaMismatch for another version's, Unreachable when a server does not answer.
        """
        url = parse(address)
        file = sqlite_file(url)
        if file is not None and not file.is_file():
            raise errors.DatabaseError(
                f"there is no database at {file}; `quantfleet run STUDY` or `quantfleet db upgrade` makes it"
            )
        engine = make_engine(url, readonly=readonly, busy_timeout=busy_timeout)
        try:
            with _connected(engine) as connection:
                _require_fit(connection)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @classmethod
    def create_or_open(cls, address: str, *, busy_timeout: float = BUSY_TIMEOUT) -> Database:
        """As `open`, but a missing or empty SQLite file is made first; an older database is never changed."""
        file = sqlite_file(parse(address))
        if file is not None and (not file.exists() or (file.is_file() and file.stat().st_size == 0)):
            upgrade(address, busy_timeout=busy_timeout)
        return cls.open(address, busy_timeout=busy_timeout)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A connection in a transaction that writes: committed at the end, rolled back by any exception."""
        with _connected(self._engine, write=True) as connection:
            yield connection

    @contextmanager
    def single(self) -> Iterator[sa.Connection]:
        """As `transaction`, for what Postgres gets as one statement: that is a transaction by itself, and costs one
        exchange where BEGIN and COMMIT would make it three."""
        # what was opened for reading is kept from writing by each BEGIN
        by_itself = self.dialect == "postgresql" and "postgresql_readonly" not in self._engine.get_execution_options()
        with self.alone() if by_itself else self.transaction() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one moment of the database and blocks no writer."""
        with _connected(self._engine) as connection:
            yield connection

    @contextmanager
    def alone(self) -> Iterator[sa.Connection]:
        """A connection outside of any transaction: what writes a table or the file anew runs in none."""
        options: dict[str, Any] = {"quantfleet_begin": ""}
        if self.dialect == "postgresql":
            options = {"isolation_level": "AUTOCOMMIT"}
        with translated(self._engine.url), self._engine.connect().execution_options(**options) as connection:
            yield connection

    def close(self) -> None:
        """Give back every connection; harmless to repeat."""
        self._engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def upgrade(address: str, *, busy_timeout: float = BUSY_TIMEOUT) -> SchemaState:
    """Bring a database to this program's schema, making a missing SQLite file; in one transaction.

    Raises SchemaMismatch for a database that is newer or not quantfleet's, and what `Database.open` raises.
    """
    from storage.migrations import runner

    url = parse(address)
    file = sqlite_file(url)
    if file is not None and not file.parent.is_dir():
        raise errors.DatabaseError(f"cannot make {file}: there is no folder {file.parent}")
    engine = make_engine(url, busy_timeout=busy_timeout)
    try:
        if file is not None:
            _write_ahead(engine, busy_timeout)
        with _connected(engine, write=True) as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADE_LOCK)))
            _require_ours(connection)
            runner.upgrade(connection)
            return _state(connection)
    finally:
        engine.dispose()


def check(address: str) -> SchemaState:
    """The schema that a database has and the one that is needed; raises what `Database.open` raises but no
    SchemaMismatch."""
    url = parse(address)
    file = sqlite_file(url)
    if file is not None and not file.is_file():
        raise errors.DatabaseError(f"there is no database at {file}; `quantfleet db upgrade` makes it")
    engine = make_engine(url)
    try:
        with _connected(engine) as connection:
            return _state(connection)
    finally:
        engine.dispose()


def parse(address: str) -> sa.URL:
    """The address with its driver; SettingsError (without the address: it may hold a password)."""
    if address.startswith("postgres://"):
        address = "postgresql://" + address.removeprefix("postgres://")
    try:
        url = sa.make_url(address)
    except sqlalchemy.exc.ArgumentError as exc:
        raise errors.SettingsError(f"the database's address cannot be read; {EXPECTED}") from exc
    except ValueError as exc:  # a port that is no number
        raise errors.SettingsError(f"the database's address cannot be read: its port is no number; {EXPECTED}") from exc
    if "@" in str(url.host):
        raise errors.SettingsError(f"the database's address cannot be read: a password's @ is written %40; {EXPECTED}")
    kind = url.get_backend_name()
    if kind == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise errors.SettingsError(f"the database's address names {kind!r}; {EXPECTED}")
    if not url.database or url.database == ":memory:":
        raise errors.SettingsError(f"a database in memory cannot be shared with workers; {EXPECTED}")
    return url


def sqlite_file(url: sa.URL) -> Path | None:
    """The file of a SQLite address, None for Postgres."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def make_engine(url: sa.URL, *, readonly: bool = False, busy_timeout: float = BUSY_TIMEOUT) -> sa.Engine:
    """An engine whose transactions behave as this module says; nothing is connected yet."""
    shared: dict[str, Any] = {"json_serializer": plain.dumps, "json_deserializer": plain.loads}
    if url.get_backend_name() == "sqlite":
        if readonly:
            url = _readonly_sqlite(Path(str(url.database)).resolve())
        engine = sa.create_engine(url, connect_args={"timeout": busy_timeout}, **shared)
        sqlalchemy.event.listen(engine, "connect", _configure_sqlite)
        sqlalchemy.event.listen(engine, "begin", _begin_sqlite)
        return engine
    # a peer that vanished without a word is noticed within half a minute, not after hours
    link = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
    options = {"postgresql_readonly": True} if readonly else {}  # False would be set and taken back with each use
    engine = sa.create_engine(url, connect_args={"connect_timeout": 5, **link}, execution_options=options, **shared)
    _ask_the_idle(engine)
    bounds = (
        f"SET lock_timeout = {round(busy_timeout * 1000)}",
        f"SET idle_in_transaction_session_timeout = {round(IDLE_S * 1000)}",
    )
    # whatever the server's default is: what is a transaction by itself cannot say so with BEGIN
    write = () if readonly else ("SET default_transaction_read_only = off",)
    sqlalchemy.event.listen(engine, "connect", lambda driver, record: _configure_postgres(driver, (*bounds, *write)))
    return engine


def _readonly_sqlite(file: Path) -> sa.URL:
    query = {"mode": "ro", "uri": "true"}
    if not os.access(file.parent, os.W_OK) and not Path(f"{file}-wal").exists():
        # WAL wants to make files beside the database even for reading; where nobody can, nobody writes either
        query["immutable"] = "1"
    return sa.URL.create("sqlite", database=file.as_uri(), query=query)


@contextmanager
def _connected(engine: sa.Engine, *, write: bool = False) -> Iterator[sa.Connection]:
    # a writer takes the lock first: a deferred transaction that turns to writing fails at once when another wrote
    options: dict[str, Any] = {"quantfleet_begin": "BEGIN IMMEDIATE" if write else "BEGIN"}
    if engine.dialect.name == "postgresql" and not write:
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with translated(engine.url), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


def _configure_sqlite(driver: Any, record: object) -> None:
    driver.isolation_level = None  # the driver's own implicit BEGIN is a deferred one: we say BEGIN ourselves
    driver.execute("PRAGMA foreign_keys = ON")
    # WAL with NORMAL may lose the last commits when the power fails: a result that was told to be stored would
    # be gone, and its job claimed again with a fencing token that was given out before. One fsync is ~1 ms.
    driver.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: sa.Connection) -> None:
    begin = connection.get_execution_options().get("quantfleet_begin", "BEGIN")
    if begin:
        connection.exec_driver_sql(begin)


def _ask_the_idle(engine: sa.Engine) -> None:
    """Before a connection is used again that lay idle, ask whether it is alive, and replace all if it is not.

    As SQLAlchemy's `pool_pre_ping`, which asks each time: a job's two transactions follow each other within
    milliseconds where nothing is measured, and a server that went away meanwhile is told like one that goes away later.
    """

    def used(driver: Any, record: Any) -> None:
        record.info["used"] = time.monotonic()

    def check(driver: Any, record: Any, proxy: Any) -> None:
        if time.monotonic() - record.info["used"] < FRESH_S:
            return
        try:
            engine.dialect.do_ping(driver)
        except engine.dialect.loaded_dbapi.Error as exc:
            raise sqlalchemy.exc.InvalidatePoolError from exc

    sqlalchemy.event.listen(engine, "connect", used)
    sqlalchemy.event.listen(engine, "checkin", used)
    sqlalchemy.event.listen(engine, "checkout", check)


def _configure_postgres(driver: Any, statements: Sequence[str]) -> None:
    for statement in statements:
        driver.execute(statement)
    driver.commit()


def _write_ahead(engine: sa.Engine, timeout: float) -> None:
    """Switch to WAL, which the file remembers; SQLite itself does not always wait for locks here."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            # outside of a transaction, where alone the mode can change
            with translated(engine.url), engine.connect().execution_options(quantfleet_begin="") as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                return
        except errors.DatabaseBusy:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _state(connection: sa.Connection) -> SchemaState:
    current = None
    if sa.inspect(connection).has_table("alembic_version"):
        current = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return SchemaState(current=current, head=tables.REVISION)


def _where(connection: sa.Connection) -> str:
    return addresses.redact(connection.engine.url.render_as_string(hide_password=False))


def _require_fit(connection: sa.Connection) -> None:
    state = _state(connection)
    if state.fits:
        return
    _require_ours(connection)
    has = "has no schema yet" if state.current is None else f"has the schema {state.current} of an older version"
    where = _where(connection)
    raise errors.SchemaMismatch(f"database {where} {has}, this program needs {state.head}; run `quantfleet db upgrade`")


def _require_ours(connection: sa.Connection) -> None:
    """Refuse what a newer quantfleet or another program made: an upgrade would spoil it."""
    from storage.migrations import runner

    state, where = _state(connection), _where(connection)
    if state.current is not None and state.current not in runner.revisions():
        raise errors.SchemaMismatch(
            f"database {where} has the schema {state.current}, which this program does not know (it knows up to "
            f"{state.head}): install the newer quantfleet that made it; `quantfleet db upgrade` cannot go back"
        )
    found = set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
    if state.current is None and found and "study_job" not in found:
        raise errors.SchemaMismatch(
            f"database {where} belongs to another program (tables {', '.join(sorted(found)[:3])}, …); "
            f"name another one, `quantfleet db upgrade` makes it"
        )
