from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import errors, records, strategies
from tests.integration.engine.test_onnx import call
from worker.engine import libraries, models, operations
from worker.engine.strategies import base, onnx_graphs, onnx_quantized, onnx_static

pytestmark = pytest.mark.slow

CALLS = ((1, 4), (2, 8), (3, 11), (1, 32))
LINEAR = 2 * 6 + 2
"""Linear layers of the tiny models: six in each of two layers, and two in the head."""

# tokens like those of `call`, so that no answer lies outside of the calibrated ranges
SAMPLE = "draw=random-tokens,rows=64"
# strategy → largest difference of a logit from fp32 on the tiny models, whose logits are of size 2
BOUNDS = {
    "onnxruntime/int8-dynamic": 0.4,
    "onnxruntime/int8-dynamic:optimize,per_channel": 0.6,
    "onnxruntime/int8-dynamic:reduce_range": 0.4,
    f"onnxruntime/int8-static:{SAMPLE}": 0.5,
    f"onnxruntime/int8-static:optimize,{SAMPLE}": 0.5,
    f"onnxruntime/int8-static:per_channel,operators=matmul,{SAMPLE}": 0.5,
    f"onnxruntime/int8-static:method=percentile,reduce_range,{SAMPLE}": 0.5,
    "onnxruntime/int8-weight-only": 0.05,
    "onnxruntime/int4-weight-only:block=16": 0.8,
    "onnxruntime/int4-weight-only:compute=int8": 0.8,
}
SHARED = Path(__file__).parents[4] / "shared"
MODEL = SHARED / "models" / "minilm-clinc150"
DATA = SHARED / "data" / "clinc150"


def prepared(
    model: records.ModelRef, text: str, cache: Path, dataset: records.DatasetRef | None = None
) -> tuple[Path, records.Artifact]:
    data = {"train": dataset} if dataset is not None else {}
    return operations.prepare(model, strategies.parse(text), cache, data=data)


def opened(
    model: records.ModelRef, text: str, cache: Path, dataset: records.DatasetRef | None = None
) -> tuple[Any, records.Artifact]:
    folder, artifact = prepared(model, text, cache, dataset)
    return operations.open_session(folder, strategies.parse(text), 1), artifact


def matrices(folder: Path) -> dict[str, int]:
    """Dtype → values in the stored graph's matrices."""
    import onnx

    counts: dict[str, int] = {}
    for tensor in onnx.load(folder / onnx_graphs.GRAPH).graph.initializer:
        if len(tensor.dims) > 1:
            name = onnx.TensorProto.DataType.Name(tensor.data_type)
            counts[name] = counts.get(name, 0) + int(np.prod(tensor.dims))
    return counts


@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_distilbert"])
@pytest.mark.parametrize("text", BOUNDS)
def test_it_answers_near_fp32_for_every_batch_and_length_and_every_linear_layer_runs_quantized(
    text: str, architecture: str, request: pytest.FixtureRequest, cache: Path, dataset: records.DatasetRef
) -> None:
    model = request.getfixturevalue(architecture)
    full, _ = opened(model, "onnxruntime/fp32", cache)
    session, artifact = opened(model, text, cache, dataset)
    differences = [np.abs(session.logits(call(*size)) - full.logits(call(*size))).max() for size in CALLS]
    assert 0 < max(differences) < BOUNDS[text]
    assert artifact.facts["quantized_layers"] == LINEAR
    kernels = onnx_graphs.BLOCK_KERNELS if "weight-only" in text else onnx_graphs.INT8_KERNELS
    assert sum(artifact.facts["nodes"].get(name, 0) for name in kernels) >= LINEAR
    if "static" in text:  # and attention's two products in each of two layers
        assert artifact.facts["quantized_products"] == 2 * 2


def test_each_precision_stores_what_it_says(
    tiny_bert: records.ModelRef, cache: Path, dataset: records.DatasetRef
) -> None:
    embeddings, linear = (64 + 32 + 2) * 32, 2 * (4 * 32 * 32 + 2 * 32 * 64) + 32 * 32 + 4 * 32
    found = {
        text: matrices(prepared(tiny_bert, f"onnxruntime/{text}", cache, dataset)[0])
        for text in ("int8-dynamic", "int8-static", "int8-static:operators=matmul", "int8-weight-only",
                     "int4-weight-only")
    }  # fmt: skip
    for text in ("int8-dynamic", "int8-static"):
        assert found[text]["INT8"] + found[text].get("UINT8", 0) == embeddings + linear
        assert found[text].get("FLOAT", 0) == 0
    matmul = found["int8-static:operators=matmul"]
    assert (matmul["INT8"], matmul["FLOAT"]) == (linear, embeddings)
    blocks = linear // 32
    columns = 2 * (4 * 32 + 64 + 32) + 32 + 4  # no column has more than two blocks, whose zero points share a byte
    eight, four = found["int8-weight-only"], found["int4-weight-only"]
    assert (eight["UINT8"], four["UINT8"]) == (linear + blocks, linear // 2 + columns)  # zero points too
    assert eight["FLOAT"] == four["FLOAT"] == embeddings + blocks  # a scale for each block


@pytest.mark.parametrize("operators", ["all", "matmul"])
def test_a_static_graph_still_obeys_the_attention_mask(
    operators: str, tiny_bert: records.ModelRef, cache: Path, dataset: records.DatasetRef
) -> None:
    session, _ = opened(tiny_bert, f"onnxruntime/int8-static:operators={operators}", cache, dataset)
    alone = call(1, 6)
    alone["attention_mask"][:] = 1
    padded = {name: np.pad(array, ((0, 0), (0, 20))) for name, array in alone.items()}
    padded["input_ids"][:, 6:] = 7  # would change the answer if it were attended to
    np.testing.assert_allclose(session.logits(padded), session.logits(alone), atol=0.02)


def test_without_its_care_for_the_mask_a_static_graph_attends_to_padding(
    tiny_bert: records.ModelRef, tmp_path: Path, dataset: records.DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_static, "mask_nodes", lambda _model: set())
    with pytest.raises(AssertionError):
        test_a_static_graph_still_obeys_the_attention_mask("all", tiny_bert, tmp_path, dataset)


def test_weight_only_computes_in_float32_unless_int8_is_asked_for(tiny_bert: records.ModelRef, cache: Path) -> None:
    folder, artifact = prepared(tiny_bert, "onnxruntime/int8-weight-only", cache)
    as_float, _ = opened(tiny_bert, "onnxruntime/int8-weight-only", cache)
    as_int8, other = opened(tiny_bert, "onnxruntime/int8-weight-only:compute=int8", cache)
    given = call(2, 8)
    expected = widened(folder).run(None, given)[0]
    assert np.abs(as_float.logits(given) - expected).max() < 1e-4
    assert np.abs(as_int8.logits(given) - expected).max() > 1e-3
    assert (artifact.facts["compute"], other.facts["compute"]) == ("fp32", "int8")
    assert artifact.key != other.key


def widened(folder: Path) -> Any:
    """A session over the 8-bit graph with its weights multiplied out to float32, and plain products."""
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    model = onnx.load(folder / onnx_graphs.GRAPH)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "MatMulNBits":
            continue
        how = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        values, scales, zeros = (constants[name].astype(np.float32) for name in node.input[1:4])
        blocks = values - zeros.reshape(how["N"], -1, 1)
        weight = (blocks * scales.reshape(how["N"], -1, 1)).reshape(how["N"], -1)[:, : how["K"]].T
        name = f"{node.input[1]}/float"
        model.graph.initializer.append(numpy_helper.from_array(weight.copy(), name))
        node.CopyFrom(helper.make_node("MatMul", [node.input[0], name], list(node.output)))
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_reduce_range_leaves_a_bit_of_every_weight_free(
    tiny_bert: records.ModelRef, cache: Path, dataset: records.DatasetRef
) -> None:
    import onnx
    from onnx import numpy_helper

    for text in ("int8-dynamic", "int8-static:operators=matmul"):
        largest = []
        for strategy in (f"onnxruntime/{text}", f"onnxruntime/{text}{',' if ':' in text else ':'}reduce_range"):
            folder, artifact = prepared(tiny_bert, strategy, cache, dataset)
            tensors = onnx.load(folder / onnx_graphs.GRAPH).graph.initializer
            weights = [t for t in tensors if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]
            largest.append(max(int(np.abs(numpy_helper.to_array(t).astype(int)).max()) for t in weights))
            assert artifact.facts["reduce_range"] == ("reduce_range" in strategy)
        assert (largest[0], largest[1]) == (127, 64) or (largest[0] > 120 and largest[1] <= 64)


def test_sessions_tell_whether_int8_sums_are_exact_on_this_cpu(tiny_bert: records.ModelRef, cache: Path) -> None:
    session, _ = opened(tiny_bert, "onnxruntime/int8-dynamic", cache)
    isa, machine = libraries.isa(), platform.machine()
    has_vnni = any("vnni" in name for name in isa)
    expected = "exact" if has_vnni or machine != "x86_64" else "saturating"
    assert session.facts["int8_sums"] == expected


def test_the_sample_decides_the_key_and_its_digest_is_kept(
    tiny_bert: records.ModelRef, tmp_path: Path, dataset: records.DatasetRef
) -> None:
    text = "onnxruntime/int8-static:rows=4"
    _, first = prepared(tiny_bert, text, tmp_path, dataset)
    _, again = prepared(tiny_bert, text, tmp_path, dataset)
    assert (again.key, again.cached, first.cached) == (first.key, True, False)
    others = [
        prepared(tiny_bert, other, tmp_path, dataset)[1]
        for other in (
            f"{text},draw=short",
            f"{text},draw=one-class",
            f"{text},seed=1",
            "onnxruntime/int8-static:rows=5",
        )
    ]
    fewer = prepared(tiny_bert, text, tmp_path, dataclasses.replace(dataset, rows=6))[1]
    assert len({first.key, fewer.key, *(other.key for other in others)}) == 6
    assert first.facts["sample"]["digest"] == again.facts["sample"]["digest"]
    assert first.facts["sample"]["digest"] not in {other.facts["sample"]["digest"] for other in others}
    assert (first.facts["sample"]["rows"], first.facts["sample"]["data"]) == (4, "train")


def test_ranges_follow_the_sample(tiny_bert: records.ModelRef, tmp_path: Path, dataset: records.DatasetRef) -> None:
    short, _ = opened(tiny_bert, "onnxruntime/int8-static:rows=1,draw=short", tmp_path, dataset)
    whole, _ = opened(tiny_bert, "onnxruntime/int8-static:rows=8", tmp_path, dataset)
    full, _ = opened(tiny_bert, "onnxruntime/fp32", tmp_path)
    errors_of = [np.abs(s.logits(call(3, 11)) - full.logits(call(3, 11))).max() for s in (short, whole)]
    assert errors_of[1] < errors_of[0]


@pytest.mark.parametrize("problem", ["empty", "column", "absent"])
def test_a_sample_that_cannot_be_drawn_is_a_dataset_error(
    problem: str, tiny_bert: records.ModelRef, tmp_path: Path, dataset: records.DatasetRef
) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("text,intent\n")
    given = {
        "empty": dataclasses.replace(dataset, location=str(empty)),
        "column": dataclasses.replace(dataset, text="txt"),
        "absent": None,
    }[problem]
    message = {"empty": "is empty", "column": "no column 'txt'.*text", "absent": "names no such dataset"}[problem]
    with pytest.raises(errors.DatasetError, match=message):
        prepared(tiny_bert, "onnxruntime/int8-static", tmp_path, given)


def test_entropy_narrows_ranges(tiny_bert: records.ModelRef, cache: Path) -> None:
    full, _ = opened(tiny_bert, "onnxruntime/fp32", cache)
    extremes, _ = opened(tiny_bert, f"onnxruntime/int8-static:operators=matmul,{SAMPLE}", cache)
    entropy, artifact = opened(tiny_bert, f"onnxruntime/int8-static:operators=matmul,method=entropy,{SAMPLE}", cache)
    given = call(3, 11)
    assert np.abs(entropy.logits(given) - full.logits(given)).max() < 1.0
    assert np.abs(entropy.logits(given) - extremes.logits(given)).max() > 1e-3
    assert artifact.facts["calibration"] | {"tensors": 0} == {
        "method": "entropy",
        "tensors": 0,
        "calls": "one row each, without padding",
        "left_in_float": 0,
        "bins": 512,
    }


def test_random_tokens_need_no_dataset(tiny_bert: records.ModelRef, cache: Path) -> None:
    _, artifact = prepared(tiny_bert, "onnxruntime/int8-static:draw=random-tokens,rows=5", cache)
    assert (artifact.facts["sample"]["draw"], artifact.facts["sample"]["rows"]) == ("random-tokens", 5)


@pytest.mark.parametrize(("method", "passes"), [("minmax", 1), ("percentile", 2)])
def test_calibration_tells_how_far_it_is(
    method: str, passes: int, tiny_bert: records.ModelRef, tmp_path: Path, dataset: records.DatasetRef
) -> None:
    told: list[dict[str, Any]] = []
    strategy = strategies.parse(f"onnxruntime/int8-static:rows=3,method={method}")
    operations.prepare(
        tiny_bert, strategy, tmp_path, data={"train": dataset}, tell=lambda progress: told.append(dict(progress))
    )
    total = 3 * passes
    expected = [{"phase": "calibrating", "done": done, "total": total} for done in range(1, total + 1)]
    assert [progress for progress in told if progress.get("phase") == "calibrating"] == expected


@pytest.mark.parametrize(
    "text",
    [
        "onnxruntime/fp32:optimize",
        "onnxruntime/int8-dynamic",
        "onnxruntime/int8-static",
        "onnxruntime/int8-static:method=percentile,operators=matmul",
        "onnxruntime/int4-weight-only",
    ],
)
def test_weights_in_a_file_of_their_own_give_the_same_answers(
    text: str, tiny_bert: records.ModelRef, cache: Path, tmp_path: Path, dataset: records.DatasetRef
) -> None:
    """The form of graphs of 2 GB and more; and what is built on is left as it was."""
    import onnx

    plain, _ = prepared(tiny_bert, "onnxruntime/fp32", cache)
    split, made = tmp_path / "split", tmp_path / "made"
    split.mkdir()
    made.mkdir()
    onnx.save(onnx.load(plain / onnx_graphs.GRAPH), split / onnx_graphs.GRAPH, save_as_external_data=True,
              location=f"{onnx_graphs.GRAPH}.data", size_threshold=256)  # fmt: skip
    (split / onnx_graphs.RECIPE).write_bytes((plain / onnx_graphs.RECIPE).read_bytes())
    before = {path.name: path.read_bytes() for path in split.iterdir()}
    strategy = strategies.parse(text)
    implementation = base.load(strategy)
    source = base.Source(model=tiny_bert, base=split, dataset=dataset)
    implementation.prepare(source, strategy, made)
    assert {path.name: path.read_bytes() for path in split.iterdir()} == before
    names = {onnx_graphs.GRAPH, f"{onnx_graphs.GRAPH}.data", onnx_graphs.RECIPE, onnx_graphs.PROBE}
    assert {path.name for path in made.iterdir()} <= names
    expected, _ = opened(tiny_bert, text, cache, dataset)
    session = implementation.open(made, strategy, 1)
    np.testing.assert_allclose(session.logits(call(2, 8)), expected.logits(call(2, 8)), atol=1e-4)


def test_gemm_nodes_become_products_with_the_same_answers(tiny_bert: records.ModelRef, cache: Path) -> None:
    import onnx
    import onnxruntime

    folder, _ = prepared(tiny_bert, "onnxruntime/fp32", cache)
    full, _ = opened(tiny_bert, "onnxruntime/fp32", cache)
    model = onnx.load(folder / onnx_graphs.GRAPH)
    assert any(node.op_type == "Gemm" for node in model.graph.node)
    changed = onnx_quantized.gemms_as_products(model)
    assert not any(node.op_type == "Gemm" for node in changed.graph.node)
    session = onnxruntime.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, call(3, 11))[0], full.logits(call(3, 11)), atol=1e-5)


@pytest.fixture(scope="module")
def cut(tiny_bert: records.ModelRef, tmp_path_factory: pytest.TempPathFactory) -> records.ModelRef:
    """A model with one head in its first layer and two in its second."""
    import torch

    folder = tmp_path_factory.mktemp("cut")
    model = models.load(tiny_bert)
    attention = "bert.encoder.layer.0.attention"
    for name in ("query", "key", "value"):
        whole = model.get_submodule(f"{attention}.self.{name}")
        part = torch.nn.Linear(32, 16)
        part.load_state_dict({"weight": whole.weight[:16], "bias": whole.bias[:16]})  # type: ignore[index]
        model.set_submodule(f"{attention}.self.{name}", part)
    whole = model.get_submodule(f"{attention}.output.dense")
    part = torch.nn.Linear(16, 32)
    part.load_state_dict({"weight": whole.weight[:, :16], "bias": whole.bias})  # type: ignore[index]
    model.set_submodule(f"{attention}.output.dense", part)
    models.save(model, tiny_bert, folder)
    return records.ModelRef(name="cut", source="local", location=str(folder))


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("onnxruntime/fp32", 1e-4),
        ("onnxruntime/fp32:optimize", 1e-4),
        ("onnxruntime/int8-static:optimize", 1.0),
        ("onnxruntime/int8-weight-only", 0.05),
    ],
)
def test_layers_with_unlike_heads_answer_as_torch(
    text: str, bound: float, cut: records.ModelRef, cache: Path, dataset: records.DatasetRef
) -> None:
    torch_session, _ = opened(cut, "torch/fp32", cache)
    session, _ = opened(cut, text, cache, dataset)
    for size in CALLS:
        assert np.abs(session.logits(call(*size)) - torch_session.logits(call(*size))).max() < bound


@pytest.mark.skipif(not (MODEL.is_dir() and DATA.is_dir()), reason="the real checkpoint is not here")
def test_real_weights_keep_the_accuracy_that_was_measured(cache: Path) -> None:
    """200 validation rows; one is half a point. Measured: 0.940, 0.950, 0.965, at 23.8, 59.6 and 56 MB."""
    model = records.ModelRef(name="minilm", source="local", location=str(MODEL))
    train = records.DatasetRef(source="local", location=str(DATA / "train.parquet"), label="intent")
    rows, _ = operations.prepare_rows(
        model, dataclasses.replace(train, location=str(DATA / "validation.parquet"), rows=200), cache
    )
    expected = {
        "onnxruntime/int8-static:rows=50": (0.93, 0.98, 23.8),
        "onnxruntime/int8-static:rows=50,operators=matmul": (0.94, 0.98, 59.6),
        "onnxruntime/int4-weight-only": (0.95, 0.98, 56.0),
    }
    for text, (least, most, megabytes) in expected.items():
        session, artifact = opened(model, text, cache, train)
        predictions, labels = operations.predict(session, rows, 1, lambda _done, _total: None)
        right = np.mean(np.array(predictions) == np.array(labels))
        assert least <= right <= most, text
        assert abs(artifact.size_bytes / 1e6 - megabytes) < 1.5, text
        assert artifact.facts["quantized_layers"] == 6 * 6 + 2
