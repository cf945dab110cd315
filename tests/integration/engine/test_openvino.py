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
from storage.catalogue import registry
from tests.integration.engine import test_real_weights as real
from worker.engine import libraries, models, operations, samples

libraries.settle()
pytest.importorskip("openvino")
pytest.importorskip("nncf")

from worker.engine.strategies import openvino as own  # noqa: E402
from worker.engine.strategies import openvino_quantized as quantized  # noqa: E402

pytestmark = pytest.mark.slow

LAYERS = 2 * 6 + 2  # of the tiny BERT: query, key, value, output, two of the FFN; pooler and classifier
SHAPES = ((1, 4), (1, 32), (2, 8), (3, 11))


def call(batch: int, length: int) -> dict[str, np.ndarray[Any, Any]]:
    ids = np.random.default_rng(batch).integers(5, 30, (batch, length))
    mask = np.ones_like(ids)
    mask[-1, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def opened(
    model: records.ModelRef, text: str, cache: Path, data: records.DatasetRef | None = None, threads: int = 1
) -> tuple[Any, records.Artifact]:
    strategy = strategies.parse(text)
    folder, artifact = operations.prepare(model, strategy, cache, data={} if data is None else {"train": data})
    return operations.open_session(folder, strategy, threads), artifact


def furthest(session: Any, reference: Any) -> float:
    """The largest difference of logits over all shapes."""
    calls = [call(*shape) for shape in SHAPES]
    return max(float(np.abs(session.logits(one) - reference.logits(one)).max()) for one in calls)


def weights_bytes(cache: Path, artifact: records.Artifact) -> int:
    return (cache / "artifacts" / artifact.key / "model.bin").stat().st_size


def can(text: str) -> bool:
    """Whether this CPU has what the catalogue says that a strategy needs."""
    needed = registry.describe(text).needs_isa
    return not needed or bool(set(needed) & set(libraries.isa()))


@pytest.fixture(scope="module")
def full(tiny_bert: records.ModelRef, cache: Path) -> Any:
    return opened(tiny_bert, "openvino/fp32", cache)[0]


@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_distilbert"])
def test_the_converted_graph_answers_as_torch_for_every_batch_and_length(
    architecture: str, request: pytest.FixtureRequest, cache: Path
) -> None:
    model = request.getfixturevalue(architecture)
    torch_session, _ = opened(model, "torch/fp32", cache)
    session, artifact = opened(model, "openvino/fp32", cache)
    assert furthest(session, torch_session) < 1e-5
    assert session.logits(call(3, 11)).shape == (3, 4)
    assert session.logits(call(3, 11)).dtype == np.float32
    products = {name: count for name, count in session.facts["nodes"].items() if name.startswith("FullyConnected")}
    assert set(products) == {"FullyConnected[f32×f32]"}
    assert session.facts["inference_precision_hint"] == "f32"
    assert (session.facts["quantized_layers"], session.facts["compressed_layers"]) == (0, 0)
    assert 4 * artifact.facts["parameters"] <= weights_bytes(cache, artifact) < 4.3 * artifact.facts["parameters"]


def test_a_bound_call_answers_with_its_own_inputs(full: Any) -> None:
    first, second = call(2, 8), call(1, 4)
    runs = [full.bind(first), full.bind(second)]
    for run, given in zip((*runs, *runs), (first, second, first, second), strict=True):
        np.testing.assert_array_equal(run()[0], full.logits(given))


def test_kernels_are_named_with_and_without_a_call_before(tiny_bert: records.ModelRef, cache: Path) -> None:
    session, _ = opened(tiny_bert, "openvino/fp32", cache)
    session.bind(call(1, 32))()
    uncalled, _ = opened(tiny_bert, "openvino/fp32", cache)
    for facts in (session.facts, uncalled.facts):
        assert sum(count for name, count in facts["kernels"].items() if name.startswith("FullyConnected")) == LAYERS
        assert not any("undef" in name for name in facts["kernels"])


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_read_back(threads: int, tiny_bert: records.ModelRef, cache: Path) -> None:
    session, _ = opened(tiny_bert, "openvino/fp32", cache, threads=threads)
    assert session.threads == min(threads, len(os.sched_getaffinity(0)))


def test_bfloat16_shares_the_float_artifact(tiny_bert: records.ModelRef, cache: Path) -> None:
    _, usual = operations.prepare(tiny_bert, strategies.parse("openvino/fp32"), cache)
    _, artifact = operations.prepare(tiny_bert, strategies.parse("openvino/bf16"), cache)
    assert artifact.key == usual.key
    assert artifact.cached


@pytest.mark.skipif(not can("openvino/bf16"), reason="no bfloat16 on this CPU")
def test_bfloat16_multiplies_in_bfloat16(tiny_bert: records.ModelRef, cache: Path, full: Any) -> None:
    session, _ = opened(tiny_bert, "openvino/bf16", cache)
    assert session.facts["inference_precision_hint"] == "bf16"
    assert session.facts["nodes"]["FullyConnected[bf16×bf16]"] == LAYERS
    assert 0 < furthest(session, full) < 0.2


@pytest.mark.skipif(can("openvino/bf16"), reason="this CPU has bfloat16")
def test_bfloat16_without_the_instructions_is_unsupported_not_float32(
    tiny_bert: records.ModelRef, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.Unsupported, match="avx512_bf16"):
        opened(tiny_bert, "openvino/bf16", cache)
    monkeypatch.setattr(libraries, "isa", lambda: ["avx512_bf16"])  # a CPU that only says so
    with pytest.raises(errors.Unsupported, match="computes in no bfloat16"):
        opened(tiny_bert, "openvino/bf16", cache)


def test_a_setting_that_reads_back_as_another_is_unsupported(
    tiny_bert: records.ModelRef, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_told", lambda _compiled, _name: "bf16")
    with pytest.raises(errors.Unsupported, match="INFERENCE_PRECISION_HINT bf16 here where f32 was asked for"):
        opened(tiny_bert, "openvino/fp32", cache)


def test_int8_weights_are_multiplied_with_float_activations(
    tiny_bert: records.ModelRef, cache: Path, full: Any
) -> None:
    session, artifact = opened(tiny_bert, "openvino/int8-weight-only", cache)
    _, usual = operations.prepare(tiny_bert, strategies.parse("openvino/fp32"), cache)
    assert artifact.prepare_s > usual.prepare_s  # the conversion is part of what preparing takes
    assert artifact.facts["weights"] == {"uint8, per channel": LAYERS + 3}  # and three embeddings
    assert session.facts["nodes"]["FullyConnected[f32×u8]"] == LAYERS
    assert (session.facts["quantized_layers"], session.facts["compressed_layers"]) == (0, LAYERS)
    assert session.facts["dynamic_quantization_group_size"] == "0"
    assert weights_bytes(cache, artifact) < 0.35 * weights_bytes(cache, usual)
    assert 0 < furthest(session, full) < 0.1


@pytest.mark.parametrize("text", ["openvino/int8-weight-only", "openvino/int4-weight-only"])
def test_compressed_weights_without_avx2_are_unsupported_not_a_crash(
    text: str, tiny_bert: records.ModelRef, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "isa", lambda: ["sse4_1"])
    with pytest.raises(errors.Unsupported, match="needs avx2"):
        opened(tiny_bert, text, cache)


def test_int4_weights_fall_back_to_groups_that_divide_their_rows(
    tiny_bert: records.ModelRef, cache: Path, full: Any
) -> None:
    session, artifact = opened(tiny_bert, "openvino/int4-weight-only", cache)
    _, other = opened(tiny_bert, "openvino/int4-weight-only:group=32", cache)
    _, eight = operations.prepare(tiny_bert, strategies.parse("openvino/int8-weight-only"), cache)
    assert artifact.facts["group"] == 128  # asked for; rows of this model have 32 and 64 columns
    assert artifact.facts["weights"] == {
        "uint4, groups of 32": LAYERS - 3,
        "uint4, groups of 64": 2,
        "uint8, per channel": 1 + 3,  # the last layer, embeddings
    }
    assert other.facts["weights"]["uint4, groups of 32"] == LAYERS - 1
    assert other.key != artifact.key
    assert session.facts["nodes"]["FullyConnected[f32×u4]"] == LAYERS - 1
    assert session.facts["quantized_layers"] == 0
    assert weights_bytes(cache, artifact) < 0.85 * weights_bytes(cache, eight)
    assert 0 < furthest(session, full) < 1


def test_whether_openvino_quantizes_activations_is_what_the_catalogue_says() -> None:
    import openvino

    probed = quantized.quantizes_dynamically(openvino.Core(), quantized.Int8Dynamic.properties)
    assert probed == can("openvino/int8-dynamic")
    assert not quantized.quantizes_dynamically(openvino.Core(), quantized.Int8WeightOnly.properties)


@pytest.mark.skipif(not can("openvino/int8-dynamic"), reason="no dot products of int8 on this CPU")
def test_int8_dynamic_is_not_weight_only(tiny_bert: records.ModelRef, cache: Path, full: Any) -> None:
    session, artifact = opened(tiny_bert, "openvino/int8-dynamic", cache)
    only, _ = opened(tiny_bert, "openvino/int8-weight-only", cache)
    assert session.facts["quantized_layers"] == LAYERS
    assert sum(artifact.facts["weights"].values()) == LAYERS + 3
    assert furthest(session, only) > 0
    assert 0 < furthest(session, full) < 0.3


@pytest.mark.skipif(can("openvino/int8-dynamic"), reason="this CPU has dot products of int8")
def test_int8_dynamic_that_would_be_weight_only_is_unsupported(
    tiny_bert: records.ModelRef, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.Unsupported, match="avx512_vnni or avx_vnni"):
        opened(tiny_bert, "openvino/int8-dynamic", cache)
    monkeypatch.setattr(libraries, "isa", lambda: ["avx512_vnni"])  # a CPU that only says so
    with pytest.raises(errors.Unsupported, match="int8-weight-only is what would run"):
        opened(tiny_bert, "openvino/int8-dynamic", cache)


def test_int8_static_multiplies_int8_by_int8(
    tiny_bert: records.ModelRef, cache: Path, dataset: records.DatasetRef, full: Any
) -> None:
    strategy = strategies.parse("openvino/int8-static:rows=6,seed=3")
    told: list[dict[str, Any]] = []
    folder, artifact = operations.prepare(
        tiny_bert, strategy, cache, data={"train": dataset}, tell=lambda progress: told.append(dict(progress))
    )
    session = operations.open_session(folder, strategy, 1)
    _, usual = operations.prepare(tiny_bert, strategies.parse("openvino/fp32"), cache)
    assert session.facts["nodes"]["FullyConnected[i8×i8]"] == LAYERS
    assert session.facts["quantized_layers"] >= LAYERS
    assert session.facts["sample"] == samples.of_strategy(tiny_bert, dataset, strategy).facts
    assert session.facts["sample"]["rows"] == 6
    assert told[:6] == [{"phase": "calibrate", "pass": 1, "done": at, "total": 6} for at in range(6)]
    assert weights_bytes(cache, artifact) < 0.4 * weights_bytes(cache, usual)
    assert 0 < furthest(session, full) < 1
    again = operations.prepare(tiny_bert, strategy, cache, data={"train": dataset})[1]
    assert again.cached
    assert again.key == artifact.key


def test_int8_static_in_mixed_scales_is_another_artifact(
    tiny_bert: records.ModelRef, cache: Path, dataset: records.DatasetRef, full: Any
) -> None:
    symmetric, first = opened(tiny_bert, "openvino/int8-static:rows=6", cache, dataset)
    mixed, second = opened(tiny_bert, "openvino/int8-static:rows=6,preset=mixed", cache, dataset)
    assert first.key != second.key
    assert "FullyConnected[u8×i8]" in mixed.facts["nodes"]
    assert furthest(mixed, symmetric) > 0
    assert furthest(mixed, full) < 1


def test_int8_static_on_made_up_tokens_reads_no_dataset(tiny_bert: records.ModelRef, cache: Path) -> None:
    session, _ = opened(tiny_bert, "openvino/int8-static:rows=4,draw=random-tokens", cache)
    assert session.facts["sample"]["rows"] == 4
    assert session.facts["quantized_layers"] >= LAYERS


def test_an_empty_calibration_dataset_is_refused(tiny_bert: records.ModelRef, cache: Path, tmp_path: Path) -> None:
    import datasets

    path = tmp_path / "empty.parquet"
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"text": [], "intent": []}).to_parquet(path)
    empty = records.DatasetRef(source="local", location=str(path), label="intent")
    with pytest.raises(errors.DatasetError):
        opened(tiny_bert, "openvino/int8-static", cache, empty)


@pytest.mark.parametrize("damage", ["no graph", "half a graph", "no weights", "half the weights"])
def test_a_damaged_artifact_is_a_model_error(
    damage: str, tiny_bert: records.ModelRef, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    strategy = strategies.parse("openvino/fp32")
    folder, _ = operations.prepare(tiny_bert, strategy, tmp_path)
    graph, weights = folder / "model.xml", folder / "model.bin"
    if damage == "no graph":
        graph.write_text("nothing")
    elif damage == "half a graph":
        graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    elif damage == "no weights":
        weights.unlink()
    else:
        os.truncate(weights, weights.stat().st_size // 2)
    capfd.readouterr()
    with pytest.raises(errors.ModelError, match=r"model\.xml"):
        operations.open_session(folder, strategy, 1)
    assert capfd.readouterr() == ("", "")


def test_a_pruned_model_converts_and_takes_int4_groups(tiny_bert: records.ModelRef, tmp_path: Path) -> None:
    import torch

    whole: Any = models.load(tiny_bert)
    layer = whole.bert.encoder.layer[0]
    for holder, name, shape in ((layer.intermediate, "dense", (48, 32)), (layer.output, "dense", (32, 48))):
        old = getattr(holder, name)
        new = torch.nn.Linear(shape[1], shape[0])
        new.weight.data = old.weight.data[: shape[0], : shape[1]].clone()
        new.bias.data = old.bias.data[: shape[0]].clone()
        setattr(holder, name, new)
    models.save(whole, tiny_bert, tmp_path / "pruned")
    model = records.ModelRef(name="pruned", source="local", location=str(tmp_path / "pruned"))
    reference, _ = opened(model, "torch/fp32", tmp_path)
    session, _ = opened(model, "openvino/fp32", tmp_path)
    fewer, artifact = opened(model, "openvino/int4-weight-only", tmp_path)
    assert furthest(session, reference) < 1e-5
    assert artifact.facts["weights"]["uint4, groups of 16"] == 1  # rows of 48 columns
    assert 0 < furthest(fewer, reference) < 1


def test_a_session_needs_no_torch_and_stays_on_its_cpu_and_prints_nothing(
    tiny_bert: records.ModelRef, cache: Path, dataset: records.DatasetRef, tmp_path: Path
) -> None:
    text = "openvino/int8-static:rows=6"
    folder, _ = operations.prepare(tiny_bert, strategies.parse(text), cache, data={"train": dataset})
    program = f"""
import json, os, sys
from pathlib import Path
import numpy as np
from storage import strategies
from worker.engine import operations
operations.preload("openvino")
tasks = lambda: set(os.listdir("/proc/self/task"))
before = tasks()
cpu = max(os.sched_getaffinity(0))
os.sched_setaffinity(0, {{cpu}})
session = operations.open_session(Path({str(folder)!r}), strategies.parse({text!r}), 2)
ones = np.ones((2, 16), dtype=np.int64)
run = session.bind(dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ones))
for _ in range(20):
    run()
places = set()
for task in tasks():
    status = Path(f"/proc/self/task/{{task}}/status").read_text()
    places |= {{line.split()[1] for line in status.splitlines() if line.startswith("Cpus_allowed_list")}}
heavy = [name for name in ("torch", "transformers", "datasets", "nncf", "onnx") if name in sys.modules]
print(json.dumps({{
    "tasks": len(before), "set": session.threads, "heavy": heavy, "elsewhere": sorted(places - {{str(cpu)}}),
    "quantized": session.facts["quantized_layers"], "pinning": session.facts["pinning"],
}}))
"""
    done = _python(program, tmp_path)
    told = json.loads(done.stdout)
    assert told.pop("quantized") >= LAYERS
    assert told == {"tasks": 1, "set": 1, "heavy": [], "elsewhere": [], "pinning": True}
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_signals_are_still_handled_after_sessions_came_and_went(
    tiny_bert: records.ModelRef, cache: Path, tmp_path: Path
) -> None:
    folder, _ = operations.prepare(tiny_bert, strategies.parse("openvino/fp32"), cache)
    program = f"""
import faulthandler, gc, signal
from pathlib import Path
from storage import strategies
from worker.engine import operations
faulthandler.enable()  # as whoever has an alternate signal stack
signal.signal(signal.SIGALRM, lambda *_: print("handled", flush=True))
def opened():
    return operations.open_session(Path({str(folder)!r}), strategies.parse("openvino/fp32"), 1)
sessions = [opened(), opened()]
while sessions:
    del sessions[0]
    gc.collect()
signal.raise_signal(signal.SIGALRM)
"""
    done = _python(program, tmp_path)
    assert done.stdout == "handled\n"


def test_preparing_leaves_the_levels_of_others_handlers_alone(tiny_bert: records.ModelRef, cache: Path) -> None:
    handler, logger = logging.NullHandler(), logging.getLogger("nncf")
    logger.addHandler(handler)  # as pytest adds those that it captures with, where NNCF was imported before
    try:
        operations.prepare(tiny_bert, strategies.parse("openvino/int8-weight-only"), cache)
    finally:
        logger.removeHandler(handler)
    assert handler.level == logging.NOTSET


def test_preparing_prints_nothing_asks_no_network_and_leaves_nothing_at_home(
    tiny_bert: records.ModelRef, tmp_path: Path
) -> None:
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    program = f"""
import json, os, sys
from pathlib import Path
from storage import records, strategies
from worker.engine import operations
asked = []
sys.addaudithook(lambda event, args: asked.append(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
operations.preload("torch")
early = [name for name in ("openvino", "nncf") if name in sys.modules]
tasks = len(os.listdir("/proc/self/task"))
model = records.ModelRef(name="tiny", source="local", location={tiny_bert.location!r})
for text in ("openvino/int8-static:rows=4,draw=random-tokens", "openvino/int4-weight-only"):
    operations.prepare(model, strategies.parse(text), Path({str(cache)!r}))
print(json.dumps({{"early": early, "tasks": tasks, "asked": asked, "torch": "torch" in sys.modules}}))
"""
    done = _python(program, home)
    assert json.loads(done.stdout) == {"early": [], "tasks": 1, "asked": [], "torch": True}
    assert done.stderr == ""
    assert list(home.iterdir()) == []


@pytest.mark.skipif(not (real.MODEL.is_dir() and real.DATA.is_file()), reason="the real checkpoint is not here")
def test_int8_static_of_the_real_checkpoint(tmp_path: Path) -> None:
    model = records.ModelRef(name="minilm", source="local", location=str(real.MODEL))
    data = records.DatasetRef(source="local", location=str(real.DATA), label="intent", rows=100)
    rows, _ = operations.prepare_rows(model, data, tmp_path)
    answers = []
    for text in ("openvino/fp32", "openvino/int8-static:rows=24"):
        session, artifact = opened(model, text, tmp_path, data)
        predictions, labels = operations.predict(session, rows, 1, lambda _done, _total: None)
        answers.append((np.array(predictions), artifact.size_bytes, session.facts["quantized_layers"]))
        assert np.mean(answers[-1][0] == np.array(labels)) >= 0.92
    (whole, size, none), (eight, fewer, products) = answers
    assert np.mean(whole == eight) >= 0.95
    assert (none, products) == (0, 38 + 6)  # six layers of attention multiply query by key in int8 too
    assert 91e6 < size < 92e6
    assert 23e6 < fewer < 24e6


def _python(program: str, home: Path) -> subprocess.CompletedProcess[str]:
    # TBB and OpenMP threads that other libraries start on import would hide what OpenVINO does
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=240
    )
