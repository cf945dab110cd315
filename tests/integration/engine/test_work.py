"""What a model has to do, against PyTorch's own count of floating-point operations."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import digests, records, work
from tests.integration.engine.conftest import make_model
from worker.engine import models
from worker.engine import work as engine

REAL = Path(__file__).parents[4] / "shared/models/minilm-clinc150"

CONFIGS = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "electra": {
        **{"hidden_size": 32, "embedding_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"intermediate_size": 64},
    },
    "albert": {
        **{"hidden_size": 32, "embedding_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2},
        **{"intermediate_size": 64},
    },
    "mpnet": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "modernbert": {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
    },
}


def counted(model: records.ModelRef, batch: int, length: int) -> int:
    """Operations of one call as PyTorch counts them while the model runs, attention as plain matrix products.

    The fused attention of CPUs is no operation that PyTorch's counter knows: it would count nothing for it.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    loaded = models.load(model)
    names = models.input_names(loaded.config)
    call = {name: torch.ones(batch, length, dtype=torch.long) for name in names}
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter, torch.no_grad():
        loaded(**call)
    return int(counter.get_total_flops())


def least(model: records.ModelRef, cache: Path, batch: int, length: int, bits: int = 32) -> work.Work:
    found = work.demand(engine.describe(model, models.identify(model), cache))
    assert found is not None
    return work.of_call(found, batch, length, bits)


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize(("batch", "length"), [(1, 16), (4, 24)])
def test_operations_are_those_that_pytorch_counts(architecture: str, batch: int, length: int, tmp_path: Path) -> None:
    config = {"vocab_size": 64, "max_position_embeddings": 32, "num_labels": 4, **CONFIGS[architecture]}
    model = records.ModelRef(name="r", source="random", location=architecture, config=config)

    assert least(model, tmp_path, batch, length).ops == pytest.approx(counted(model, batch, length), rel=0.01)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real weights here")
@pytest.mark.parametrize(("batch", "length"), [(1, 16), (8, 128)])
def test_operations_of_real_weights_are_those_that_pytorch_counts(batch: int, length: int, tmp_path: Path) -> None:
    model = records.ModelRef(name="minilm", source="local", location=str(REAL))

    assert least(model, tmp_path, batch, length).ops == pytest.approx(counted(model, batch, length), rel=0.01)


def test_bytes_are_the_linear_weights_at_their_width_and_what_goes_in_and_out(
    tiny_bert: records.ModelRef, cache: Path
) -> None:
    loaded = models.load(tiny_bert)
    import torch

    weights = sum(m.weight.numel() for m in loaded.modules() if isinstance(m, torch.nn.Linear))
    beside = 8 * 16 + 4 * 4  # ids and logits

    assert least(tiny_bert, cache, 1, 16).bytes == 4 * (weights + 16 * 32) + beside
    assert least(tiny_bert, cache, 1, 16, bits=8).bytes == weights + 16 * 32 + beside


def test_a_model_whose_heads_were_cut_has_less_to_do(tmp_path: Path) -> None:
    import torch

    from worker.engine.transforms import families

    whole = make_model(tmp_path / "whole")
    loaded = models.load(whole)
    for block in families.blocks(loaded, "heads"):
        for name in block.into:
            loaded.set_submodule(name, torch.nn.Linear(32, 16))
        loaded.set_submodule(block.out, torch.nn.Linear(16, 32))
    models.save(loaded, whole, tmp_path / "cut")
    cut = records.ModelRef(name="cut", source="local", location=str(tmp_path / "cut"))
    assert digests.model_digest(tmp_path / "cut") != models.identify(whole)

    found = least(cut, tmp_path / "cache", 2, 16)

    assert found.ops == pytest.approx(counted(cut, 2, 16), rel=0.01)
    assert found.ops < 0.8 * least(whole, tmp_path / "cache", 2, 16).ops


def test_a_model_that_cannot_be_probed_has_no_demand_and_no_error(tmp_path: Path) -> None:
    model = records.ModelRef(
        name="r",
        source="random",
        location="bert",
        config={"problem_type": "other", "hidden_size": 30, "num_attention_heads": 5, "vocab_size": 0},
    )

    assert engine.describe(model, models.identify(model), tmp_path) is None
