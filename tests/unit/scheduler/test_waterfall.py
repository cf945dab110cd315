from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import pytest

from scheduler import steps, waterfall
from scheduler.steps import Step
from scheduler.waterfall import Bar, Chart, Start
from storage import records, statistics
from storage.views import JobView, ResultView
from tests import chains, fleets
from tests.chains import BASELINE, DUAL, INT8, ONNX, QUAD, SINGLE, STUDENT, shape, throughput

ROBLOX = [
    Step(name="distilled", changes={"strategy": STUDENT}),
    Step(name="no padding", changes={"padding": "longest"}),
    Step(name="int8", changes={"strategy": "+onnxruntime/int8-dynamic"}),
    Step(name="processes", changes={"threads": "1", "instances": "auto"}),
]


def starts(views: Iterable[ResultView]) -> list[Start]:
    rows = chains.compared(views)
    return waterfall.starts(rows, [DUAL, QUAD, SINGLE, fleets.EPYC])


def chart(views: Iterable[ResultView], wanted: Iterable[Step] = ROBLOX, jobs: Iterable[JobView] = ()) -> Chart:
    (start,) = starts(views)
    return waterfall.chart(start, list(wanted), jobs)


def factors(found: Chart) -> list[float | None]:
    return [None if bar.factor is None else round(bar.factor.value, 6) for bar in found.bars]


def totals(found: Chart) -> list[float | None]:
    return [None if bar.total is None else round(bar.total.value, 6) for bar in found.bars]


def test_a_step_is_the_ratio_of_gains_and_the_product_is_the_gain_itself() -> None:
    found = chart(chains.chain(DUAL))
    assert [bar.name for bar in found.bars] == ["start", "distilled", "no padding", "int8", "processes"]
    assert factors(found) == [None, 2.0, 4.0, 2.0, 1.5]
    assert totals(found) == [1.0, 2.0, 8.0, 16.0, 24.0]
    assert [bar.since for bar in found.bars] == [None, "start", "distilled", "no padding", "int8"]
    assert {bar.through for bar in found.bars[1:]} == {"gains"}
    last = found.bars[-1]
    assert last.total is not None
    assert [last.total.low, last.total.high] == pytest.approx([24 * 0.95, 24 * 1.05], rel=2e-3)
    assert [bar.rate_per_s for bar in found.bars] == [50.0, 100.0, 400.0, 800.0, 1200.0]


def test_a_factors_interval_adds_the_variances_of_both_sessions() -> None:
    bar = chart(chains.chain(DUAL)).bars[2]
    assert bar.factor is not None
    own = math.log(1.05 / 0.95) / 2
    # two intervals alike, of 4 degrees of freedom each: Welch has 8
    expected = math.sqrt(2) * own * 2.306004 / 2.776445
    assert math.log((bar.factor.high or 0) / (bar.factor.low or 1)) / 2 == pytest.approx(expected, rel=1e-5)


def test_each_machine_has_its_own_cores() -> None:
    views = [*chains.chain(DUAL), *chains.chain(QUAD, factor=2.0)]
    found = {start.column.name: waterfall.chart(start, ROBLOX) for start in starts(views)}
    assert [bar.point.shape.layout for bar in found["EPYC 9B14"].bars] == [(1, 2)] * 4 + [(2, 1)]
    assert [bar.point.shape.layout for bar in found["Xeon"].bars] == [(1, 4)] * 4 + [(4, 1)]
    assert totals(found["Xeon"]) == [1.0, 4.0, 16.0, 32.0, 48.0]


def test_a_step_that_means_nothing_on_a_machine_is_exactly_one() -> None:
    bar = chart(chains.chain(SINGLE)).bars[-1]
    assert bar.factor is not None
    assert (bar.state, bar.factor.value, bar.factor.low) == ("same", 1.0, 1.0)
    assert bar.total is not None
    assert bar.total.value == pytest.approx(16.0)


def test_a_missing_step_says_which_job_would_give_it_and_the_next_one_counts_from_the_last_known() -> None:
    found = chart(chains.chain(DUAL, without=[(STUDENT, "longest", False)]))
    assert factors(found) == [None, 2.0, None, 8.0, 1.5]
    assert [bar.since for bar in found.bars][3] == "distilled"
    assert found.bars[2].reason == (
        f"no such job on this machine: throughput of {STUDENT}, b1×dataset vs max:128, 1 instance, 2 threads, "
        f"over {BASELINE}"
    )


def test_a_step_whose_job_waits_names_the_job() -> None:
    waiting = chains.waiting(
        strategy=STUDENT, threads=2, input="b1×dataset vs max:128, 1 instance", platform_key=DUAL.key, state="running"
    )
    elsewhere = dataclasses.replace(waiting, platform_key=QUAD.key)
    views = chains.chain(DUAL, without=[(STUDENT, "longest", False)])
    assert (chart(views, jobs=[elsewhere, waiting]).bars[2].reason or "").startswith("job abcdef01 (throughput of")
    assert "is running" in (chart(views, jobs=[waiting]).bars[2].reason or "")
    assert "no such job" in (chart(views, jobs=[elsewhere]).bars[2].reason or "")


def test_a_step_that_failed_or_was_disturbed_says_so() -> None:
    views = chains.chain(DUAL, without=[(STUDENT, "longest", False), (ONNX, "longest", False)])
    label = "b1×dataset vs max:128, 1 instance"
    broken = fleets.failed(DUAL, kind="throughput", strategy=STUDENT, input=label, threads=2, instances=1)
    noisy = throughput(DUAL, 16.0, ONNX, shape("longest"), shape(), flags=("disturbed",))
    found = chart([*views, broken, noisy])
    assert found.bars[2].reason == "unsupported: this CPU lacks avx2"
    assert "disturbed" in (found.bars[3].reason or "")


def test_where_the_baseline_changes_with_the_layout_rates_make_the_factor_without_an_interval() -> None:
    one, four = shape("longest", 1, 4), shape("longest", 4, 1)
    views = [
        throughput(QUAD, 3.0, INT8, one, throughput_per_s=300.0, baseline_throughput_per_s=100.0),
        throughput(QUAD, 2.5, INT8, four, throughput_per_s=700.0, baseline_throughput_per_s=280.0),
    ]
    start = next(one for one in starts(views) if one.point.shape.instances == 1)
    found = waterfall.chart(start, [ROBLOX[0], steps.parse(f"int8={INT8}"), ROBLOX[3]])
    bar = found.bars[-1]
    assert (bar.through, factors(found)[-1], totals(found)[-1]) == ("rates", round(7 / 3, 6), 7.0)
    assert bar.factor is not None
    assert bar.factor.low is None
    assert bar.total is not None
    assert bar.total.low is None


def test_from_one_process_to_several_alike_it_is_instances_times_efficiency() -> None:
    views = [
        throughput(QUAD, 3.0, INT8, shape("longest", 1, 1)),
        throughput(QUAD, 2.9, INT8, shape("longest", 4, 1), efficiency=(0.9, 0.85, 0.9529)),
    ]
    start = next(one for one in starts(views) if one.point.shape.instances == 1)
    found = waterfall.chart(start, [steps.parse(f"int8={INT8}"), steps.parse("processes=instances=auto")])
    bar = found.bars[-1]
    assert (bar.through, factors(found)[-1], totals(found)[-1]) == ("efficiency", 3.6, 10.8)
    assert bar.factor is not None
    assert [bar.factor.low, bar.factor.high] == pytest.approx([3.4, 3.81], rel=1e-3)


def test_after_a_change_of_baseline_gains_over_the_new_one_go_on() -> None:
    one, four = shape("longest", 1, 4), shape("longest", 4, 1)
    views = [
        throughput(QUAD, 1.0, BASELINE, one, throughput_per_s=100.0, baseline_throughput_per_s=100.0),
        throughput(QUAD, 1.0, BASELINE, four, throughput_per_s=200.0, baseline_throughput_per_s=200.0),
        throughput(QUAD, 3.0, INT8, four, throughput_per_s=612.0, baseline_throughput_per_s=204.0),
    ]
    start = next(one for one in starts(views) if one.point.shape.instances == 1)
    found = waterfall.chart(start, [ROBLOX[3], steps.parse(f"int8={INT8}")])
    assert [bar.through for bar in found.bars] == [None, "rates", "gains"]
    assert factors(found) == [None, 2.0, 3.0]
    assert totals(found) == [1.0, 2.0, 6.0]


def test_results_on_another_content_of_the_model_are_left_out_and_counted() -> None:
    other = throughput(DUAL, 99.0, INT8, shape("longest"), shape(), model_digest="model-b")
    (start,) = starts([*chains.chain(DUAL), other])
    assert start.dropped == 1
    assert all(cell.row.gain != 99.0 for cell in start.cells)


def test_each_thread_count_of_a_latency_study_begins_its_own_chart() -> None:
    views = [fleets.latency(fleets.EPYC, gain, threads=n) for n, gain in ((1, 2.0), (2, 3.0))]
    wanted = [steps.parse("int8=torch/int8-dynamic")]
    assert [totals(waterfall.chart(start, wanted)) for start in starts(views)] == [[1.0, 2.0], [1.0, 3.0]]


def test_disturbed_results_alone_begin_no_chart() -> None:
    assert starts([fleets.latency(fleets.EPYC, flags=("disturbed",))]) == []


def test_bars_say_where_they_stand() -> None:
    bars: tuple[Bar, ...] = chart(chains.chain(DUAL)).bars
    assert bars[-1].point.shape == shape("longest", 2, 1)
    assert bars[-1].found is not None
    assert bars[-1].found.strategy == ONNX


def test_a_server_at_a_given_rate_answers_what_comes_and_chains_through_gains_alone() -> None:
    one, four = shape("longest", 1, 4), shape("longest", 4, 1)
    views = [
        throughput(QUAD, 3.0, INT8, dataclasses.replace(each, serving="50/s"), kind="server", throughput_per_s=50.0)
        for each in (one, four)
    ]
    start = next(one for one in starts(views) if one.point.shape.instances == 1)
    bars = waterfall.chart(start, [steps.parse(f"int8={INT8}"), ROBLOX[3]]).bars
    assert [bar.state for bar in bars] == ["start", "done", "missing"]


def test_factors_and_products_of_simulated_sessions_cover_at_their_rate() -> None:
    random, truth = np.random.default_rng(8), (2.0, 5.0)
    hits = {"factor": 0, "product": 0}
    for _ in range(120):
        views = [simulated(random, gain, strategy) for gain, strategy in zip(truth, (STUDENT, INT8), strict=True)]
        bar = chart(views, [steps.parse(f"a={STUDENT}"), steps.parse(f"b={INT8}")]).bars[-1]
        hits["factor"] += holds(bar.factor, 2.5)
        hits["product"] += holds(bar.total, 5.0)
    assert min(hits.values()) >= 0.89 * 120  # three standard errors below 95 %


def simulated(random: np.random.Generator, gain: float, strategy: str) -> ResultView:
    """A job of 6 pairs whose log gains differ by 5 %."""
    logs = random.normal(math.log(gain), 0.05, 6)
    rounds = [statistics.PairedRound(pair=at, round=0, log_gain=float(log)) for at, log in enumerate(logs)]
    found = statistics.gain_interval(rounds).interval
    return throughput(DUAL, found.value, strategy, shape(), gain_low=found.low, gain_high=found.high, pairs=6)


def holds(found: records.Interval | None, truth: float) -> bool:
    return found is not None and found.low is not None and found.high is not None and found.low <= truth <= found.high
