from __future__ import annotations

from collections.abc import Iterable

from scheduler import recognise, waterfall
from scheduler.recognise import Chain
from storage.views import ResultView
from tests import chains, fleets
from tests.chains import BASELINE, DUAL, INT8, ONNX, QUAD, SINGLE, STUDENT


def recognised(views: Iterable[ResultView]) -> list[Chain | None]:
    starts = waterfall.starts(chains.compared(views), [DUAL, QUAD, SINGLE, fleets.EPYC])
    return [recognise.recognise(family) for family in recognise.families(starts)]


def words(chain: Chain | None) -> list[tuple[str, str]]:
    assert chain is not None
    return [(step.name, step.text) for step in chain.steps]


def test_robloxs_steps_are_recognised_on_machines_of_any_size() -> None:
    views = [view for where in (SINGLE, DUAL, QUAD) for view in chains.chain(where)]
    (chain,) = recognised(views)
    assert words(chain) == [
        ("distil (layers 3)", STUDENT),
        ("padding longest", "padding=longest"),
        ("int8-dynamic", INT8),
        ("onnxruntime", ONNX),
        ("instances × threads", "threads=1 instances=auto"),
    ]
    assert chain is not None
    assert chain.ends == 7


def test_recognised_steps_give_the_chart() -> None:
    views = [*chains.chain(DUAL), *chains.chain(QUAD)]
    (family,) = recognise.families(waterfall.starts(chains.compared(views), [DUAL, QUAD]))
    chain = recognise.recognise(family)
    assert chain is not None
    for start in family.starts:
        totals = [bar.total.value for bar in waterfall.chart(start, chain.steps).bars if bar.total]
        assert [round(total, 6) for total in totals] == [1.0, 2.0, 8.0, 12.0, 16.0, 24.0]


def test_the_end_is_one_that_most_machines_have() -> None:
    spread = [(ONNX, "longest", True), (ONNX, "longest", False)]
    (chain,) = recognised([*chains.chain(DUAL), *chains.chain(QUAD, without=spread)])
    assert words(chain)[-2:] == [("int8-dynamic", INT8), ("instances × threads", "threads=1 instances=auto")]


def test_a_case_that_nobody_measured_makes_one_step_of_two() -> None:
    views = [fleets.latency(fleets.EPYC, 3.0, strategy=ONNX, threads=2)]
    (chain,) = recognised(views)
    assert words(chain) == [("distil (layers 3) + onnxruntime/int8-dynamic", ONNX)]


def test_another_order_is_taken_where_more_of_its_way_was_measured() -> None:
    views = [
        fleets.latency(fleets.EPYC, 2.0, strategy="torch/int8-dynamic"),
        fleets.latency(fleets.EPYC, 4.0, strategy=INT8),
    ]
    (chain,) = recognised(views)
    assert words(chain) == [("int8-dynamic", "torch/int8-dynamic"), ("distil (layers 3)", INT8)]


def test_runtime_and_precision_are_two_steps_where_both_were_measured() -> None:
    views = [
        fleets.latency(fleets.EPYC, 2.0, strategy="onnxruntime/fp32"),
        fleets.latency(fleets.EPYC, 5.0, strategy="onnxruntime/int8-dynamic"),
    ]
    (chain,) = recognised(views)
    assert [name for name, _ in words(chain)] == ["onnxruntime", "int8-dynamic"]


def test_a_baseline_alone_has_no_steps() -> None:
    assert recognised([fleets.latency(fleets.EPYC, 1.0, strategy=BASELINE)]) == [None]


def test_thread_counts_of_a_latency_study_are_families_of_their_own() -> None:
    views = [fleets.latency(where, 2.0, threads=n) for n in (1, 2) for where in (DUAL, QUAD)]
    assert len(recognised(views)) == 2


def test_a_strategy_that_is_not_installed_here_is_no_end() -> None:
    views = [
        fleets.latency(fleets.EPYC, 9.0, strategy="elsewhere/fp8"),
        fleets.latency(fleets.EPYC, 2.0, strategy="torch/bf16"),
    ]
    (chain,) = recognised(views)
    assert words(chain) == [("bf16", "torch/bf16")]


def test_the_way_leads_over_cases_whose_jobs_still_wait() -> None:
    views = chains.chain(DUAL, without=[(STUDENT, "longest", False)])
    (family,) = recognise.families(waterfall.starts(chains.compared(views), [DUAL]))
    label = "b1×dataset vs max:128, 1 instance"
    waiting = chains.waiting(strategy=STUDENT, threads=2, input=label, platform_key=DUAL.key)
    without, over = recognise.recognise(family), recognise.recognise(family, [waiting])
    assert [name for name, _ in words(over)] == [
        *("distil (layers 3)", "padding longest", "int8-dynamic", "onnxruntime", "instances × threads"),
    ]
    assert len(words(without)) == 4
