from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import errors, records, strategies
from tests.integration.engine.conftest import make_model
from worker.engine import libraries, operations
from worker.engine.strategies import base

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++"),
    pytest.mark.filterwarnings("ignore"),  # deprecations inside of torch and torchao while they compile
]

torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")

DYNAMIC = "inductor/int8-dynamic"
PT2E = "inductor/int8-dynamic:by=pt2e"
STATIC = "inductor/int8-static:rows=6"
WEIGHTS = "inductor/int8-weight-only"
FLOAT = ("inductor/fp32", "inductor/bf16")
QUANTIZED = (DYNAMIC, PT2E, STATIC, WEIGHTS)
EACH = [*FLOAT, *(pytest.param(text, marks=torchao) for text in QUANTIZED)]

FARTHEST = {"inductor/fp32": 1e-4, "inductor/bf16": 0.1, DYNAMIC: 0.5, PT2E: 0.5, STATIC: 0.5, WEIGHTS: 0.2}
"""Largest logit difference from fp32; logits of the tiny model spread over several units."""

LAYERS = 6 + 2  # linear layers: six in the one layer, pooler, classifier

SIZES = [(1, 1), (1, 7), (2, 8), (5, 3), (3, 32)]


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> records.ModelRef:
    """With one layer: compiling takes half the time, and a second one has nothing that the first one has not."""
    return make_model(tmp_path_factory.mktemp("one-layer"), layers=1)


SECOND = """
import json, os, pathlib, sys
import numpy as np
from storage import strategies
from worker.engine import libraries, operations

def spent():
    tasks = pathlib.Path("/proc/self/task").iterdir()
    return {task.name: int((task / "schedstat").read_text().split()[0]) for task in tasks}

threads, calls, *opened = json.loads(sys.argv[1])
libraries.preload("inductor")
print("after preload", len(spent()), file=sys.stderr)
call = {name: np.array(ids) for name, ids in calls.items()}
wide = {name: np.repeat(ids, 16, axis=0) for name, ids in call.items()}
answers = {}
for text, folder in opened:
    session = operations.open_session(pathlib.Path(folder), strategies.parse(text), threads)
    answers[text] = session.logits(call).tolist()
    run = session.bind(wide)
    with session.calling():
        for _ in range(200):
            run()
compiler = [name for name in ("torch._inductor", "torch._dynamo", "torchao", "transformers") if name in sys.modules]
print(json.dumps({"answers": answers, "spent": spent(), "imported": compiler, "threads": session.threads}))
"""


def sized(batch: int, length: int) -> dict[str, np.ndarray[Any, Any]]:
    draw = np.random.default_rng(100 * batch + length)
    mask = np.ones((batch, length), dtype=np.int64)
    mask[-1, max(1, length // 2) :] = 0  # the last row is padded
    types = np.zeros((batch, length), dtype=np.int64)
    return {"input_ids": draw.integers(5, 40, (batch, length)), "attention_mask": mask, "token_type_ids": types}


def prepared(
    text: str, model: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> tuple[Path, records.Artifact]:
    return operations.prepare(model, strategies.parse(text), cache, data={"train": dataset})


def opened(text: str, model: records.ModelRef, dataset: records.DatasetRef, cache: Path) -> Any:
    folder, _ = prepared(text, model, dataset, cache)
    return operations.open_session(folder, strategies.parse(text), 1)


@pytest.mark.parametrize("text", EACH)
def test_one_code_answers_near_fp32_at_every_batch_and_length(
    text: str, tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    session = opened(text, tiny_bert, dataset, cache)
    full = opened("torch/fp32", tiny_bert, dataset, cache)
    away = [float(np.abs(session.logits(sized(*size)) - full.logits(sized(*size))).max()) for size in SIZES]
    assert max(away) < FARTHEST[text]
    assert text == "inductor/fp32" or max(away) > 1e-3
    assert session.logits(sized(2, 8)).dtype == np.float32
    assert session.inputs == ("input_ids", "attention_mask", "token_type_ids")


def test_freezing_packs_float32_weights_for_onednn(
    tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    _, artifact = prepared("inductor/fp32", tiny_bert, dataset, cache)
    ((kernel, times),) = artifact.facts["kernels"].items()
    assert kernel.startswith("inner_product ") and kernel.endswith(" f32×f32")
    assert times == artifact.facts["constants"]["float32 packed"] == LAYERS
    called = artifact.facts["operators"]
    assert sum(times for name, times in called.items() if name.startswith("_linear_pointwise")) == LAYERS


def test_bf16_holds_no_float32_weights(tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path) -> None:
    _, artifact = prepared("inductor/bf16", tiny_bert, dataset, cache)
    assert {name for name in artifact.facts["constants"] if "float" in name} <= {"bfloat16", "bfloat16 packed"}


@torchao
@pytest.mark.parametrize("text", [DYNAMIC, PT2E, STATIC])
def test_onednn_reports_int8_kernels(
    text: str, tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    _, artifact = prepared(text, tiny_bert, dataset, cache)
    facts = artifact.facts
    assert all(kernel.endswith(("u8×s8", "s8×s8")) for kernel in facts["kernels"])
    assert sum(facts["kernels"].values()) == facts["quantized_layers"] == facts["constants"]["int8 packed"] == LAYERS
    assert facts["reduce_range"] == (not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(libraries.isa()))


@torchao
def test_weight_only_reads_int8_weights(tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path) -> None:
    _, artifact = prepared(WEIGHTS, tiny_bert, dataset, cache)
    assert artifact.facts["operators"]["_weight_int8pack_mm"] == artifact.facts["constants"]["int8"] == LAYERS


@torchao
def test_a_static_artifact_tells_its_sample(
    tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    _, artifact = prepared(STATIC, tiny_bert, dataset, cache)
    sample = artifact.facts["sample"]
    assert (sample["rows"], sample["data"], sample["draw"]) == (6, "train", "representative")
    assert sample["digest"]


@pytest.mark.parametrize("text", EACH)
def test_artifacts_are_as_small_as_the_precision_says_and_hold_no_code(
    text: str, tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    folder, artifact = prepared(text, tiny_bert, dataset, cache)
    _, full = prepared("torch/fp32", tiny_bert, dataset, cache)
    most = {"inductor/fp32": 1.01, "inductor/bf16": 0.6}.get(text, 0.6)
    assert artifact.size_bytes < most * full.size_bytes
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("text", EACH)
def test_preparing_again_gives_the_same_key_and_compiles_nothing(
    text: str, tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path
) -> None:
    _, first = prepared(text, tiny_bert, dataset, cache)
    _, again = prepared(text, tiny_bert, dataset, cache)
    assert (again.key, again.cached) == (first.key, True)
    assert 0 < first.facts["compile_s"] <= first.prepare_s


def test_another_cpu_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = strategies.parse("inductor/fp32")
    before = base.load(strategy).recipe(strategy)
    monkeypatch.setattr(libraries, "isa", lambda: ["sse4_1"])
    assert base.load(strategy).recipe(strategy) != before


def second_process(
    threads: int, folders: Mapping[str, Path], call: Mapping[str, np.ndarray[Any, Any]], bad: Path
) -> Any:
    """Opens artifacts where every compiler's name leads to one that tells of itself and fails."""
    told = bad / "told"
    for name in ("g++", "gcc", "c++", "cc", "clang++", "clang", "ld", "as"):
        (bad / name).write_text(f"#!/bin/sh\necho {name} >> {told}\nexit 1\n")
        (bad / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    environment |= {"PATH": f"{bad}:{os.environ['PATH']}", "CXX": str(bad / "g++"), "TMPDIR": str(bad)}
    environment["OPENBLAS_NUM_THREADS"] = "1"  # as a nursery sets it
    request = [threads, {name: ids.tolist() for name, ids in call.items()}]
    asked = json.dumps([*request, *([text, str(folder)] for text, folder in folders.items())])
    done = subprocess.run(
        [sys.executable, "-c", SECOND, asked], env=environment, capture_output=True, text=True, check=True
    )
    assert not told.exists()
    assert done.stderr == "after preload 1\n"
    return json.loads(done.stdout)


@pytest.mark.parametrize("threads", [1, 2])
def test_another_process_loads_the_code_without_a_compiler_for_the_threads_asked(
    threads: int, tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path, tmp_path: Path
) -> None:
    here = [*FLOAT, *(QUANTIZED if importlib.util.find_spec("torchao") else ())]
    folders = {text: prepared(text, tiny_bert, dataset, cache)[0] for text in here}
    before = sorted((path, path.stat().st_mtime_ns) for folder in folders.values() for path in folder.iterdir())
    call = sized(2, 8)
    there = second_process(threads, folders, call, tmp_path)
    for text in here:
        ours = opened(text, tiny_bert, dataset, cache).logits(call)
        assert np.allclose(there["answers"][text], ours, atol=1e-3)
    assert there["imported"] == []
    worked = [spent for spent in there["spent"].values() if spent > 5e6]  # ns; torch's inter-op thread only waits
    assert there["threads"] == len(worked) == threads
    after = sorted((path, path.stat().st_mtime_ns) for folder in folders.values() for path in folder.iterdir())
    assert after == before


@torchao
def test_a_host_that_got_an_artifact_compiles_its_code_while_preparing_and_draws_no_sample(
    tiny_bert: records.ModelRef, dataset: records.DatasetRef, cache: Path, tmp_path: Path
) -> None:
    folder, artifact = prepared(STATIC, tiny_bert, dataset, cache)
    shutil.copytree(folder, tmp_path / "artifacts" / artifact.key)
    damaged = tmp_path / "compiled"
    shutil.copytree(cache / "compiled", damaged)
    for library in damaged.glob("*/model.so"):
        library.write_bytes(library.read_bytes()[:-1])
    elsewhere, again = prepared(STATIC, tiny_bert, dataset, tmp_path)
    assert (again.cached, again.prepare_s) == (True, artifact.prepare_s)
    whole = {path.parent.name: path.stat().st_size for path in (cache / "compiled").glob("*/model.so")}
    sizes = {path.parent.name: path.stat().st_size for path in damaged.glob("*/model.so")}
    assert sum(sizes[key] >= whole[key] for key in whole) == 1  # the one that was needed
    there = operations.open_session(elsewhere, strategies.parse(STATIC), 1)
    here = operations.open_session(folder, strategies.parse(STATIC), 1)
    assert np.array_equal(there.logits(sized(2, 8)), here.logits(sized(2, 8)))


def test_a_host_without_a_compiler_is_told_what_to_install(
    tiny_bert: records.ModelRef, dataset: records.DatasetRef, tmp_path: Path
) -> None:
    import torch._inductor.config

    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "/nowhere/c++")}),
        pytest.raises(errors.Unsupported, match=r"needs a C\+\+ compiler.*apt-get install g\+\+"),
    ):
        prepared("inductor/fp32", tiny_bert, dataset, tmp_path)
