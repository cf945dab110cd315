from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.ao.quantization.observer import MinMaxObserver

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
from worker.engine import libraries, operations, samples
from worker.engine.strategies import torch_calibration, torch_dynamic, torch_static

TEXT = "torch/int8-static"
NAMES = ("x86", "fbgemm", "onednn", "qnnpack")


def twin(model: records.ModelRef, data: records.DatasetRef, session: Any, *, per_channel: bool) -> torch.nn.Module:
    """The same by torch's own eager mode: stubs around each linear layer, prepared, calibrated, converted."""
    quantization = torch.ao.quantization
    whole = reference(model)
    of_weights = (
        quantization.default_per_channel_weight_observer if per_channel else quantization.default_weight_observer
    )
    config: Any = quantization.QConfig
    inner = config(activation=MinMaxObserver, weight=of_weights)
    most = 2 ** session.facts["input_bits"] - 1
    outer = config(activation=MinMaxObserver.with_args(quant_min=0, quant_max=most), weight=of_weights)
    for name, linear in [*whole.named_modules()]:
        if type(linear) is torch.nn.Linear:
            linear.qconfig = inner
            stubs = quantization.QuantStub(outer), quantization.DeQuantStub(inner)
            whole.set_submodule(name, torch.nn.Sequential(stubs[0], linear, stubs[1]))
    quantization.prepare(whole, inplace=True)  # type: ignore[no-untyped-call]
    for call in samples.of_strategy(model, data, strategies.parse(TEXT)).calls():
        with torch.inference_mode():
            whole(**{name: torch.from_numpy(array) for name, array in call.items()})
    quantization.convert(whole, inplace=True)  # type: ignore[no-untyped-call]
    found: torch.nn.Module = whole
    return found


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel")
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_distilbert"])
def test_it_is_what_torchs_stubs_give_bit_for_bit(
    architecture: str,
    engine: str,
    per_channel: bool,
    request: pytest.FixtureRequest,
    cache: Path,
    dataset: records.DatasetRef,
) -> None:
    model = request.getfixturevalue(architecture)
    text = f"{TEXT}:engine={engine}" + (",per_channel" if per_channel else "")
    session, _, _ = opened(model, text, cache, data=dataset)
    expected = answer(twin(model, dataset, session, per_channel=per_channel))
    assert session.facts["engine"] == engine
    assert np.array_equal(session.logits(CALL), expected)
    assert 0 < error(session, model) < 0.8


def test_the_kernels_and_the_size_are_those_of_int8(
    tiny_bert: records.ModelRef, cache: Path, dataset: records.DatasetRef
) -> None:
    session, artifact, folder = opened(tiny_bert, TEXT, cache, data=dataset)
    layers = parameters(tiny_bert, torch.nn.Linear)
    assert artifact.facts["quantized_layers"] == len(layers) == 14
    assert artifact.facts["float_layers"] == []
    kernels = artifact.facts["kernels"]
    assert kernels["quantized::linear"] == kernels["aten::quantize_per_tensor"] == kernels["aten::dequantize"] == 14
    assert "aten::linear" not in kernels
    assert session.facts["linear_types"] == {"torch.ao.nn.quantized.modules.linear.Linear[qint8]": 14}
    small = sum(weight.numel() for weight in layers.values())
    each = 8 + 8 + 2 * 8  # scale, zero point, two ranges
    assert stored_bytes(folder) == small + each * len(layers) + 4 * (total(tiny_bert) - small)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("engine", ENGINES)
def test_no_engine_overflows_here_when_all_inputs_and_weights_are_at_their_greatest(engine: str) -> None:
    torch_dynamic.set_engine(engine)
    weight = torch_dynamic.quantize_weight(torch.ones(16, 64), per_channel=False)
    zeros = torch.zeros(16)
    tensors = {f"l.weight.{name}": tensor for name, tensor in _parts(weight).items()}
    tensors |= {"l.bias": zeros, "l.input_range": torch.tensor([0.0, 1.0]), "l.output_range": torch.tensor([0.0, 64.0])}
    layer = torch_static._layer("l", tensors, torch_static._reduced(engine))
    assert torch.allclose(layer(torch.ones(2, 64)), torch.full((2, 16), 64.0), atol=0.5)
    assert tensors == {}


def test_inputs_get_seven_bits_where_sums_have_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    isa = ["avx2"]
    monkeypatch.setattr(libraries, "isa", lambda: isa)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert {name for name in NAMES if torch_static._reduced(name)} == {"x86", "fbgemm", "onednn"}
    isa.append("avx512_vnni")
    assert {name for name in NAMES if torch_static._reduced(name)} == {"x86", "fbgemm"}
    isa[:] = ["asimd"]
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not any(torch_static._reduced(name) for name in ("onednn", "qnnpack"))


def test_engines_share_one_artifact_and_what_decides_ranges_is_in_its_key(
    tiny_bert: records.ModelRef, tmp_path: Path, dataset: records.DatasetRef
) -> None:
    _, first, folder = opened(tiny_bert, TEXT, tmp_path, data=dataset)
    _, other, _ = opened(tiny_bert, f"{TEXT}:engine=qnnpack", tmp_path, data=dataset)
    _, again, elsewhere = opened(tiny_bert, TEXT, tmp_path / "elsewhere", threads=2, data=dataset)
    assert (first.cached, other.cached, again.cached) == (False, True, False)
    assert first.key == other.key == again.key
    assert (folder / "model.safetensors").read_bytes() == (elsewhere / "model.safetensors").read_bytes()
    texts = (TEXT, f"{TEXT}:rows=3", f"{TEXT}:seed=1", f"{TEXT}:draw=short", f"{TEXT}:observer=histogram")
    keys = {opened(tiny_bert, text, tmp_path, data=dataset)[1].key for text in texts}
    assert len(keys) == len(texts)


def test_the_key_follows_the_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = strategies.parse(TEXT)
    here = torch_static.Int8Static().recipe(strategy)
    monkeypatch.setattr(libraries, "isa", lambda: ["avx", "other"])
    assert torch_static.Int8Static().recipe(strategy) == {**here, "isa": ["avx", "other"]} != here


def test_the_sample_is_told_and_so_is_the_progress(
    tiny_bert: records.ModelRef, tmp_path: Path, dataset: records.DatasetRef
) -> None:
    told: list[Mapping[str, Any]] = []
    strategy = strategies.parse(f"{TEXT}:rows=5")
    threads = torch.get_num_threads()
    _, artifact = operations.prepare(tiny_bert, strategy, tmp_path, data={"train": dataset}, tell=told.append)
    sample = samples.of_strategy(tiny_bert, dataset, strategy)
    assert artifact.facts["sample"] == sample.facts
    assert artifact.facts["sample"]["rows"] == 5
    assert told == [{"phase": "calibrating", "done": at, "total": 5} for at in (1, 2, 3, 4, 5)]
    assert torch.get_num_threads() == threads


def test_made_up_tokens_need_no_dataset(tiny_bert: records.ModelRef, tmp_path: Path) -> None:
    session, artifact, _ = opened(tiny_bert, f"{TEXT}:draw=random-tokens,rows=20", tmp_path)
    assert artifact.facts["sample"]["draw"] == "random-tokens"
    assert 0 < error(session, tiny_bert) < 0.8


class Net(torch.nn.Module):
    """Two layers, the second of which no call reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        answered: torch.Tensor = self.used(rows.float())
        return answered


def seen(observer: str, net: Net) -> dict[str, torch_calibration.Ranges]:
    rows = np.random.default_rng(0).integers(-50, 50, (500, 4))
    rows[7, 2] = 3000  # far out
    calls = [{"rows": rows[at : at + 50]} for at in range(0, 500, 50)]
    return torch_calibration.ranges(net, ["used", "unused"], calls, observer, lambda _: None)


def test_minmax_takes_the_extremes_and_the_histogram_cuts_what_lies_far_out() -> None:
    net = Net()
    extremes, cut = seen("minmax", net), seen("histogram", net)
    assert set(extremes) == set(cut) == {"used"}
    assert extremes["used"].given.tolist() == [-50.0, 3000.0]
    low, high = cut["used"].given.tolist()
    assert -50.0 <= low < high < 3000.0


def test_activations_that_are_not_finite_are_a_fault_of_the_model() -> None:
    net = Net()
    net.used.weight.data[0, 0] = float("inf")
    with pytest.raises(errors.ModelError, match=r"layer used: .*not finite"):
        seen("histogram", net)


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("bounds", [(-2.0, 6.0), (1.0, 3.0), (-3.0, -1.0), (0.0, 0.0)])
def test_a_range_fills_its_bits_and_holds_zero_exactly(bounds: tuple[float, float], bits: int) -> None:
    scale, zero_point = torch_static.parameters(torch.tensor(bounds), bits)
    assert 0 <= zero_point < 2**bits
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    assert scale * (2**bits - 1) == pytest.approx(max(high - low, scale * (2**bits - 1) if low == high else 0))


def test_wrong_inputs(tiny_bert: records.ModelRef, tmp_path: Path, dataset: records.DatasetRef) -> None:
    with pytest.raises(errors.StrategyError, match=r"observer is one of minmax, histogram.*did you mean 'minmax'"):
        strategies.parse(f"{TEXT}:observer=minmx")
    with pytest.raises(errors.DatasetError, match="data=train, and the study names no such dataset"):
        operations.prepare(tiny_bert, strategies.parse(TEXT), tmp_path)
    gone = dataclasses.replace(dataset, location=str(tmp_path / "gone.parquet"))
    with pytest.raises(errors.DatasetError):
        opened(tiny_bert, TEXT, tmp_path, data=gone)
    other = dataclasses.replace(dataset, label="topic")
    with pytest.raises(errors.DatasetError, match="topic"):
        opened(tiny_bert, TEXT, tmp_path, data=other)
    shape = records.ModelRef(name="shape", source="random", location="distilbert", config={"vocab_size": 64}, seed=4)
    with pytest.raises(errors.Unsupported):
        opened(shape, TEXT, tmp_path, data=dataset)


def _parts(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "int8": weight.int_repr(),
        "scale": torch.tensor(weight.q_scale(), dtype=torch.float64),
        "zero_point": torch.tensor(weight.q_zero_point()),
    }
