"""The table of shapes in config.json: what it may say; anything else is refused before it is built."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from storage import errors, records
from worker.engine import checkpoints, models, structure

QUERY, KEY, VALUE, OUT = (
    f"bert.encoder.layer.0.attention.{name}" for name in ("self.query", "self.key", "self.value", "output.dense")
)
HALF = {QUERY: [16, 32], KEY: [16, 32], VALUE: [16, 32], OUT: [32, 16]}


def told(tiny_bert: records.ModelRef, folder: Path, table: Any) -> records.ModelRef:
    """A copy of the tiny model whose configuration holds a table."""
    shutil.copytree(tiny_bert.location, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, structure.FIELD: table}))
    return records.ModelRef(name="told", source="local", location=str(folder))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1], "is no table"),
        ("none", "is no table"),
        ({QUERY: [-16, 32]}, r"self.query cannot be cut from \[32, 32\] to \[-16, 32\]"),
        ({QUERY: [0, 32]}, r"cannot be cut from \[32, 32\] to \[0, 32\]"),
        ({QUERY: [1 << 40, 1 << 40]}, r"cannot be cut from \[32, 32\] to \[1099511627776"),
        ({QUERY: [33, 32]}, r"cannot be cut from \[32, 32\] to \[33, 32\]"),
        ({QUERY: [16.0, 32]}, "no shape of two numbers"),
        ({QUERY: [True, 32]}, "no shape of two numbers"),
        ({QUERY: ["16", "32"]}, "no shape of two numbers"),
        ({QUERY: [16]}, "no shape of two numbers"),
        ({QUERY: {"out": 16}}, "no shape of two numbers"),
        ({QUERY: None}, "no shape of two numbers"),
        ({"bert.encoder.layer.7.output.dense": [8, 8]}, "no linear layer 'bert.encoder.layer.7.output.dense'"),
        ({"bert.embeddings.word_embeddings": [8, 8]}, "no linear layer"),
        ({"bert": [8, 8]}, "no linear layer"),
        ({"": [8, 8]}, "no linear layer"),
        ({"__class__": [8, 8]}, "no linear layer"),
        ({QUERY: [16, 32]}, r"output.dense and what goes into it have unlike widths"),
        ({**HALF, OUT: [32, 32]}, r"unlike widths"),
        ({QUERY: [8, 32], KEY: [8, 32], VALUE: [8, 32], OUT: [32, 8]}, r"no whole heads: \[8, 8, 8, 8\]"),
        ({"bert.encoder.layer.1.intermediate.dense": [8, 32]}, r"output.dense and what goes into it"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    table: Any, message: str, tmp_path: Path, tiny_bert: records.ModelRef
) -> None:
    model = told(tiny_bert, tmp_path / "told", table)
    with pytest.raises(errors.ModelError, match=message):
        models.load(model)
    with pytest.raises(errors.ModelError, match=message):
        checkpoints.empty_model(tmp_path / "told")


def test_a_table_with_weights_of_other_shapes_is_refused(tmp_path: Path, tiny_bert: records.ModelRef) -> None:
    with pytest.raises(errors.ModelError, match=r"size mismatch for .*self.query"):
        models.load(told(tiny_bert, tmp_path / "told", HALF))


@pytest.mark.parametrize("table", [{}, None])
def test_no_table_is_a_model_that_was_not_cut(table: Any, tmp_path: Path, tiny_bert: records.ModelRef) -> None:
    model = models.load(told(tiny_bert, tmp_path / "told", table))
    assert not structure.is_cut(model.config)


def test_the_table_names_what_differs_and_gives_the_shapes_back(tiny_bert: records.ModelRef) -> None:
    from transformers import AutoModelForSequenceClassification

    whole: Any = models.load(tiny_bert)
    cut = models.load(tiny_bert)
    for name, (rows, columns) in HALF.items():
        cut.set_submodule(name, torch.nn.Linear(columns, rows))
    table = structure.describe(cut, whole)
    assert table == HALF
    setattr(whole.config, structure.FIELD, table)
    again = structure.apply(AutoModelForSequenceClassification.from_config(whole.config), whole.config)
    assert structure.describe(again, cut) == {}
    assert structure.describe(whole, whole) == {}
