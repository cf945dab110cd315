"""Alembic run from code on an open connection: no ini file, no command of its own."""

from __future__ import annotations

from pathlib import Path

import alembic.command
import alembic.config
import alembic.script
import sqlalchemy as sa


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Migrate within the connection's transaction, so that a failure leaves the database as it was."""
    config = _config()
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, revision)


def revisions() -> tuple[str, ...]:
    """Every revision that this program knows, newest first."""
    script = alembic.script.ScriptDirectory.from_config(_config())
    return tuple(revision.revision for revision in script.walk_revisions())


def _config() -> alembic.config.Config:
    config = alembic.config.Config()
    folder = str(Path(__file__).parent)
    config.set_main_option("script_location", folder.replace("%", "%%"))  # "%" begins an interpolation there
    config.set_main_option("path_separator", "os")
    return config
