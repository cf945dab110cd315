"""What a bad model gets: one message that says what is wrong, never a randomly initialized head."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import errors, records
from worker.engine import models


@pytest.fixture
def broken(tiny_bert: records.ModelRef, tmp_path: Path) -> records.ModelRef:
    """A copy of the good model, to be broken."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert.location, folder)
    return dataclasses.replace(tiny_bert, location=str(folder))


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def garble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)


def pickle_weights(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def drop_head(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor.clone() for name, tensor in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def two_classes(folder: Path) -> None:
    edit_config(folder, id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1})


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated weights": (truncate, "damaged|incomplete|invalid"),
    "garbled weights": (garble, "is damaged"),
    "pickled weights": (pickle_weights, "only pickled weights.*allow_pickle"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    "no classifier": (lambda folder: edit_config(folder, architectures=["BertModel"]), "not a sequence classifier"),
    "no head among the weights": (drop_head, "lacks weights of a classifier: classifier.bias, classifier.weight"),
    "weights of another shape": (
        two_classes,
        "weights of other shapes than its config says: classifier.bias, classifier.weight",
    ),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), "config.json .* cannot be read"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "unknown architecture": (lambda folder: edit_config(folder, model_type="bertt"), "bertt"),
    "no such folder": (shutil.rmtree, "does not exist"),
}


@pytest.mark.parametrize("case", BREAKS)
def test_a_broken_model_is_refused_with_what_is_wrong(broken: records.ModelRef, case: str) -> None:
    breaks, message = BREAKS[case]
    breaks(Path(broken.location))
    with pytest.raises(errors.ModelError, match=message):
        models.load(broken)


def test_a_pickled_checkpoint_loads_only_with_the_studys_leave(
    broken: records.ModelRef, tiny_bert: records.ModelRef
) -> None:
    import torch

    pickle_weights(Path(broken.location))
    loaded = models.load(dataclasses.replace(broken, allow_pickle=True)).state_dict()
    good = models.load(tiny_bert).state_dict()
    assert all(torch.equal(loaded[name], good[name]) for name in good)


def test_a_model_that_changed_since_planning_is_refused(broken: records.ModelRef) -> None:
    planned = dataclasses.replace(broken, digest=models.identify(broken))
    assert models.identify(planned) == planned.digest
    edit_config(Path(broken.location), hidden_dropout_prob=0.2)
    with pytest.raises(errors.ModelError, match="another than when the study was planned"):
        models.identify(planned)


def test_an_unknown_random_architecture_gets_the_nearest() -> None:
    with pytest.raises(errors.ModelError, match="did you mean 'distilbert'"):
        models.load(records.ModelRef(name="x", source="random", location="distillbert"))


def test_a_random_config_that_cannot_be_built_is_the_models_fault() -> None:
    config = {"hidden_size": 30, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 10}
    with pytest.raises(errors.ModelError, match="multiple"):
        models.load(records.ModelRef(name="x", source="random", location="bert", config=config))
