"""Training after a cut: the loss comes down, zeros stay, the same each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from storage import errors, records
from tests.integration.engine.pruning_tools import ref, transformed, wide
from worker.engine.transforms import magnitude


@pytest.mark.parametrize(
    "text", ["prune-magnitude:0.5", "prune-magnitude:pattern=2:4", "prune-heads:0.5", "prune-ffn:0.5"]
)
def test_recovery_brings_the_loss_down_and_leaves_zeros_alone(
    text: str, tmp_path: Path, tiny_bert: records.ModelRef, dataset: records.DatasetRef
) -> None:
    separator = "," if ":" in text else ":"
    bare, without = transformed(tiny_bert, text, tmp_path / "bare", dataset)
    told: list[Any] = []
    training = f"{text}{separator}recover=40,learning_rate=0.001"
    model, facts = transformed(tiny_bert, training, tmp_path / "recovered", dataset, tell=told.append)
    recovery = facts["recovery"]
    assert (recovery["steps"], recovery["labels"], recovery["data"]) == (40, True, "train")
    assert recovery["loss"]["last"] < 0.8 * recovery["loss"]["first"]
    steps = [progress for progress in told if progress["phase"] == "recovering"]
    assert [progress["step"] for progress in steps] == [10, 20, 30, 40]
    assert steps[-1]["loss"] == recovery["loss"]["last"]
    before, after = bare.state_dict(), model.state_dict()
    assert {name: tensor.shape for name, tensor in before.items()} == {
        name: tensor.shape for name, tensor in after.items()
    }
    assert any(not torch.equal(before[name], after[name]) for name in before)
    if text.startswith("prune-magnitude"):
        assert facts["zeros"] == without["zeros"]
        for name in magnitude.encoder_layers(model):
            assert torch.equal(before[f"{name}.weight"] == 0, after[f"{name}.weight"] == 0)


def test_recovery_is_the_same_every_time_and_another_with_another_seed(
    tmp_path: Path, tiny_bert: records.ModelRef, dataset: records.DatasetRef
) -> None:
    text = "prune-ffn:0.5,recover=5,learning_rate=0.01,by=magnitude"
    first, again, other = (
        transformed(tiny_bert, f"{text}{more}", tmp_path / name, dataset)[0].state_dict()
        for name, more in (("first", ""), ("again", ""), ("other", ",seed=1"))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_recovery_without_labels_that_are_classes_learns_from_the_uncut_model_alone(
    tmp_path: Path, dataset: records.DatasetRef
) -> None:
    wide(tmp_path / "whole", classes=3)
    text = "prune-ffn:0.5,by=activation,recover=30,learning_rate=0.001"
    _, facts = transformed(ref(tmp_path / "whole"), text, tmp_path / "cut", dataset)
    assert facts["recovery"]["labels"] is False
    assert facts["recovery"]["loss"]["last"] < 0.8 * facts["recovery"]["loss"]["first"]


def test_a_recovery_that_diverges_is_refused(
    tmp_path: Path, tiny_bert: records.ModelRef, dataset: records.DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr("worker.engine.transforms.recovery._loss", lambda *_: nothing)
    with pytest.raises(errors.StrategyError, match=r"diverged: the loss is nan at step 1; give a learning_rate below"):
        transformed(tiny_bert, "prune-ffn:0.5,recover=3", tmp_path / "cut", dataset)
