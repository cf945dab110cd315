"""docs/guarantees.md names tests that exist, and every test of this suite stands behind a promise."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
TEXT = (TESTS.parent / "docs" / "guarantees.md").read_text()
NAMED = set(re.findall(r"`(\w[\w/]*\.py)::(\w+)`", TEXT))
OWN = {"test_proxy.py", "test_guarantees.py"}
"""About the suite itself."""


def _tests_of(file: Path) -> set[str]:
    nodes = ast.walk(ast.parse(file.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_test_that_is_named_exists() -> None:
    files = {file for file, _ in NAMED} | set(re.findall(r"`(\w[\w/]*\.py)`", TEXT))
    assert NAMED
    assert [file for file in sorted(files) if not (TESTS / file).is_file()] == []
    assert [(file, name) for file, name in sorted(NAMED) if name not in _tests_of(TESTS / file)] == []


def test_every_fault_is_behind_a_promise() -> None:
    files = sorted(file for file in Path(__file__).parent.glob("test_*.py") if file.name not in OWN)
    shown = {(f"faults/{file.name}", name) for file in files for name in _tests_of(file)}
    assert shown - NAMED == set()
