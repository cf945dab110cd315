"""docs/strategies.md says what the catalogue and the grammar say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scheduler.cli import strategies_page
from storage import errors, strategies
from storage.catalogue import registry

PAGE = Path(__file__).parents[3] / "docs" / "strategies.md"
TEXT = PAGE.read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_the_tables_are_those_of_the_catalogue() -> None:
    again = "run: python -m scheduler.cli.strategies_page docs/strategies.md"
    assert strategies_page.rewritten(TEXT) == TEXT, again


def test_the_tables_hold_every_name_option_and_default() -> None:
    tables = strategies_page.tables()
    for part in registry.parts():
        (row,) = [line for line in tables.splitlines() if line.startswith(f"| `{part.name}` |")]
        assert all(f"`{option.name}`" in row for option in part.options)
        assert part.summary in row
        assert f"`[{part.extra}]`" in row
    rows = [line for line in tables.splitlines() if line.startswith("| `engine` |")]
    assert len(rows) == 1, "an option that several strategies share stands once"
    assert "**`auto`**, `x86`" in rows[0]
    assert all(row.count(" | ") in (3, 4) for row in tables.splitlines() if row.startswith("|")), "a cell holds a bar"


def test_the_command_rewrites_what_stands_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{strategies_page.BEGIN}\nstale line\n{strategies_page.END}\nafter\n")
    subprocess.run([sys.executable, "-m", "scheduler.cli.strategies_page", page], check=True, cwd=PAGE.parents[1])
    written = page.read_text("utf-8")
    assert "stale line" not in written
    assert "`torch/fp32`" in written
    assert (written.splitlines()[0], written.splitlines()[-1]) == ("before", "after")


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(errors.SettingsError, match="lacks its marks"):
        strategies_page.rewritten("text")


def test_the_strategies_of_the_page_can_be_read() -> None:
    examples = [line for block in blocks("")[1:2] for line in block.splitlines()]
    assert len(examples) == 4
    inline = [text for text in re.findall(r"`([^`\n]+)`", TEXT) if re.search(r"/(fp32|bf16|int\d)", text)]
    study: dict[str, Any] = yaml.safe_load(blocks("yaml")[0])
    for text in (*examples, *inline, *study["strategies"]):
        if "fp32-stored16" not in text:
            strategies.parse(text)
    read = {name for text in study["strategies"] for name in strategies.parse(text).datasets}
    assert read - {strategies.EVALUATION} == set(study["datasets"])


def test_what_the_page_calls_one_strategy_is_one() -> None:
    for one, other in (
        ("torch/int8-static: rows=0200, engine=onednn", "torch/int8-static:engine=onednn"),
        ("prune-ffn:30%+torch/fp32", "prune-ffn:amount=0.3+torch/fp32"),
        ("torch/int8-dynamic:per_channel", "torch/int8-dynamic:per_channel=true"),
    ):
        assert one.removesuffix("+torch/fp32") in TEXT.replace("\n  ", " ")
        assert strategies.parse(one) == strategies.parse(other)
    assert f"At most {strategies.MAX_STEPS}." in TEXT
