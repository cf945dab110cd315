"""What rounding a weight to 8 bits loses, against torch's own observers and by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage import errors
from worker.engine import layers, libraries, pictures, schemes
from worker.engine.strategies import torch_dynamic, torch_embeddings


@pytest.fixture(autouse=True)
def quiet() -> None:
    libraries.settle()


@pytest.fixture
def weight() -> torch.Tensor:
    """A weight [16, 200] whose rows have different sizes, and one value far out on one side."""
    values = torch.randn(16, 200, generator=torch.Generator().manual_seed(3)) * torch.linspace(0.01, 0.1, 16)[:, None]
    values[3, 5] = -1.5
    return values


def weighed(weight: torch.Tensor, kind: str = "Linear") -> dict[str, Any]:
    return schemes.weigh(layers.Layer(name="x.dense", kind=kind, weight=weight, digest=layers.digest(weight)))


def found(told: dict[str, Any], name: str, percentile: float = 100.0) -> dict[str, Any]:
    (scheme,) = [one for one in told["schemes"] if (one["name"], one["percentile"]) == (name, percentile)]
    assert isinstance(scheme, dict)
    return scheme


def test_symmetric_and_per_channel_are_what_the_strategy_stores(weight: torch.Tensor) -> None:
    tensor = torch_dynamic.quantize_weight(weight, per_channel=False)
    rows = torch_dynamic.quantize_weight(weight, per_channel=True)
    assert torch.equal(schemes.symmetric(weight).int_repr(), tensor.int_repr())
    assert math.isclose(schemes.symmetric(weight).q_scale(), tensor.q_scale(), rel_tol=1e-6)
    assert torch.equal(schemes.per_channel(weight).int_repr(), rows.int_repr())
    assert torch.allclose(schemes.per_channel(weight).q_per_channel_scales(), rows.q_per_channel_scales(), rtol=1e-6)


def test_the_articles_scheme_is_the_books_formula_and_cuts_the_longer_side_off(weight: torch.Tensor) -> None:
    scale = float(weight.max() - weight.min()) / (127 - (-128))
    by_hand = (weight / scale + 0).clamp(-128, 127).round().char()
    assert torch.equal(schemes.article(weight).int_repr(), by_hand)
    told = found(weighed(weight), "article")
    assert told["clipped"] == 1 / weight.numel()
    assert math.isclose(told["max_error"], 1.5 - 128 * scale, rel_tol=1e-4)


def test_errors_are_those_of_the_values_that_the_integers_stand_for(weight: torch.Tensor) -> None:
    told = weighed(weight)
    scheme = found(told, "affine")
    (scale, _), (zero, _) = scheme["scale"], scheme["zero_point"]
    integers = np.clip(np.rint(weight.double().numpy() / scale) + zero, -128, 127)
    lost = (integers - zero) * scale - weight.double().numpy()
    assert math.isclose(scheme["max_error"], np.abs(lost).max(), rel_tol=1e-3)
    assert math.isclose(scheme["rms_error"], math.sqrt((lost**2).mean()), rel_tol=1e-3)
    expected = 10 * math.log10((weight.double().numpy() ** 2).sum() / (lost**2).sum())
    assert math.isclose(scheme["sqnr_db"], expected, rel_tol=1e-3)
    assert scheme["levels"] == len(np.unique(integers))
    assert scheme["max_error"] <= scale * 0.5001


def test_a_scale_a_row_loses_less_and_a_clipped_range_cuts_the_outlier_off(weight: torch.Tensor) -> None:
    told = weighed(weight)
    assert found(told, "per channel")["sqnr_db"] > found(told, "symmetric")["sqnr_db"] + 3
    for name in ("affine", "symmetric", "per channel"):
        whole, clipped = found(told, name), found(told, name, schemes.PERCENTILE)
        assert whole["clipped"] == 0 < clipped["clipped"] < 0.01
        assert clipped["scale"][0] < whole["scale"][0] and clipped["max_error"] > 10 * whole["max_error"]


def test_histograms_hold_every_weight(weight: torch.Tensor) -> None:
    told = weighed(weight)
    json.dumps(told, allow_nan=False)
    assert sum(told["values"]["counts"]) == weight.numel()
    for scheme in told["schemes"]:
        assert sum(scheme["integers"]["counts"]) == weight.numel()
        assert len(scheme["integers"]["counts"]) == 256 and scheme["integers"]["first"] == -128
        assert sum(scheme["errors"]["counts"]) + scheme["errors"]["beyond"] == weight.numel()
    assert found(told, "symmetric")["errors"]["beyond"] == found(told, "per channel")["errors"]["beyond"] == 0
    assert (np.diff(told["error_edges"]) > 0).all()


def test_what_a_result_keeps_holds_every_weight_too_and_is_small(weight: torch.Tensor) -> None:
    told, whole = schemes.outline(weight), weighed(weight)
    assert sum(told["values"]["counts"]) == weight.numel()
    one, many = told["schemes"]
    assert sum(one["integers"]["counts"]) == weight.numel()
    assert one["integers"]["counts"][0] == sum(found(whole, "symmetric")["integers"]["counts"][:2])
    assert one["max_error"] == found(whole, "symmetric")["max_error"]
    assert many["sqnr_db"] == found(whole, "per channel")["sqnr_db"]
    assert len(json.dumps(told)) < 4000


def test_a_table_is_also_shown_as_the_strategy_stores_tables(weight: torch.Tensor) -> None:
    told = found(weighed(weight, "Embedding"), "per row")
    table = torch_embeddings.quantize(weight)
    assert (told["dtype"], told["integers"]["first"], told["clipped"]) == ("uint8", 0, 0)
    assert math.isclose(told["max_error"], float((table.dequantize() - weight).abs().max()), rel_tol=1e-5)
    assert "per row" not in [scheme["name"] for scheme in weighed(weight)["schemes"]]


@pytest.mark.parametrize("value", [0.0, 0.25, -0.25])
def test_a_weight_of_one_value_is_quantized_too(value: float) -> None:
    told = weighed(torch.full((4, 8), value))
    json.dumps(told, allow_nan=False)
    assert found(told, "symmetric")["clipped"] == found(told, "affine")["clipped"] == 0
    assert found(told, "per channel")["max_error"] <= 0.001


def test_a_picture_is_a_png_file(weight: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "weight.png"
    pictures.require_writable(path)
    assert not path.exists()
    pictures.draw(weighed(weight), "tiny", path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "message"), [("a.svg", "PNG files"), ("none/a.png", "does not exist"), ("folder.png", "is a folder")]
)
def test_a_picture_that_cannot_be_written_is_refused_ahead(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(errors.SettingsError, match=message):
        pictures.require_writable(tmp_path / name)
