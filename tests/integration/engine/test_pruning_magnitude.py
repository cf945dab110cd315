"""Small weights set to zero: which ones, in which pattern."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from storage import errors
from tests.integration.engine.pruning_tools import ref, transformed, wide
from worker.engine import models
from worker.engine.transforms import families, magnitude, structured


def test_the_smallest_weights_of_each_layer_become_zero(tmp_path: Path) -> None:
    whole = wide(tmp_path / "whole")
    model, facts = transformed(ref(tmp_path / "whole"), "prune-magnitude:0.3", tmp_path / "pruned")
    layers = magnitude.encoder_layers(model)
    assert len(layers) == facts["layers"] == 2 * 6
    for name, tensor in whole.state_dict().items():
        now = model.state_dict()[name]
        zero = now == 0
        if name.removesuffix(".weight") not in layers:
            assert torch.equal(now, tensor), name
            continue
        assert int(zero.sum()) == round(0.3 * tensor.numel())
        assert torch.equal(now[~zero], tensor[~zero])
        assert tensor[zero].abs().max() <= tensor[~zero].abs().min()
    assert facts["zeros"]["layers"] == pytest.approx(0.3, abs=1e-3)
    of_layers = sum(layer.weight.numel() for layer in layers.values())
    of_all = sum(parameter.numel() for parameter in model.parameters())
    assert facts["zeros"]["model"] == pytest.approx(0.3 * of_layers / of_all, abs=2e-3)
    assert set(facts["sparse_cpu_kernels"]) == {"2:4", "csr"}


@pytest.mark.parametrize(("pattern", "n", "m"), [("1:4", 1, 4), ("2:4", 2, 4), ("4:8", 4, 8)])
def test_n_of_m_neighbours_stay_and_they_are_the_largest(pattern: str, n: int, m: int, tmp_path: Path) -> None:
    whole = wide(tmp_path / "whole")
    model, facts = transformed(ref(tmp_path / "whole"), f"prune-magnitude:pattern={pattern}", tmp_path / "pruned")
    assert (facts["pattern"], facts["pattern_holds"], facts["zeros"]["layers"]) == (pattern, True, 1 - n / m)
    for name, layer in magnitude.encoder_layers(model).items():
        for row, before in zip(layer.weight.tolist(), whole.get_submodule(name).weight.tolist(), strict=True):
            for at in range(0, len(row), m):
                group, had = row[at : at + m], before[at : at + m]
                largest = sorted(map(abs, had))[-n:]
                assert sorted(abs(value) for value in group if value) == largest
                assert all(value in (0, old) for value, old in zip(group, had, strict=True))


def test_the_pattern_is_looked_for_in_the_weights() -> None:
    weight = torch.tensor([[1.0, 0, 2, 0, 0, 3, 0, 4], [0, 0, 0, 0, 1, 1, 0, 0]])
    assert magnitude.pattern_holds(weight, 2, 4)
    assert not magnitude.pattern_holds(weight, 1, 4)


def test_a_pattern_needs_rows_that_it_divides(tmp_path: Path) -> None:
    wide(tmp_path / "whole")
    model = models.load(ref(tmp_path / "whole"))
    for block in families.blocks(model, "neurons"):
        structured.cut(model, block, range(30))
    models.save(model, ref(tmp_path / "whole"), tmp_path / "odd")
    with pytest.raises(errors.StrategyError, match=r"multiple of 4 weights, those of .*output\.dense have 30"):
        transformed(ref(tmp_path / "odd"), "prune-magnitude:pattern=2:4", tmp_path / "pruned")
