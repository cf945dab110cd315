"""What a command imports: what it does not need may not slow its start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage import hosts, lifecycle
from storage.database import Database
from tests import builders

HEAVY = frozenset(
    {
        "alembic",
        "celery",
        "kombu",
        "matplotlib",
        "numpy",
        "pandas",
        "plotly",
        "psycopg",
        "torch",
        "transformers",
        "yaml",
    }
)


@pytest.fixture
def measured(tmp_path: Path) -> str:
    """Address of a database with one result."""
    address = f"sqlite:///{tmp_path / 'measured.db'}"
    platform = builders.platform()
    with Database.create_or_open(address) as database:
        hosts.register(database, name="here", platform=platform)
        text = lifecycle.StudyText(name="study", text="")
        (job_id,) = lifecycle.submit(database, study=text, jobs=[builders.planned()]).new
        claim = lifecycle.claim(database, job_id, host="here", platform_key=platform.key, lease=60.0)
        assert claim is not None
        lifecycle.finish(database, claim, builders.latency(flags=()))
    return address


@pytest.mark.parametrize("command", ["--help", "results", "compare", "worker --help"])
def test_a_command_that_lists_or_explains_imports_no_heavy_library(command: str, measured: str) -> None:
    argv = [*command.split(), *(() if "--help" in command else ("--database", measured))]
    code = (
        f"import sys; from scheduler.cli import main; sys.argv = ['quantfleet', *{argv!r}]\n"
        "try: main.run()\nexcept SystemExit as ended: code = ended.code\n"
        "print(code, *{name.partition('.')[0] for name in sys.modules})"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ended, *imported = done.stdout.splitlines()[-1].split()

    assert ended == "0", done.stderr
    assert HEAVY.isdisjoint(imported), sorted(HEAVY & set(imported))
