"""Heads and neurons cut from tiny models: the right slices go, what stays answers the same, every runtime loads it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage import errors, records, strategies
from tests.integration.engine.conftest import make_model
from tests.integration.engine.pruning_tools import (
    HEAD_FAMILIES,
    IDS,
    MASK,
    header,
    logits,
    masked,
    ref,
    store,
    transformed,
    wide,
)
from worker.artifacts import ARTIFACTS
from worker.engine import libraries, models, operations, samples
from worker.engine.strategies import base
from worker.engine.transforms import families, importance, magnitude, structured


@pytest.mark.parametrize("architecture", HEAD_FAMILIES)
def test_a_model_without_heads_answers_as_with_these_heads_at_zero(
    architecture: str, tmp_path: Path, dataset: records.DatasetRef
) -> None:
    whole = wide(tmp_path / "whole", architecture)
    blocks = families.blocks(whole, "heads")
    model, facts = transformed(ref(tmp_path / "whole"), "prune-heads:0.5", tmp_path / "cut", dataset)
    assert facts["heads"]["of"] == [4, 4]
    assert [len(those) for those in facts["heads"]["kept"]] == [2, 2]
    with masked(whole, list(zip(blocks, facts["heads"]["kept"], strict=True))):
        expected = logits(whole)
    np.testing.assert_allclose(logits(model), expected, atol=1e-5)
    assert np.abs(logits(whole) - expected).max() > 1e-2
    shapes = header(tmp_path / "cut")
    for block in blocks:
        assert [shapes[f"{name}.weight"] for name in block.into] == [[16, 32]] * 3
        assert [shapes[f"{name}.bias"] for name in block.into] == [[16]] * 3
        assert (shapes[f"{block.out}.weight"], shapes[f"{block.out}.bias"]) == ([32, 16], [32])


@pytest.mark.parametrize("architecture", families.FAMILIES)
def test_a_model_without_neurons_answers_as_with_these_neurons_at_zero(
    architecture: str, tmp_path: Path, dataset: records.DatasetRef
) -> None:
    whole = wide(tmp_path / "whole", architecture)
    source = base.Source(model=ref(tmp_path / "whole"), dataset=dataset)
    blocks, step = families.blocks(whole, "neurons"), strategies.parse_step("prune-ffn:0.4")
    scores, _ = importance.scores(whole, blocks, source, step)
    kept = [importance.best(ranked, 40) for ranked in scores]  # 0.6 · 64 = 38.4, a multiple of 8 again
    model, facts = transformed(ref(tmp_path / "whole"), "prune-ffn:0.4", tmp_path / "cut", dataset)
    assert facts["neurons"] == {"of": [64, 64], "kept": [40, 40]}
    with masked(whole, list(zip(blocks, kept, strict=True))):
        expected = logits(whole)
    np.testing.assert_allclose(logits(model), expected, atol=1e-5)
    assert np.abs(logits(whole) - expected).max() > 1e-2
    shapes = header(tmp_path / "cut")
    for block in blocks:
        (into,) = block.into
        assert (shapes[f"{into}.weight"], shapes[f"{into}.bias"]) == ([40, 32], [40])
        assert (shapes[f"{block.out}.weight"], shapes[f"{block.out}.bias"]) == ([32, 40], [32])
    before = facts["parameters"]["before"]
    assert before == sum(parameter.numel() for parameter in whole.parameters())
    assert before - facts["parameters"]["after"] == 2 * 24 * (32 + 1 + 32)


@pytest.mark.parametrize("by", ["taylor", "activation", "magnitude"])
def test_parts_that_do_nothing_go_first(by: str, tmp_path: Path, dataset: records.DatasetRef) -> None:
    whole = wide(tmp_path / "whole")
    dead_head, dead_neurons = 2, [0, 5, 6, 17, 30, 31, 32, 63]
    for at in range(2):
        attention, layer = whole.bert.encoder.layer[at].attention, whole.bert.encoder.layer[at]
        attention.self.value.weight.data[8 * dead_head : 8 * dead_head + 8] = 0
        attention.self.value.bias.data[8 * dead_head : 8 * dead_head + 8] = 0
        layer.intermediate.dense.weight.data[dead_neurons] = 0
        layer.intermediate.dense.bias.data[dead_neurons] = 0
        layer.output.dense.weight.data[:, dead_neurons] = 0
    model = store(whole, tmp_path / "whole")
    text = f"prune-heads:0.25,by={by}"
    fewer, facts = transformed(model, text, tmp_path / "heads", dataset)
    assert facts["heads"]["kept"] == [[0, 1, 3], [0, 1, 3]]
    np.testing.assert_allclose(logits(fewer), logits(whole), atol=1e-5)
    slim, _ = transformed(model, f"prune-ffn:0.125,by={by}", tmp_path / "slim", dataset)
    np.testing.assert_allclose(logits(slim), logits(whole), atol=1e-5)


def test_only_taylor_sees_that_nothing_listens_to_a_loud_head(tmp_path: Path, dataset: records.DatasetRef) -> None:
    whole = wide(tmp_path / "whole", layers=1)
    attention = whole.bert.encoder.layer[0].attention
    attention.output.dense.weight.data[:, 8:16] = 0
    attention.self.value.weight.data[8:16] *= 5
    model = store(whole, tmp_path / "whole")
    kept = {
        by: transformed(model, f"prune-heads:0.25,by={by}", tmp_path / by, dataset)[1]["heads"]["kept"]
        for by in ("taylor", "activation", "magnitude")
    }
    assert kept["taylor"] == [[0, 2, 3]]
    assert 1 in kept["activation"][0]
    assert 1 in kept["magnitude"][0]


@pytest.mark.parametrize("what", ["heads", "neurons"])
def test_taylor_importance_is_the_slope_of_the_loss_as_a_part_fades(
    what: families.What, tmp_path: Path, dataset: records.DatasetRef
) -> None:
    whole = wide(tmp_path / "whole").double()
    blocks = families.blocks(whole, what)
    sample = samples.draw(ref(tmp_path / "whole"), dataset, rows=5)
    classes = torch.from_numpy(samples.classes(ref(tmp_path / "whole"), dataset, sample))
    calls = [importance.tensors(call) for call in sample.calls(batch=2)]
    found = importance.by_taylor(whole.requires_grad_(False), blocks, calls, classes)
    for at in (0, 1, blocks[0].count - 1):
        slopes = [
            (row_loss(whole, blocks[0], at, 1 + 1e-4, row) - row_loss(whole, blocks[0], at, 1 - 1e-4, row)) / 2e-4
            for row in zip([importance.tensors(call) for call in sample.calls()], classes, strict=True)
        ]
        assert found[0][at] == pytest.approx(np.abs(slopes).mean(), rel=1e-3, abs=1e-9)


def row_loss(model: Any, block: families.Block, part: int, factor: float, row: tuple[importance.Call, Any]) -> float:
    """The loss of one row with one part's features scaled."""
    scale = torch.ones(block.count, block.size)
    scale[part] = factor
    projection = model.get_submodule(block.out)
    hook = projection.register_forward_pre_hook(lambda _module, given: (given[0] * scale.flatten(),))
    try:
        with torch.inference_mode():
            return float(torch.nn.functional.cross_entropy(model(**row[0]).logits, row[1][None]))
    finally:
        hook.remove()


def test_padding_does_not_count_as_activity(tmp_path: Path, dataset: records.DatasetRef) -> None:
    whole = wide(tmp_path / "whole")
    blocks = families.blocks(whole, "neurons")
    sample = samples.draw(ref(tmp_path / "whole"), dataset, rows=None)
    alone, together, padded = (
        importance.by_activation(whole, blocks, [importance.tensors(call) for call in calls])
        for calls in (sample.calls(), sample.calls(batch=8), sample.calls(batch=4, width=30))
    )
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    np.testing.assert_allclose(padded, alone, rtol=1e-4)


def test_feed_forward_in_chunks_gives_the_same_importance(tmp_path: Path, dataset: records.DatasetRef) -> None:
    texts = "prune-ffn:0.5,by=activation", "prune-ffn:0.5"
    wide(tmp_path / "whole")
    wide(tmp_path / "chunked", chunk_size_feed_forward=1)
    for at, text in enumerate(texts):
        usual, _ = transformed(ref(tmp_path / "whole"), text, tmp_path / f"usual{at}", dataset)
        chunked, _ = transformed(ref(tmp_path / "chunked"), text, tmp_path / f"pieces{at}", dataset)
        for name, tensor in usual.state_dict().items():
            assert torch.equal(tensor, chunked.state_dict()[name]), name


def test_cut_models_can_be_cut_again(tmp_path: Path, dataset: records.DatasetRef) -> None:
    whole = wide(tmp_path / "whole")
    _, first = transformed(ref(tmp_path / "whole"), "prune-heads:0.25", tmp_path / "once", dataset)
    _, second = transformed(ref(tmp_path / "once"), "prune-heads:0.25", tmp_path / "twice", dataset)
    model, third = transformed(ref(tmp_path / "twice"), "prune-ffn:0.5,by=magnitude", tmp_path / "thrice")
    assert second["heads"]["of"] == [3, 3]
    left = [
        [before[at] for at in after]
        for before, after in zip(first["heads"]["kept"], second["heads"]["kept"], strict=True)
    ]
    neurons = families.blocks(whole, "neurons")
    kept = [importance.best(ranked, 32) for ranked in importance.by_magnitude(whole, neurons)]
    both = [*zip(families.blocks(whole, "heads"), left, strict=True), *zip(neurons, kept, strict=True)]
    with masked(whole, both):
        np.testing.assert_allclose(logits(model), logits(whole), atol=1e-5)
    assert third["parameters"]["before"] == second["parameters"]["after"] < second["parameters"]["before"]


def test_layers_may_keep_unlike_numbers_of_heads(tmp_path: Path) -> None:
    whole = wide(tmp_path / "whole")
    first, second = families.blocks(whole, "heads")
    with masked(whole, [(first, [3]), (second, [0, 1, 2])]):
        expected = logits(whole)
    model = models.load(ref(tmp_path / "whole"))
    structured.cut(model, first, [3])
    structured.cut(model, second, [0, 1, 2])
    models.save(model, ref(tmp_path / "whole"), tmp_path / "cut")
    again = models.load(ref(tmp_path / "cut"))
    np.testing.assert_allclose(logits(again), expected, atol=1e-5)
    assert [block.count for block in families.blocks(again, "heads")] == [1, 3]
    less, facts = transformed(ref(tmp_path / "cut"), "prune-ffn:0.5,by=magnitude", tmp_path / "less")
    assert facts["neurons"]["kept"] == [32, 32]
    assert [block.count for block in families.blocks(less, "heads")] == [1, 3]


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.parametrize("runtime", ["torch/fp32", "torch/bf16", "torch/int8-dynamic", "onnxruntime/fp32"])
def test_every_runtime_takes_the_smaller_model(
    runtime: str, tmp_path: Path, tiny_bert: records.ModelRef, dataset: records.DatasetRef
) -> None:
    steps = "prune-heads:0.5+prune-ffn:0.5"
    session, artifact = opened(tiny_bert, f"{steps}+{runtime}", tmp_path, dataset)
    plain, before = opened(tiny_bert, runtime, tmp_path, dataset)
    call = {"input_ids": IDS.numpy(), "attention_mask": MASK.numpy(), "token_type_ids": np.zeros((2, 5), np.int64)}
    made = artifact.facts["transforms"]
    model = models.load(ref(tmp_path / ARTIFACTS / made[-1]["key"]))
    near = {"torch/fp32": 1e-5, "onnxruntime/fp32": 1e-4, "torch/bf16": 0.2, "torch/int8-dynamic": 0.5}
    np.testing.assert_allclose(session.logits(call), logits(model), atol=near[runtime])
    assert np.abs(plain.logits(call) - session.logits(call)).max() > 1e-2
    assert artifact.facts["parameters"] == made[1]["facts"]["parameters"]["after"] < before.facts["parameters"]
    assert artifact.size_bytes < before.size_bytes
    assert [step["step"] for step in made] == ["prune-heads:0.5", "prune-ffn:0.5"]


def opened(
    model: records.ModelRef, text: str, cache: Path, dataset: records.DatasetRef
) -> tuple[Any, records.Artifact]:
    strategy = strategies.parse(text)
    folder, artifact = operations.prepare(model, strategy, cache, data={"train": dataset})
    return operations.open_session(folder, strategy, 1), artifact


def test_taylor_needs_labels_that_are_classes_and_the_others_do_not(
    tmp_path: Path, dataset: records.DatasetRef
) -> None:
    wide(tmp_path / "whole", classes=3)
    with pytest.raises(errors.DatasetError, match=r"not classes of model.*by=activation and by=magnitude need none"):
        transformed(ref(tmp_path / "whole"), "prune-heads:0.5", tmp_path / "no", dataset)
    _, facts = transformed(ref(tmp_path / "whole"), "prune-heads:0.5,by=activation", tmp_path / "yes", dataset)
    assert facts["sample"]["rows"] == 8
    _, facts = transformed(ref(tmp_path / "whole"), "prune-heads:0.5,by=magnitude", tmp_path / "plain")
    assert "sample" not in facts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prune-heads:0.9", r"prune-heads:0.9 would cut every head of layer 0, which has 2; one at least must stay"),
        ("prune-ffn:0.05", r"prune-ffn:0.05 cuts nothing: of 64 neurons 64 would stay"),
        ("prune-magnitude:0.0001", r"prune-magnitude:0.0001 sets no weight to zero"),
    ],
)
def test_pruning_everything_or_nothing_is_refused(
    text: str, message: str, tmp_path: Path, tiny_bert: records.ModelRef, dataset: records.DatasetRef
) -> None:
    with pytest.raises(errors.StrategyError, match=message):
        transformed(tiny_bert, text, tmp_path / "cut", dataset)


def test_eight_neurons_stay_at_least(tmp_path: Path, tiny_bert: records.ModelRef) -> None:
    model, facts = transformed(tiny_bert, "prune-ffn:0.999,by=magnitude", tmp_path / "cut")
    assert facts["neurons"]["kept"] == [8, 8]
    assert np.isfinite(logits(model)).all()


@pytest.mark.parametrize(
    ("architecture", "text", "message"),
    [
        ("mpnet", "prune-heads:by=magnitude", r"heads of mpnet .*bert, roberta, xlm-roberta.* and distilbert can"),
        ("albert", "prune-ffn:by=magnitude", r"neurons of albert .*distilbert and mpnet can"),
        ("albert", "prune-heads:by=magnitude", r"heads of albert"),
    ],
)
def test_architectures_that_cannot_be_cut_say_which_can(
    architecture: str, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(errors.Unsupported, match=message):
        transformed(random(architecture), text, tmp_path / "cut")


@pytest.mark.parametrize("text", ["prune-heads:0.5,by=magnitude", "prune-ffn:0.5,by=magnitude", "prune-magnitude"])
def test_models_with_random_weights_are_pruned_by_magnitude(text: str, tmp_path: Path) -> None:
    strategy = strategies.parse(f"{text}+torch/fp32")
    folder, artifact = operations.prepare(random("bert"), strategy, tmp_path)
    assert operations.open_session(folder, strategy, 1).logits(
        {"input_ids": IDS.numpy(), "attention_mask": MASK.numpy(), "token_type_ids": np.zeros((2, 5), np.int64)}
    ).shape == (2, 3)
    assert artifact.facts["transforms"][0]["step"] == str(strategy.steps[0])


@pytest.mark.parametrize("architecture", ["albert", "deberta-v2", "mpnet"])
def test_any_encoder_of_linear_layers_is_pruned_by_magnitude(architecture: str, tmp_path: Path) -> None:
    model, facts = transformed(random(architecture), "prune-magnitude:0.25", tmp_path / "pruned")
    assert facts["zeros"]["layers"] == pytest.approx(0.25, abs=1e-3)
    assert not any("classifier" in name or "pooler" in name for name in magnitude.encoder_layers(model))


def test_a_model_without_a_tokenizer_has_no_sample(tmp_path: Path, dataset: records.DatasetRef) -> None:
    with pytest.raises(errors.Unsupported, match="no tokenizer"):
        transformed(random("bert"), "prune-heads:0.5", tmp_path / "cut", dataset)


def random(architecture: str) -> records.ModelRef:
    settings = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings |= {"intermediate_size": 64, "max_position_embeddings": 32, "pad_token_id": 0, "num_labels": 3}
    return records.ModelRef(name="random", source="random", location=architecture, config=settings, seed=5)


def test_the_same_step_is_prepared_once_and_any_other_again(
    tmp_path: Path, tiny_bert: records.ModelRef, dataset: records.DatasetRef
) -> None:
    def key(text: str, data: records.DatasetRef = dataset) -> str:
        _, artifact = operations.prepare(
            tiny_bert, strategies.parse(f"{text}+torch/fp32"), tmp_path, data={"train": data}
        )
        return str(artifact.facts["transforms"][0]["key"])

    first = key("prune-ffn:0.5")
    assert key("prune-ffn:amount=50%") == first
    others = [
        key("prune-ffn:0.5", dataclasses.replace(dataset, rows=5)),
        *(key(f"prune-ffn:0.5,{more}") for more in ("seed=1", "rows=4", "by=activation", "by=magnitude", "recover=1")),
        key("prune-ffn:0.75"),
        key("prune-heads:0.5"),
    ]
    assert len({first, *others}) == len(others) + 1
    assert key("prune-ffn:0.5,by=magnitude,seed=7") == key("prune-ffn:0.5,by=magnitude")


def test_recipes_hold_what_decides_the_bytes_and_nothing_else() -> None:
    def recipe(text: str) -> Any:
        step = strategies.parse_step(text)
        return base.load_transform(step).recipe(step)

    assert recipe("prune-magnitude:0.5") == {"pattern": "unstructured", "amount": 0.5}
    assert recipe("prune-magnitude:pattern=2:4,seed=3,learning_rate=0.1") == {"pattern": "2:4"}
    assert set(recipe("prune-magnitude:recover=5")) == {"pattern", "amount", "recover", "learning_rate", "seed", "isa"}
    assert recipe("prune-heads:0.5,by=magnitude,rows=9,seed=3") == {"amount": 0.5, "by": "magnitude"}
    assert recipe("prune-heads:0.5")["isa"] == libraries.isa()
    assert set(recipe("prune-ffn:0.5")) == {"amount", "by", "rows", "seed", "isa"}
    assert set(recipe("prune-ffn:by=magnitude,recover=5")) == {
        "amount",
        "by",
        "recover",
        "learning_rate",
        "seed",
        "isa",
    }


def test_a_model_folder_of_a_cut_model_holds_no_code(tmp_path: Path, tiny_bert: records.ModelRef) -> None:
    transformed(tiny_bert, "prune-ffn:0.5,by=magnitude", tmp_path / "cut")
    assert {path.suffix for path in (tmp_path / "cut").iterdir()} == {".safetensors", ".json"}
    make_model(tmp_path / "other")  # the fixture's own folder is as it was
    assert header(Path(tiny_bert.location)) == header(tmp_path / "other")
