"""Fresh databases of SQLite: one is migrated for a test process, and copied."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from storage import database


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
