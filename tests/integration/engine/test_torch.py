from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage import errors, records, strategies
from tests.integration.engine.torch_tools import (
    CALL,
    ENGINES,
    answer,
    error,
    opened,
    parameters,
    reference,
    stored_bytes,
    total,
)
from worker.engine import models, operations
from worker.engine.strategies import torch_embeddings


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


def test_fp16_halves_the_artifact_and_stays_nearer_than_bf16(tiny_bert: records.ModelRef, cache: Path) -> None:
    half, _, folder = opened(tiny_bert, "torch/fp16", cache)
    brain, _, _ = opened(tiny_bert, "torch/bf16", cache)
    assert stored_bytes(folder) == 2 * total(tiny_bert)
    assert half.facts["linear_types"] == {"torch.nn.modules.linear.Linear[float16]": 14}
    assert 0 < error(half, tiny_bert) < error(brain, tiny_bert) < 0.5  # 10 bits of mantissa against 7


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


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel")
@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_distilbert"])
def test_int8_embeddings_are_what_quantize_dynamic_gives_bit_for_bit(
    architecture: str, request: pytest.FixtureRequest, cache: Path
) -> None:
    model = request.getfixturevalue(architecture)
    session, artifact, folder = opened(model, "torch/int8-dynamic:embeddings", cache)
    quantization = torch.ao.quantization
    configs = {
        torch.nn.Linear: quantization.default_dynamic_qconfig,
        torch.nn.Embedding: quantization.float_qparams_weight_only_qconfig,
    }
    twin = quantization.quantize_dynamic(reference(model), configs)  # type: ignore[no-untyped-call]
    assert np.array_equal(session.logits(CALL), answer(twin))
    assert 0 < error(session, model) < 0.5
    tables, layers = parameters(model, torch.nn.Embedding), parameters(model, torch.nn.Linear)
    assert artifact.facts["quantized_embeddings"] == len(tables)
    assert artifact.facts["kernels"] == {
        "quantized::linear_dynamic": len(layers),
        "quantized::embedding_byte": len(tables),
    }
    small = sum(weight.numel() for weight in (*tables.values(), *layers.values()))
    scales = 16 * len(layers) + sum(8 * len(table) for table in tables.values())
    assert stored_bytes(folder) == small + scales + 4 * (total(model) - small)


def test_int8_embeddings_take_a_row_that_is_expanded_over_the_batch_and_keep_padding_at_zero() -> None:
    table = torch.nn.Embedding(8, 16, padding_idx=0).requires_grad_(False)
    quantized = torch_embeddings.quantize(table.weight)
    layer = torch_embeddings.Embedding(8, 16, _weight=quantized)
    positions = torch.arange(5).unsqueeze(0)
    found = layer(positions.expand(3, -1))
    assert torch.equal(found[2], layer(positions)[0])
    assert torch.count_nonzero(found[:, 0]) == 0
    step = (table.weight.amax(1) - table.weight.amin(1)).max() / 255
    assert (found[0] - table.weight[:5]).abs().max() <= 0.51 * step


def test_a_table_that_a_model_reads_in_another_way_stays_float(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}
    config = {**sizes, **relative, "vocab_size": 64, "max_relative_positions": 16, "type_vocab_size": 0}
    model = records.ModelRef(name="shape", source="random", location="deberta-v2", config=config, seed=4)
    session, artifact, _ = opened(model, "torch/int8-dynamic:embeddings", tmp_path)
    names = [name for name, module in models.empty(model).named_modules() if type(module) is torch.nn.Embedding]
    assert [name.rpartition(".")[2] for name in names] == ["word_embeddings", "position_embeddings", "rel_embeddings"]
    assert artifact.facts["quantized_embeddings"] == artifact.facts["kernels"]["quantized::embedding_byte"] == 2
    assert np.isfinite(session.logits(CALL)).all()


def test_auto_takes_the_engine_that_the_catalogue_names_for_arm(
    tiny_bert: records.ModelRef, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    session, _, _ = opened(tiny_bert, "torch/int8-dynamic", cache)
    assert (session.facts["engine"], session.facts["reduce_range"]) == ("qnnpack", False)


def test_engines_share_one_artifact(tiny_bert: records.ModelRef, tmp_path: Path) -> None:
    _, first = operations.prepare(tiny_bert, strategies.parse("torch/int8-dynamic"), tmp_path)
    _, other = operations.prepare(tiny_bert, strategies.parse("torch/int8-dynamic:engine=onednn"), tmp_path)
    _, channels = operations.prepare(tiny_bert, strategies.parse("torch/int8-dynamic:per_channel"), tmp_path)
    _, tables = operations.prepare(tiny_bert, strategies.parse("torch/int8-dynamic:embeddings"), tmp_path)
    assert (first.cached, other.cached, channels.cached, tables.cached) == (False, True, False, False)
    assert first.key == other.key
    assert len({first.key, channels.key, tables.key}) == 3


def test_artifacts_hold_nothing_that_is_executed(tiny_bert: records.ModelRef, cache: Path) -> None:
    for text in ("torch/fp32", "torch/int8-dynamic", "torch/int8-dynamic:embeddings"):
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


@pytest.mark.slow
def test_the_torch_family_starts_where_torchao_is_missing() -> None:
    program = """
import sys
sys.modules["torchao"] = None  # as if it were not installed
from worker.engine import operations
operations.preload("torch")
print([name in sys.modules for name in ("worker.engine.strategies.torch_static", "worker.engine.strategies.torch_ao")])
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert (done.stdout.strip(), done.stderr) == ("[True, False]", "")
