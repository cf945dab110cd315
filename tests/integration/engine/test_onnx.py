from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import errors, records, strategies
from worker.engine import operations
from worker.engine.strategies import onnx_graphs, onnx_optimizer


def call(batch: int, length: int) -> dict[str, np.ndarray[Any, Any]]:
    ids = np.random.default_rng(batch).integers(5, 30, (batch, length))
    mask = np.ones_like(ids)
    mask[-1, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def opened(model: records.ModelRef, text: str, cache: Path) -> tuple[Any, records.Artifact]:
    strategy = strategies.parse(text)
    folder, artifact = operations.prepare(model, strategy, cache)
    return operations.open_session(folder, strategy, 1), artifact


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_distilbert"])
def test_the_exported_graph_answers_as_torch_for_every_batch_and_length(
    architecture: str, request: pytest.FixtureRequest, cache: Path
) -> None:
    model = request.getfixturevalue(architecture)
    torch_session, _ = opened(model, "torch/fp32", cache)
    session, artifact = opened(model, "onnxruntime/fp32", cache)
    for batch, length in ((1, 4), (1, 32), (2, 8), (3, 11)):
        given = call(batch, length)
        assert session.logits(given).shape == (batch, 4)
        np.testing.assert_allclose(session.logits(given), torch_session.logits(given), atol=1e-5)
    assert artifact.facts["nodes"]["MatMul"] > 0
    assert session.facts["providers"] == ["CPUExecutionProvider"]


@pytest.mark.slow
def test_int8_starts_from_the_one_export_and_runs_int8_kernels(tiny_bert: records.ModelRef, cache: Path) -> None:
    full, exported = opened(tiny_bert, "onnxruntime/fp32", cache)
    session, artifact = opened(tiny_bert, "onnxruntime/int8-dynamic", cache)
    channels, other = opened(tiny_bert, "onnxruntime/int8-dynamic:per_channel", cache)
    assert artifact.prepare_s > exported.prepare_s  # the export is part of what preparing takes
    assert artifact.facts["quantized_layers"] == 2 * 6 + 2
    assert artifact.facts["nodes"]["DynamicQuantizeMatMul"] + artifact.facts["nodes"]["MatMulIntegerToFloat"] == 14
    assert other.key != artifact.key
    given = call(2, 8)
    for quantized in (session, channels):
        assert 0 < np.abs(quantized.logits(given) - full.logits(given)).max() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_distilbert"])
def test_the_optimizer_keeps_the_answers_and_says_what_it_fused(
    architecture: str, request: pytest.FixtureRequest, cache: Path
) -> None:
    model = request.getfixturevalue(architecture)
    full, exported = opened(model, "onnxruntime/fp32", cache)
    session, artifact = opened(model, "onnxruntime/fp32:optimize", cache)
    for batch, length in ((1, 4), (1, 32), (3, 11)):
        np.testing.assert_allclose(session.logits(call(batch, length)), full.logits(call(batch, length)), atol=1e-4)
    told = artifact.facts["optimizer"]
    # one and two a layer, and embeddings where there is one kind; attention stays as it is
    embeddings = {"EmbedLayerNormalization": 1} if architecture == "tiny_distilbert" else {}
    assert told["fused"] == {"BiasGelu": 2, "SkipLayerNormalization": 4, **embeddings}
    assert told["changes_float_run"] == (artifact.facts["nodes"] != exported.facts["nodes"])
    assert told["largest_difference"] <= 1e-4
    assert artifact.key != exported.key


@pytest.mark.slow
def test_a_fusion_that_changes_answers_is_refused(
    tiny_bert: records.ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_optimizer, "_difference", lambda _one, _other: 0.5)
    with pytest.raises(errors.Unsupported, match=r"changes this model's answers by 0\.5, at most 0\.0001"):
        opened(tiny_bert, "onnxruntime/fp32:optimize", tmp_path)


@pytest.mark.slow
def test_an_architecture_that_the_optimizer_stumbles_over_is_unsupported(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = {**sizes, "vocab_size": 64, "max_position_embeddings": 40, "pad_token_id": 0}
    model = records.ModelRef(name="modern", source="random", location="modernbert", config=config, seed=1)
    with pytest.raises(errors.Unsupported, match=r"cannot read this architecture's graph.*leave optimize away"):
        opened(model, "onnxruntime/fp32:optimize", tmp_path)
    session, _ = opened(model, "onnxruntime/int8-weight-only", tmp_path)
    assert session.logits(call(2, 8)).shape == (2, 2)


@pytest.mark.slow
def test_preparing_leaves_the_root_logger_as_it_was(tiny_bert: records.ModelRef, tmp_path: Path) -> None:
    before = (list(logging.root.handlers), logging.root.level, logging.root.manager.disable)
    with onnx_graphs.silent():
        logging.basicConfig(level=logging.INFO, force=True)  # what the quantizer of weights does when it is imported
    opened(tiny_bert, "onnxruntime/int4-weight-only", tmp_path)
    assert (list(logging.root.handlers), logging.root.level, logging.root.manager.disable) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "onnxruntime/int8-dynamic",
        "onnxruntime/fp32:optimize",
        "onnxruntime/int8-static:draw=random-tokens,rows=2",
        "onnxruntime/int4-weight-only",
    ],
)
def test_a_session_needs_neither_torch_nor_transformers_and_prints_nothing(
    text: str, tiny_bert: records.ModelRef, cache: Path
) -> None:
    folder, _ = operations.prepare(tiny_bert, strategies.parse(text), cache)
    program = f"""
import json, os, sys
from pathlib import Path
from storage import records, strategies
from worker.engine import operations
operations.preload("onnxruntime")
threads = len(os.listdir("/proc/self/task"))
session = operations.open_session(Path({str(folder)!r}), strategies.parse({text!r}), 2)
heavy = [name for name in ("torch", "transformers", "datasets", "onnx") if name in sys.modules]
print(json.dumps({{"threads": threads, "set": session.threads, "heavy": heavy}}))
"""
    done = _python(program)
    assert json.loads(done.stdout) == {"threads": 1, "set": 2, "heavy": []}
    assert done.stderr == ""


@pytest.mark.slow
def test_preloading_torch_starts_no_thread_and_prints_nothing() -> None:
    program = """
import os
from worker.engine import operations
operations.preload("torch")
print(len(os.listdir("/proc/self/task")))
"""
    done = _python(program)
    assert (done.stdout.strip(), done.stderr) == ("1", "")


def _python(program: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
