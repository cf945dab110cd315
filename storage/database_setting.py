"""The database's address alone, as `storage.settings` finds it, for commands that read results and want nothing else.

Pydantic takes longer to import than a small database to be read. It is left out where there is nothing to check: no
settings file, and none of the other settings in the environment.
"""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT = "sqlite:///quantfleet.db"

_NAME = "QUANTFLEET_DATABASE"
_HARMLESS = frozenset({_NAME, "QUANTFLEET_BROKER", "QUANTFLEET_DEBUG"})
"""What every machine of a fleet has set; nothing about them is checked."""


def address(given: str | None) -> str:
    """The address that an option gives, or else the environment or the settings file; raises as `settings.load`."""
    plain = given if given is not None else os.environ.get(_NAME, DEFAULT)
    if ":" in plain and not _more_to_read():
        return plain
    from storage import settings

    return settings.load(database=given).database


def _more_to_read() -> bool:
    named = any(name.startswith("QUANTFLEET_") and name not in _HARMLESS for name in map(str.upper, os.environ))
    return named or Path("quantfleet.toml").exists()
