from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage import errors, records, strategies
from tests.integration.engine.torch_tools import (
    CALL,
    answer,
    error,
    opened,
    parameters,
    reference,
    stored_bytes,
    total,
)
from worker.engine import libraries

pytest.importorskip("torchao", reason="torchao is an extra")


@pytest.fixture(autouse=True)
def quiet() -> None:
    """torchao tells of GPU libraries that it does not find."""
    libraries.settle()


@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_distilbert"])
def test_int8_is_what_torchao_gives_bit_for_bit(architecture: str, request: pytest.FixtureRequest, cache: Path) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = request.getfixturevalue(architecture)
    session, _, _ = opened(model, "torch/int8-weight-only", cache)
    twin = reference(model)
    quantize_(twin, Int8WeightOnlyConfig(set_inductor_config=False))
    assert np.array_equal(session.logits(CALL), answer(twin))
    assert 0 < error(session, model) < 0.2


def test_int8_weights_are_a_byte_each_and_are_multiplied_in_float(tiny_bert: records.ModelRef, cache: Path) -> None:
    session, artifact, folder = opened(tiny_bert, "torch/int8-weight-only", cache)
    layers = parameters(tiny_bert, torch.nn.Linear)
    small, rows = (sum(count(weight) for weight in layers.values()) for count in (torch.numel, len))
    assert stored_bytes(folder) == small + 4 * rows + 4 * (total(tiny_bert) - small)
    assert session.facts["linear_types"] == {"torch.nn.modules.linear.Linear[Int8Tensor]": len(layers)}
    kernels = artifact.facts["kernels"]
    assert kernels["aten::mm"] == artifact.facts["quantized_layers"] == len(layers)
    assert kernels["aten::_to_copy"] >= len(layers)  # int8 to float32, weight by weight, in every call
    assert not any("int" in name for name in kernels)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("group", [32, 64])
@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_distilbert"])
def test_int4_is_what_torchao_gives_bit_for_bit(
    architecture: str, group: int, request: pytest.FixtureRequest, cache: Path
) -> None:
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig
    from torchao.quantization import quantize_

    model = request.getfixturevalue(architecture)
    session, artifact, _ = opened(model, f"torch/int4-weight-only:group={group}", cache)
    twin = reference(model).to(torch.bfloat16)
    config = PrototypeInt4WeightOnlyConfig(group_size=group, set_inductor_config=False)
    quantize_(twin, config, filter_fn=lambda module, _: _fits(module, group))
    assert np.array_equal(session.logits(CALL), answer(twin))
    assert artifact.facts["quantized_layers"] == sum(_fits(module, group) for module in reference(model).modules())
    assert 0 < error(session, model) < 1.5


def _fits(module: Any, group: int) -> bool:
    linear = type(module) is torch.nn.Linear
    return linear and module.in_features % group == 0 and module.out_features % 16 == 0


def test_int4_weights_are_half_a_byte_each_and_its_kernel_ran(tiny_bert: records.ModelRef, cache: Path) -> None:
    session, artifact, folder = opened(tiny_bert, "torch/int4-weight-only:group=32", cache)
    layers = parameters(tiny_bert, torch.nn.Linear)
    assert artifact.facts["float_layers"] == {"classifier": "4 outputs, not a multiple of 16"}
    packed = sum(weight.numel() for name, weight in layers.items() if name != "classifier")
    groups = packed // 32  # each with a scale and a zero point of two bytes
    assert stored_bytes(folder) == packed // 2 + 4 * groups + 2 * (total(tiny_bert) - packed)
    quantized = len(layers) - 1
    assert artifact.facts["kernels"]["aten::_weight_int4pack_mm_for_cpu"] == quantized
    assert artifact.facts["kernels"]["aten::linear"] == 1  # the classifier
    assert session.facts["linear_types"] == {
        "torch.nn.modules.linear.Linear[Int4OpaqueTensor]": quantized,
        "torch.nn.modules.linear.Linear[bfloat16]": 1,
    }


def test_the_default_group_leaves_the_narrow_layers_float_and_names_them(
    tiny_bert: records.ModelRef, cache: Path
) -> None:
    _, artifact, _ = opened(tiny_bert, "torch/int4-weight-only", cache)
    assert (artifact.facts["group"], artifact.facts["quantized_layers"]) == (64, 2)
    left = artifact.facts["float_layers"]
    assert left["bert.encoder.layer.0.intermediate.dense"] == "32 inputs, not a multiple of 64"
    assert not any(name.endswith(".output.dense") and "attention" not in name for name in left)
    assert artifact.facts["kernels"]["aten::_weight_int4pack_mm_for_cpu"] == 2


@pytest.mark.parametrize("text", ["torch/int8-weight-only", "torch/int4-weight-only:group=32"])
def test_preparing_twice_gives_the_same_key_and_the_same_bytes(
    text: str, tiny_bert: records.ModelRef, tmp_path: Path
) -> None:
    _, first, folder = opened(tiny_bert, text, tmp_path / "a")
    _, again, elsewhere = opened(tiny_bert, text, tmp_path / "b")
    assert (first.cached, again.cached, first.key) == (False, False, again.key)
    assert (folder / "model.safetensors").read_bytes() == (elsewhere / "model.safetensors").read_bytes()


def test_groups_make_other_artifacts(tiny_bert: records.ModelRef, cache: Path) -> None:
    keys = {opened(tiny_bert, f"torch/int4-weight-only:group={group}", cache)[1].key for group in (32, 64)}
    assert len(keys) == 2


def test_wrong_inputs(tiny_bert: records.ModelRef, tmp_path: Path) -> None:
    with pytest.raises(errors.StrategyError, match="group is one of 32, 64, 128, not '256'"):
        strategies.parse("torch/int4-weight-only:group=256")
    with pytest.raises(errors.Unsupported, match=r"no layer .* in groups of 128 \(bert.*: 32 inputs, not a multiple"):
        opened(tiny_bert, "torch/int4-weight-only:group=128", tmp_path)


def test_what_torchao_would_set_in_the_compiler_is_left_alone(tiny_bert: records.ModelRef, tmp_path: Path) -> None:
    import torch._inductor.config as settings

    before = settings.coordinate_descent_tuning
    opened(tiny_bert, "torch/int8-weight-only", tmp_path)
    assert settings.coordinate_descent_tuning == before
