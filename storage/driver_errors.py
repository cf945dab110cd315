"""What the drivers of SQLite and Postgres raise, as quantfleet's errors; used by `storage.database` only."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
import sqlalchemy.exc

from storage import addresses, errors


@contextmanager
def translated(address: sa.URL) -> Iterator[None]:
    """Errors of SQLAlchemy's drivers as quantfleet's; a broken constraint or statement stays what it is: a bug."""
    try:
        yield
    except sqlalchemy.exc.DBAPIError as exc:
        known = driver_error(exc.orig, address)
        if known is None:
            raise
        raise known from exc


def driver_error(orig: BaseException | None, url: sa.URL) -> errors.QuantfleetError | None:
    """The error to raise for a driver's; None when it is none that a person or time can mend."""
    name = getattr(orig, "sqlite_errorname", None)
    if name is not None:
        return _sqlite_error(str(name), str(orig), _file(url))
    if hasattr(orig, "sqlstate"):
        return _postgres_error(getattr(orig, "sqlstate", None), orig, url.render_as_string(hide_password=False))
    return None


def _file(url: sa.URL) -> Path:
    name = str(url.database)
    return Path(urllib.parse.unquote(name.removeprefix("file://"))) if name.startswith("file://") else Path(name)


def _sqlite_error(name: str, said: str, file: Path) -> errors.QuantfleetError | None:
    where = f"database {file}"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return errors.DatabaseBusy(f"{where} is locked by another process for too long; try again when it is done")
    if name.startswith("SQLITE_CANTOPEN") and file.exists() and not os.access(file.parent, os.W_OK):
        name = "SQLITE_READONLY"  # the files that writing needs beside the database cannot be made
    if name.startswith("SQLITE_READONLY"):
        return errors.DatabaseReadOnly(f"{where} is read-only: no right to write the file or its folder")
    if name == "SQLITE_FULL":
        return errors.DatabaseReadOnly(f"{where} cannot grow: the disk is full; nothing was stored half")
    if name == "SQLITE_NOTADB":
        return errors.DatabaseError(f"{where} is not a SQLite database")
    if name.startswith("SQLITE_CORRUPT"):
        return errors.DatabaseError(f"{where} is damaged ({said})")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM")):
        return errors.DatabaseError(
            f"{where} cannot be opened or read ({said}); is its disk full, or the file another's?"
        )
    return None


_POSTGRES: dict[str, tuple[type[errors.QuantfleetError], str]] = {
    "55P03": (errors.DatabaseBusy, "is locked by another process for too long"),
    "40001": (errors.DatabaseBusy, "met a conflicting transaction; try again"),
    "40P01": (errors.DatabaseBusy, "met a deadlock; try again"),
    "25006": (errors.DatabaseReadOnly, "is read-only"),
    "42501": (errors.DatabaseReadOnly, "refuses this user the right to do that"),
    "53100": (errors.DatabaseReadOnly, "cannot grow: its disk is full"),
    "28P01": (errors.DatabaseError, "refuses the password"),
    "28000": (errors.DatabaseError, "refuses the user"),
    "3D000": (errors.DatabaseError, "does not exist on its server"),
}


def _postgres_error(state: str | None, orig: BaseException | None, address: str) -> errors.QuantfleetError | None:
    where, said = addresses.redact(address), addresses.without_password(str(orig).strip(), address)
    if state in _POSTGRES:
        kind, what = _POSTGRES[state]
        return kind(f"database {where} {what}")
    if state is None and "invalid connection option" in said:
        return errors.DatabaseError(f"the address of database {where} has an {_first(said)}")
    if state is None and any(kind.__name__ == "OperationalError" for kind in type(orig).__mro__):  # a timeout is one
        return _refused(said, where)
    if state is not None and state.startswith(("08", "57P", "53", "25P03")):  # 25P03: paused in mid-transaction
        return errors.Unreachable(f"database {where} does not answer: {_first(said)}")
    return None


_BUSY = ("too many connections", "too many clients", "connection slots are reserved", "is not currently accepting")

_REFUSED: dict[str, str] = {
    "password authentication failed": "refuses the password, or does not know the user",
    "no password supplied": "wants a password",
    "does not match host name": "shows a certificate for another name than the address has",
    "certificate verify failed": "shows a certificate that cannot be trusted: it has expired, or the file of its "
    "authority is to be named with sslrootcert=FILE",
    "root certificate file": "cannot be verified: the file of sslrootcert cannot be read",
    "does not support SSL": "does not speak TLS there; leave sslmode out of its address, or switch ssl on",
    "certificate required": "wants a certificate of ours; add sslcert=FILE&sslkey=FILE to its address",
    "invalid sslmode value": "cannot be opened so: sslmode is verify-full, verify-ca, require, prefer or disable",
    "no encryption": "wants TLS from this host; add sslmode=verify-full to its address",
    "no pg_hba.conf entry": "refuses this host or user",
    "permission denied for database": "refuses this user the right to connect",
    "not permitted to log in": "refuses this user the right to log in",
    'role "': "does not know the user",
    'database "': "does not exist on its server",
}
"""What a server answers before a session exists is only a text, and so is what libpq says; the first that fits is
meant."""


def _refused(said: str, where: str) -> errors.QuantfleetError:
    for sign, what in () if any(sign in said for sign in _BUSY) else _REFUSED.items():
        if sign in said:
            detail = f" ({_first(said)})" if "certificate" in sign else ""
            return errors.DatabaseError(f"database {where} {what}{detail}")
    return errors.Unreachable(f"database {where} does not answer: {_first(said)}")


def _first(said: str) -> str:
    return next(iter(said.splitlines()), "no reason given")
