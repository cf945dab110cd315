from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage import errors, records, strategies
from worker.engine import models, operations

CALL = {
    "input_ids": np.array([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    "token_type_ids": np.zeros((2, 5), dtype=np.int64),
}
ENGINES = [
    name for name in torch.backends.quantized.supported_engines if name in ("x86", "fbgemm", "onednn", "qnnpack")
]


@pytest.fixture(autouse=True)
def process_settings() -> Iterator[None]:
    """Threads and engine belong to the process: put them back."""
    threads, engine = torch.get_num_threads(), torch.backends.quantized.engine
    yield
    torch.set_num_threads(threads)
    torch.backends.quantized.engine = engine


def reference(model: records.ModelRef) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(model.location, dtype=torch.float32).eval()


def answer(model: Any) -> np.ndarray[Any, Any]:
    names = ("input_ids", "attention_mask") if model.config.model_type == "distilbert" else tuple(CALL)
    with torch.inference_mode():
        logits: np.ndarray[Any, Any] = model(**{name: torch.from_numpy(CALL[name]) for name in names}).logits.numpy()
    return logits


def opened(model: records.ModelRef, text: str, cache: Path, threads: int = 1) -> tuple[Any, records.Artifact, Path]:
    strategy = strategies.parse(text)
    folder, artifact = operations.prepare(model, strategy, cache)
    return operations.open_session(folder, strategy, threads), artifact, folder


@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_distilbert"])
def test_fp32_answers_in_float32_exactly_as_transformers_does(
    architecture: str, request: pytest.FixtureRequest, cache: Path
) -> None:
    model = request.getfixturevalue(architecture)
    session, artifact, _ = opened(model, "torch/fp32", cache)
    assert np.array_equal(session.logits(CALL), answer(reference(model)))
    assert session.logits(CALL).dtype == np.float32
    assert (artifact.facts["dtype"], artifact.facts["source_dtype"]) == ("float32", "float16")


def test_bf16_halves_the_artifact_and_stays_near(tiny_bert: records.ModelRef, cache: Path) -> None:
    full, big, _ = opened(tiny_bert, "torch/fp32", cache)
    half, small, _ = opened(tiny_bert, "torch/bf16", cache)
    assert small.size_bytes < 0.6 * big.size_bytes
    assert set(half.facts["linear_types"]) == {"torch.nn.modules.linear.Linear[bfloat16]"}
    assert half.logits(CALL).dtype == np.float32
    assert 0 < np.abs(half.logits(CALL) - full.logits(CALL)).max() < 0.5


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel")
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_distilbert"])
def test_int8_dynamic_is_what_quantize_dynamic_gives_bit_for_bit(
    architecture: str, engine: str, per_channel: bool, request: pytest.FixtureRequest, cache: Path
) -> None:
    model = request.getfixturevalue(architecture)
    torch.backends.quantized.engine = engine
    config = (
        torch.ao.quantization.per_channel_dynamic_qconfig
        if per_channel
        else torch.ao.quantization.default_dynamic_qconfig
    )
    twin = torch.ao.quantization.quantize_dynamic(reference(model), {torch.nn.Linear: config})  # type: ignore[no-untyped-call]
    expected = answer(twin)
    text = f"torch/int8-dynamic:engine={engine}" + (",per_channel" if per_channel else "")
    session, _, _ = opened(model, text, cache)
    assert np.array_equal(session.logits(CALL), expected)
    assert not np.array_equal(expected, answer(reference(model)))
    assert session.facts["engine"] == engine


def test_int8_dynamic_tells_which_kernels_ran(tiny_bert: records.ModelRef, cache: Path) -> None:
    session, artifact, _ = opened(tiny_bert, "torch/int8-dynamic", cache)
    layers = artifact.facts["quantized_layers"]
    assert layers == 2 * 6 + 2  # six in each of two layers, pooler, classifier
    assert artifact.facts["kernels"] == {"quantized::linear_dynamic": layers}
    assert session.facts["linear_types"] == {"torch.ao.nn.quantized.dynamic.modules.linear.Linear[qint8]": layers}


def test_engines_share_one_artifact(tiny_bert: records.ModelRef, tmp_path: Path) -> None:
    _, first = operations.prepare(tiny_bert, strategies.parse("torch/int8-dynamic"), tmp_path)
    _, other = operations.prepare(tiny_bert, strategies.parse("torch/int8-dynamic:engine=onednn"), tmp_path)
    _, channels = operations.prepare(tiny_bert, strategies.parse("torch/int8-dynamic:per_channel"), tmp_path)
    assert (first.cached, other.cached, channels.cached) == (False, True, False)
    assert first.key == other.key != channels.key


def test_artifacts_hold_nothing_that_is_executed(tiny_bert: records.ModelRef, cache: Path) -> None:
    for text in ("torch/fp32", "torch/int8-dynamic"):
        folder, _ = operations.prepare(tiny_bert, strategies.parse(text), cache)
        assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


def test_a_damaged_artifact_is_made_again_and_answers_the_same(tiny_bert: records.ModelRef, tmp_path: Path) -> None:
    session, _, folder = opened(tiny_bert, "torch/int8-dynamic", tmp_path)
    expected = session.logits(CALL)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    again, artifact, _ = opened(tiny_bert, "torch/int8-dynamic", tmp_path)
    assert not artifact.cached
    assert np.array_equal(again.logits(CALL), expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_set_and_read_back(tiny_bert: records.ModelRef, cache: Path, threads: int) -> None:
    session, _, _ = opened(tiny_bert, "torch/fp32", cache, threads)
    assert session.threads == torch.get_num_threads() == threads


def test_a_bound_call_does_not_follow_later_changes_of_its_arrays(tiny_bert: records.ModelRef, cache: Path) -> None:
    session, _, _ = opened(tiny_bert, "torch/fp32", cache)
    call = {name: array.copy() for name, array in CALL.items()}
    run = session.bind(call)
    call["input_ids"][:] = 1
    with session.calling():
        answer: Any = run()
    assert np.array_equal(answer.logits.numpy(), session.logits(CALL))


def test_an_engine_that_this_torch_lacks_is_unsupported(
    tiny_bert: records.ModelRef, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = operations.prepare(tiny_bert, strategies.parse("torch/int8-dynamic"), cache)
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["none", "qnnpack"])
    with pytest.raises(errors.Unsupported, match=r"no int8 engine 'onednn'.*qnnpack"):
        operations.open_session(folder, strategies.parse("torch/int8-dynamic:engine=onednn"), 1)


def test_random_weights_follow_their_seed_and_leave_the_generator_alone(tmp_path: Path) -> None:
    sizes = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64, "vocab_size": 64, "num_labels": 3}
    model = records.ModelRef(name="shape", source="random", location="distilbert", config=sizes, seed=4)
    before = torch.random.get_rng_state()
    session, artifact, _ = opened(model, "torch/fp32", tmp_path)
    twin, _, _ = opened(model, "torch/fp32", tmp_path / "elsewhere")
    other, _, _ = opened(dataclasses.replace(model, seed=5), "torch/fp32", tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert artifact.facts["classes"] == 3
    assert np.array_equal(session.logits(CALL), twin.logits(CALL))
    assert not np.array_equal(session.logits(CALL), other.logits(CALL))


def test_inspect_tells_layers_and_what_int8_reaches(tiny_bert: records.ModelRef) -> None:
    told = operations.inspect(tiny_bert)
    json.dumps(told)
    by_name = {layer["name"]: layer for layer in told["layers"]}
    assert by_name["classifier"] == {
        "name": "classifier",
        "type": "Linear",
        "shape": [4, 32],
        "parameters": 132,
        "bytes": 528,
        "quantized": True,
    }
    assert by_name["bert.embeddings.word_embeddings"]["quantized"] is False
    assert sum(layer["parameters"] for layer in told["layers"]) == told["parameters"]
    assert (told["source_dtype"], told["max_tokens"], told["digest"]) == ("float16", 32, models.identify(tiny_bert))
    assert told["labels"] == ["greet", "leave", "pay", "oos"]
