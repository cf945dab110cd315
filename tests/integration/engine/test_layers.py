"""A layer found by its name, on tiny real models."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from storage import errors, records
from tests.integration.engine.test_bad_models import garble, pickle_weights, truncate, two_classes
from worker.engine import layers, models

QUERY = "bert.encoder.layer.0.attention.self.query"
RANDOM = records.ModelRef(
    name="shape",
    source="random",
    location="distilbert",
    config={"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64, "vocab_size": 64},
)


@pytest.fixture
def copied(tiny_bert: records.ModelRef, tmp_path: Path) -> records.ModelRef:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert.location, folder)
    return dataclasses.replace(tiny_bert, location=str(folder))


@pytest.mark.parametrize("name", [QUERY, f"{QUERY}.weight"])
def test_a_layer_is_found_by_the_name_of_its_module_or_of_its_weight(tiny_bert: records.ModelRef, name: str) -> None:
    found = layers.find(tiny_bert, name)
    expected = models.load(tiny_bert).get_submodule(QUERY).weight
    assert isinstance(expected, torch.Tensor)
    assert (found.name, found.kind, found.weight.dtype) == (QUERY, "Linear", torch.float32)
    assert torch.equal(found.weight, expected) and found.weight.is_contiguous()


def test_only_that_tensor_is_read(tiny_bert: records.ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_model: records.ModelRef) -> None:
        raise AssertionError("the whole model is loaded")

    monkeypatch.setattr(models, "load", refuse)
    assert layers.find(tiny_bert, "bert.embeddings.word_embeddings").weight.shape == (64, 32)


def test_the_digest_is_of_shape_and_values(tiny_bert: records.ModelRef, copied: records.ModelRef) -> None:
    one, other = layers.find(tiny_bert, QUERY), layers.find(tiny_bert, QUERY.replace("query", "key"))
    assert layers.find(copied, QUERY).digest == one.digest
    assert other.digest != one.digest and len(one.digest) == 16
    assert layers.digest(torch.zeros(2, 3)) != layers.digest(torch.zeros(3, 2))


def test_a_pickled_checkpoint_gives_the_same_layer_with_the_persons_leave_only(copied: records.ModelRef) -> None:
    expected = layers.find(copied, QUERY)
    pickle_weights(Path(copied.location))
    with pytest.raises(errors.ModelError, match=r"only pickled weights.*allow_pickle"):
        layers.find(copied, QUERY)
    assert layers.find(dataclasses.replace(copied, allow_pickle=True), QUERY).digest == expected.digest


def test_a_layer_of_random_weights_follows_the_seed() -> None:
    name = "distilbert.transformer.layer.0.attention.out_lin"
    found, again = layers.find(RANDOM, name), layers.find(RANDOM, name)
    other = layers.find(dataclasses.replace(RANDOM, seed=1), name)
    assert found.weight.shape == (32, 32)
    assert found.digest == again.digest != other.digest


REFUSED = {
    QUERY.replace("query", "qury"): f"has no layer .*did you mean '{QUERY}'",
    "query": "has no layer 'query'; layers with that in their names: .*layer.0.attention.self.query, .*layer.1",
    "": "has no layer ''",
    "bert.embeddings.LayerNorm": "is a LayerNorm whose weight has the shape 32: what is quantized are weights of two",
    "bert.encoder.layer.0.attention": "is a BertAttention without a weight of its own; layers in it: .*query.* \\(4\\)",
    "bert.embeddings.dropout": "is a Dropout without a weight of its own$",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_is_no_layer_gets_what_comes_nearest(tiny_bert: records.ModelRef, name: str) -> None:
    with pytest.raises(errors.ModelError, match=REFUSED[name]):
        layers.find(tiny_bert, name)


BROKEN = {truncate: "damaged", garble: "damaged", two_classes: "weights of other shapes than its config says"}


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_a_layer_of_a_broken_model_is_refused_as_the_model_is(copied: records.ModelRef, breaks: object) -> None:
    assert callable(breaks)
    breaks(Path(copied.location))
    with pytest.raises(errors.ModelError, match=BROKEN[breaks]):
        layers.find(copied, "classifier")


def test_values_that_are_not_finite_are_refused(copied: records.ModelRef) -> None:
    from safetensors.torch import load_file, save_file

    path = Path(copied.location) / "model.safetensors"
    tensors = load_file(path)
    tensors["classifier.weight"][0, 0] = torch.inf
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(errors.ModelError, match=r"layer 'classifier' .*not finite"):
        layers.find(copied, "classifier")
