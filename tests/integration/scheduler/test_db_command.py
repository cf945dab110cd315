from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scheduler.cli import db
from storage import errors, tables


def test_upgrade_makes_a_database_and_does_nothing_the_second_time(tmp_path: Path) -> None:
    file = str(tmp_path / "new.db")

    first = CliRunner().invoke(db.app, ["upgrade", "--database", file], catch_exceptions=False)
    second = CliRunner().invoke(db.app, ["upgrade", "--database", file], catch_exceptions=False)
    checked = CliRunner().invoke(db.app, ["check", "--database", file, "--json"], catch_exceptions=False)

    assert f"new → {tables.REVISION}" in first.output
    assert "was up to date" in second.output
    assert checked.exit_code == 0
    assert json.loads(checked.output)["usable"] is True


def test_a_database_of_another_version_is_told_and_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "later.db"
    CliRunner().invoke(db.app, ["upgrade", "--database", str(file)], catch_exceptions=False)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(errors.SchemaMismatch):
        CliRunner().invoke(db.app, ["upgrade", "--database", str(file)], catch_exceptions=False)

    checked = CliRunner().invoke(db.app, ["check", "--database", str(file)], catch_exceptions=False)
    assert checked.exit_code == 1
    assert "install the newer quantfleet" in checked.output
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
