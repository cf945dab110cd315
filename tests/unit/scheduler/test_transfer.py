from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import scipy.stats

from scheduler import compare, transfer
from scheduler.across import across
from scheduler.transfer import Gains, Held, Pair
from storage.views import ResultView
from tests import chains, fleets
from tests.fleets import EPYC, OLD, OLD_TORCH, XEON, latency

STRATEGIES = ("torch/bf16", "torch/int8-dynamic", "onnxruntime/fp32", "onnxruntime/int8-dynamic", "openvino/fp32")


def known(views: Iterable[ResultView]) -> Gains:
    rows = chains.compared(views)
    return transfer.gains(across(sorted(rows, key=compare.case_order), [EPYC, XEON, OLD, OLD_TORCH]))


def pair(views: Iterable[ResultView]) -> Pair:
    (found,) = transfer.pairs(known(views))
    return found


def two(there: Iterable[float], here: Iterable[float]) -> list[ResultView]:
    """Gains of the same strategies on two machines."""
    return [
        latency(where, gain, strategy=strategy)
        for where, gains in ((EPYC, there), (XEON, here))
        for strategy, gain in zip(STRATEGIES, gains, strict=False)
    ]


def test_the_error_of_a_gain_taken_from_elsewhere_is_a_ratio() -> None:
    found = pair(two([1.0, 2.0, 4.0], [1.1, 2.0, 2.0]))
    assert (found.cases, found.correlation) == (3, None)
    assert [found.median_error, found.worst_error] == pytest.approx([1.1, 2.0])
    assert found.worst is not None
    assert found.worst.text == "onnxruntime/fp32 (b1×l16, 1 thread)"


def test_an_error_is_the_same_whichever_gain_is_larger() -> None:
    assert pair(two([4.0], [2.0])).worst_error == pair(two([2.0], [4.0])).worst_error


def test_ranks_are_correlated_from_five_cases_on() -> None:
    assert pair(two([1, 2, 3, 4], [1, 2, 3, 4])).correlation is None
    assert pair(two([1, 2, 3, 4, 5], [2, 3, 4, 5, 9])).correlation == 1.0
    assert pair(two([1, 2, 3, 4, 5], [9, 5, 4, 3, 2])).correlation == -1.0


@pytest.mark.parametrize("seed", range(5))
def test_spearmans_correlation_is_scipys_ties_and_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = random.integers(0, 6, 20).tolist(), random.normal(size=20).tolist()
    assert transfer.spearman(one, other) == pytest.approx(scipy.stats.spearmanr(one, other).statistic, abs=1e-12)
    assert transfer.spearman(one, one) == pytest.approx(1.0)


@pytest.mark.parametrize(("one", "other"), [([], []), ([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0])])
def test_nothing_correlates_with_a_constant_nor_one_value_with_another(one: list[float], other: list[float]) -> None:
    assert transfer.spearman(one, other) is None


def test_gains_hold_are_not_shown_or_are_losses_elsewhere() -> None:
    found = pair(two([2.0, 2.0, 2.0, 0.5], [1.5, 1.01, 0.5, 2.0]))
    assert found.there == Held(gains=3, held=1, unshown=1, lost=1)
    assert found.back == Held(gains=2, held=1, unshown=0, lost=1)
    assert [case.strategy for case in found.flips] == ["onnxruntime/fp32", "onnxruntime/int8-dynamic"]


def test_gains_within_their_noise_do_not_differ() -> None:
    found = pair(two([2.0, 2.0], [2.05, 2.6]))
    assert (found.differ, found.tested) == (1, 2)


def test_a_gain_without_an_interval_is_no_test() -> None:
    bare = latency(XEON, 2.0, gain_low=None, gain_high=None, pairs=1)
    assert pair([latency(EPYC, 2.0), bare]).tested == 0


def test_chance_makes_one_in_twenty_differ() -> None:
    random = np.random.default_rng(5)
    t = float(scipy.stats.t.ppf(0.975, 4))
    views = []
    for threads in range(1, 601):
        for where in (EPYC, XEON):
            logs = random.normal(0.7, 0.1, 5)
            half = t * logs.std(ddof=1) / math.sqrt(5)
            low, high = (math.exp(logs.mean() + sign * half) for sign in (-1, 1))
            views.append(latency(where, math.exp(logs.mean()), gain_low=low, gain_high=high, pairs=5, threads=threads))
    found = pair(views)
    assert found.tested == 600
    assert 0.025 <= found.differ / found.tested <= 0.075


def test_only_what_both_measured_on_the_same_content_is_compared() -> None:
    views = [
        *two([2.0, 3.0], [2.0]),
        latency(EPYC, 2.0, threads=2),
        latency(XEON, 2.0, threads=4),
        latency(EPYC, 2.0, strategy="torch/fp16", model_digest="model-b"),
        latency(XEON, 9.0, strategy="torch/fp16"),
        latency(OLD, 5.0, model_digest="model-b"),
    ]
    found = known(views)
    assert [(pair.one.name, pair.other.name, pair.cases) for pair in transfer.pairs(found)] == [
        ("EPYC 9B14", "Xeon 8581C", 1)
    ]
    assert found.left_out == 2


def test_the_baseline_against_itself_and_unlike_operations_are_no_gains() -> None:
    views = [latency(where, 1.0, strategy="torch/fp32") for where in (EPYC, XEON)]
    told: dict[str, Any] = {"strategy": {}, "baseline": {}, "same_operation": False}
    unlike: dict[str, Any] = {"kind": "tensor", "strategy": "mul-quantized", "input": "768×768", "document": told}
    views += [latency(where, 70.0, **unlike) for where in (EPYC, XEON)]
    assert known(views).rows == {}


def test_flips_name_every_machine_once() -> None:
    views = [latency(EPYC, 1.4), latency(XEON, 1.6), latency(OLD, 0.5), latency(OLD_TORCH, 1.0)]
    (flip,) = transfer.flips(known(views))
    assert list(flip.faster) == ["EPYC 9B14", "Xeon 8581C"]
    assert [row.gain for row in flip.slower.values()] == [0.5]


def test_a_pair_of_one_hardware_says_so() -> None:
    assert pair([latency(OLD), latency(OLD_TORCH)]).same_hardware
    assert not pair([latency(OLD), latency(fleets.XEON)]).same_hardware


def test_no_case_in_common_makes_no_pair() -> None:
    assert transfer.pairs(known([latency(EPYC), latency(XEON, threads=8)])) == []
