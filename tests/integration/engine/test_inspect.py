"""What a strategy makes of a model's layers, told from its artifact."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from storage import errors, records, strategies
from worker import tool
from worker.engine import inspect as inspection
from worker.engine import models, operations

EMBEDDINGS = ("bert.embeddings.word_embeddings", "bert.embeddings.position_embeddings")


def inspected(model: records.ModelRef, text: str, cache: Path) -> dict[str, Any]:
    return operations.inspect(model, strategies.parse(text), cache)


def by_name(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {layer["name"]: layer for layer in told["layers"]}


def test_each_layer_has_its_size_before_and_after(tiny_bert: records.ModelRef, cache: Path) -> None:
    told = inspected(tiny_bert, "torch/int8-dynamic", cache)
    json.dumps(told)
    assert by_name(told)["classifier"] == {
        "name": "classifier",
        "type": "Linear",
        "shape": [4, 32],
        "parameters": 132,
        "bytes": 528,
        "quantized": True,
        "stored": "int8",
        "stored_bytes": 4 * 32 + 4 * 4 + 16,  # the weight, a float bias, a scale and a zero point of 8 bytes each
        "scales": 1,
    }
    assert sum(layer["parameters"] for layer in told["layers"]) == told["parameters"]
    assert (told["source_dtype"], told["max_tokens"], told["digest"]) == ("float16", 32, models.identify(tiny_bert))
    assert told["labels"] == ["greet", "leave", "pay", "oos"]


def test_the_sums_are_those_of_the_artifacts_file(tiny_bert: records.ModelRef, cache: Path) -> None:
    told = inspected(tiny_bert, "torch/int8-dynamic", cache)
    folder, artifact = operations.prepare(tiny_bert, strategies.parse("torch/int8-dynamic"), cache)
    header = models.safetensors_header(folder)
    values = sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values())
    strategy = told["strategy"]
    assert strategy["bytes_layers"] + strategy["bytes_elsewhere"] == values
    assert strategy["bytes_file"] == artifact.size_bytes
    assert sum(kind["stored_bytes"] for kind in strategy["kinds"]) == strategy["bytes_layers"]
    quantized = [kind for kind in strategy["kinds"] if kind["quantized"]]
    assert [(kind["type"], kind["layers"]) for kind in quantized] == [("Linear", artifact.facts["quantized_layers"])]


def test_what_stays_float_depends_on_the_strategy(tiny_bert: records.ModelRef, cache: Path) -> None:
    found = {
        text: by_name(inspected(tiny_bert, text, cache))
        for text in ("torch/int8-dynamic", "torch/int8-dynamic:embeddings,per_channel", "torch/bf16")
    }
    stored = {text: {layers[name]["stored"] for name in EMBEDDINGS} for text, layers in found.items()}
    assert list(stored.values()) == [{"float32"}, {"uint8"}, {"bfloat16"}]
    dense = [layers["bert.pooler.dense"] for layers in found.values()]
    assert [(layer["stored"], layer["scales"]) for layer in dense] == [("int8", 1), ("int8", 32), ("bfloat16", 0)]


def test_a_transform_shows_in_what_is_stored(tiny_bert: records.ModelRef, cache: Path) -> None:
    cut = by_name(inspected(tiny_bert, "prune-ffn:0.5,by=magnitude+torch/fp32", cache))
    layer = cut["bert.encoder.layer.0.intermediate.dense"]
    assert layer["stored_bytes"] == layer["bytes"] / 2


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
def test_openvinos_weights_are_told_by_the_names_in_its_graph(tiny_bert: records.ModelRef, cache: Path) -> None:
    told = by_name(inspected(tiny_bert, "openvino/int8-weight-only", cache))
    assert {told[name]["stored"] for name in (*EMBEDDINGS, "classifier")} == {"uint8"}
    assert told["classifier"]["scales"] == 4


REFUSED = {
    "torch/int8-static": "torch/int8-static reads a dataset.*with draw=random-tokens it reads none",
    "distil+torch/fp32": "distil reads a dataset, and only a study names datasets",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_strategy_that_needs_a_dataset_is_refused(tiny_bert: records.ModelRef, cache: Path, text: str) -> None:
    with pytest.raises(errors.StrategyError, match=REFUSED[text]):
        inspected(tiny_bert, text, cache)


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="needs torchao")
def test_a_strategy_that_fits_no_layer_of_the_model_is_the_persons_to_mend(
    tiny_bert: records.ModelRef, cache: Path
) -> None:
    with pytest.raises(errors.StrategyError, match=r"no layer of this model.*groups of 128"):
        inspected(tiny_bert, "torch/int4-weight-only:group=128", cache)


def test_layers_that_an_artifact_does_not_name_are_not_guessed(tiny_bert: records.ModelRef, cache: Path) -> None:
    with pytest.raises(errors.StrategyError, match="layers cannot be told apart"):
        inspected(tiny_bert, "onnxruntime/fp32", cache)


def test_the_tool_answers_both_questions(tiny_bert: records.ModelRef, tmp_path: Path, asking: Any) -> None:
    model = records.to_document(tiny_bert)
    code, told = asking("inspect", {"model": model, "strategy": "torch/fp32"})
    assert (code, told["result"]["strategy"]["name"]) == (0, "torch/fp32")
    code, told = asking("weigh", {"model": model, "layer": "classifier", "picture": str(tmp_path / "a.png")})
    assert code == 0 and (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    code, told = asking("weigh", {"model": model, "layer": "classifer"})
    assert code == 2 and "did you mean 'classifier'" in told["message"]
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".png" and path.name != "cache"]


def test_a_strategy_that_this_host_lacks_a_package_for_is_the_persons_to_mend(
    tiny_bert: records.ModelRef, asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker import environment

    monkeypatch.setattr(environment, "versions", lambda: {"torch": "2", "transformers": "5"})
    code, told = asking("inspect", {"model": records.to_document(tiny_bert), "strategy": "openvino/fp32"})
    assert code == 2 and "openvino/fp32 needs" in told["message"] and "pip install" in told["message"]


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ask the tool in this process; its exit code and last event."""
    monkeypatch.setenv("QUANTFLEET_CACHE", str(tmp_path / "cache"))

    def ask(command: str, options: dict[str, Any]) -> tuple[int, Any]:
        out = io.StringIO()
        code = tool.answer(command, options, out)
        return code, json.loads(out.getvalue().splitlines()[-1])

    return ask


def test_tied_weights_count_where_they_come_first() -> None:
    model = torch.nn.ModuleDict({"table": torch.nn.Embedding(6, 4), "head": torch.nn.Linear(4, 6)})
    model["head"].weight = model["table"].weight
    assert [(row["name"], row["parameters"]) for row in inspection._layers(model)] == [("table", 24), ("head", 6)]
