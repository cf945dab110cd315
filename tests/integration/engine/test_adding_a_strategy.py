"""What docs/strategies.md shows of a strategy in another package works as it stands there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import records, strategies
from storage.catalogue import registry
from tests import distributions
from worker.engine import operations

TEXT = (Path(__file__).parents[3] / "docs" / "strategies.md").read_text("utf-8")
CALL = {
    "input_ids": np.array([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    "token_type_ids": np.zeros((2, 5), dtype=np.int64),
}


def shown_files() -> dict[str, str]:
    """Each Python file of the page by the name that stands before it."""
    found = re.findall(r"in `(mylab/\w+\.py)`[^`]*\n```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    return dict(found)


def shown_project() -> dict[str, str]:
    (block,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    entries: dict[str, str] = tomllib.loads(block)["project"]["entry-points"][registry.ENTRY_POINTS]
    return entries


@pytest.fixture
def mylab(tmp_path: Path) -> Iterator[None]:
    files = {"mylab/__init__.py": "", **shown_files()}
    assert set(files) == {"mylab/__init__.py", "mylab/catalogue.py", "mylab/stored16.py"}
    with distributions.installed(tmp_path, "mylab_strategies", files, shown_project()):
        yield


def run(
    model: records.ModelRef, text: str, cache: Path
) -> tuple[np.ndarray[Any, Any], records.Artifact, dict[str, Any]]:
    strategy = strategies.parse(text)
    folder, artifact = operations.prepare(model, strategy, cache)
    session = operations.open_session(folder, strategy, 1)
    return session.logits(CALL), artifact, dict(session.facts)


@pytest.mark.usefixtures("mylab")
def test_the_strategy_of_the_page_runs_in_half_the_size(tiny_bert: records.ModelRef, tmp_path: Path) -> None:
    exact, full, _ = run(tiny_bert, "torch/fp32", tmp_path / "cache")
    near, small, facts = run(tiny_bert, "torch/fp32-stored16", tmp_path / "cache")
    same, other, _ = run(tiny_bert, "torch/fp32-stored16:dtype=float16", tmp_path / "cache")

    assert small.size_bytes < 0.65 * full.size_bytes
    assert facts["stored"] == "bfloat16"
    assert facts["linear_types"] == {"torch.nn.modules.linear.Linear[float32]": 14}
    assert 0 < np.abs(near - exact).max() < 0.5
    assert np.array_equal(same, exact), "the checkpoint is stored in float16: nothing is lost"
    assert len({full.key, small.key, other.key}) == 3
    assert run(tiny_bert, "torch/fp32-stored16:dtype=bfloat16", tmp_path / "cache")[1].key == small.key


@pytest.mark.usefixtures("mylab")
def test_the_scheduler_knows_the_strategy_of_the_page() -> None:
    parsed = strategies.parse("prune-ffn:30%+torch/fp32-stored16:dtype=bfloat16")
    assert str(parsed) == "prune-ffn:0.3+torch/fp32-stored16"
    assert "rounded to 16 bits once" in strategies.meanings(parsed)[-1]
