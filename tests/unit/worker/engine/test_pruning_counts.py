from __future__ import annotations

import subprocess
import sys

import pytest

from storage import errors, strategies
from storage.catalogue import registry
from worker.engine.transforms import families, importance, structured


@pytest.mark.parametrize(
    ("amount", "heads", "stays"),
    [
        ("0.5", 12, 6),
        ("0.25", 12, 9),
        ("0.01", 12, 11),  # one at least goes
        ("0.5", 5, 2),  # halves go up
        ("0.5", 2, 1),
        ("0.95", 12, 1),
    ],
)
def test_heads_that_stay(amount: str, heads: int, stays: int) -> None:
    step = strategies.parse_step(f"prune-heads:{amount}")
    assert structured.PruneHeads().stays([heads, heads], step) == [stays, stays]


@pytest.mark.parametrize(("amount", "heads"), [("0.99", 12), ("0.5", 1), ("0.01", 1)])
def test_one_head_at_least_must_stay(amount: str, heads: int) -> None:
    step = strategies.parse_step(f"prune-heads:{amount}")
    with pytest.raises(errors.StrategyError, match=rf"every head of layer 1, which has {heads};"):
        structured.PruneHeads().stays([100, heads], step)


@pytest.mark.parametrize(
    ("amount", "neurons", "stays"),
    [
        ("0.5", 1536, 768),
        ("0.3", 1536, 1080),  # 1075.2
        ("0.7", 80, 24),  # 24.000000000000004 in floating point
        ("0.9", 80, 8),
        ("0.999", 1536, 8),
        ("0.5", 30, 16),
    ],
)
def test_neurons_that_stay(amount: str, neurons: int, stays: int) -> None:
    step = strategies.parse_step(f"prune-ffn:{amount}")
    assert structured.PruneFfn().stays([neurons], step) == [stays]


def test_layers_that_are_small_already_stay_as_they_are() -> None:
    step = strategies.parse_step("prune-ffn:0.3")
    assert structured.PruneFfn().stays([8, 6, 64], step) == [8, 6, 48]
    with pytest.raises(errors.StrategyError, match="cuts nothing: of 8 neurons 8 would stay"):
        structured.PruneFfn().stays([8, 6], step)


def test_the_highest_scores_stay_in_their_places_and_of_equals_the_first() -> None:
    assert importance.best([0.1, 3.0, 2.0, 2.0, 2.0, 5.0], 4) == [1, 2, 3, 5]


def test_the_table_of_families_needs_no_torch() -> None:
    code = "import sys, worker.engine.transforms.families, worker.engine.structure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "what"), [("prune-heads", "heads"), ("prune-ffn", "neurons")])
def test_the_catalogue_names_the_architectures_that_can_be_cut(name: str, what: families.What) -> None:
    works = ", ".join(family for family in families.FAMILIES if families.known(family, what))
    assert registry.transform(name).needs.startswith(f"a model of {works}; ")
