"""The hosts of a fleet as the database knows them: registered, seen, stopped, forgotten."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from storage import records, rows, statements, tables
from storage.database import Database

host = tables.host


def register(db: Database, *, name: str, platform: records.Platform, labels: Mapping[str, str] | None = None) -> None:
    """Store what a host is, and that it serves from now on."""
    platform_row = {
        "key": platform.key,
        "hardware_key": platform.hardware_key,
        "environment_key": platform.environment_key,
    }
    with db.transaction() as connection:
        statements.insert_missing(connection, tables.hardware, [rows.hardware(platform)])
        statements.insert_missing(connection, tables.environment, [rows.environment(platform)])
        statements.insert_missing(connection, tables.platform, [platform_row])
        fresh = {
            "platform_key": platform.key,
            "labels": dict(labels or {}),
            "last_seen_at": tables.now(),
            "stopped_at": sa.null(),
            "imported_at": sa.null(),
        }
        insert = statements.insert(connection, host).values(name=name, first_seen_at=tables.now(), **fresh)
        connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=fresh))


def seen(db: Database, name: str) -> bool:
    """Note that a host's worker is alive; False when the host was forgotten meanwhile (register it again)."""
    values = {"last_seen_at": tables.now(), "stopped_at": sa.null()}
    own = sa.and_(host.c.name == name, host.c.imported_at.is_(None))
    with db.transaction() as connection:
        return connection.execute(sa.update(host).where(own).values(values)).rowcount > 0


def goodbye(db: Database, name: str) -> None:
    """Note that a host's worker ended in order."""
    values = {"last_seen_at": tables.now(), "stopped_at": tables.now()}
    with db.transaction() as connection:
        connection.execute(sa.update(host).where(host.c.name == name).values(values))


def forget(db: Database, name: str) -> bool:
    """Drop a host from the list: nothing new is planned for it, its results stay. False when it is not there."""
    with db.transaction() as connection:
        return connection.execute(sa.delete(host).where(host.c.name == name)).rowcount > 0
