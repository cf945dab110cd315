from __future__ import annotations

import math
import statistics

import pytest

from scheduler import measures
from scheduler.measures import Measure, exact, shown_better
from storage import distributions
from tests.unit.scheduler.decisions import BASELINE, BF16, BIG, INT8, UNCHANGED, loss, plotted, row, served, throughput


def test_a_latency_is_told_at_the_pace_that_all_jobs_of_the_case_saw_of_the_baseline() -> None:
    slow, fast = plotted(
        row(INT8, 2.0, baseline_latency_p50_s=0.022), row(BF16, 1.0, within=0.1, baseline_latency_p50_s=0.020)
    )
    pace = math.sqrt(0.022 * 0.020)
    assert slow.measures["latency"].value == pytest.approx(pace / 2.0)
    assert fast.measures["latency"].value == pytest.approx(pace)
    assert fast.measures["latency"].near == pytest.approx((pace / 1.1, pace / 0.9))


def test_against_other_threads_the_pace_itself_is_uncertain_too() -> None:
    found, _ = plotted(row(INT8, 2.0, baseline_latency_p50_s=0.022), row(BF16, 1.0, baseline_latency_p50_s=0.020))
    measure = found.measures["latency"]
    spread = distributions.t_quantile(0.975, 1) * statistics.stdev([math.log(0.022), math.log(0.020)]) / math.sqrt(2)
    assert measure.wide is not None
    half = math.log(measure.wide[1] / measure.value)
    assert half == pytest.approx(math.hypot(math.log(1 / 0.98), spread))


def test_strategies_of_one_case_compare_by_their_gains_others_by_the_wider_intervals() -> None:
    narrow = [
        Measure(value=value, near=(value - 1, value + 1), wide=(value - 6, value + 6), yardstick=yardstick)
        for value, yardstick in ((10, "a"), (20, "a"), (20, "b"))
    ]
    best, same, other = narrow
    assert shown_better(best, same, "less")
    assert not shown_better(best, other, "less")
    assert shown_better(same, best, "more")


def test_intervals_that_touch_or_are_missing_show_nothing() -> None:
    assert not shown_better(exact(1.0), exact(1.0), "less")
    assert shown_better(exact(1.0), exact(1.1), "less")
    assert not shown_better(Measure(value=1.0), exact(9.0), "less")
    touching = Measure(value=2.0, near=(1.0, 3.0), wide=(1.0, 3.0))
    assert not shown_better(exact(1.0), touching, "less")


def test_a_throughput_has_a_rate_and_no_latency_and_one_caller_has_no_rate() -> None:
    rate, latency = plotted(throughput(rate=100.0), row())
    assert rate.measures["throughput"].near == pytest.approx((98.0, 102.0))
    assert "latency" not in rate.measures
    assert "throughput" not in latency.measures


def test_a_search_has_a_rate_and_a_given_rate_has_a_latency() -> None:
    search, given = plotted(served(80.0), served(50.0, label="50/s", latency_p50_s=0.004))
    assert search.measures["throughput"].value == pytest.approx(80.0)
    assert search.measures["throughput"].wide is None
    assert "latency" not in search.measures
    assert given.measures["latency"].value == 0.004
    assert "throughput" not in given.measures


def test_a_million_rows_cost_the_hours_that_they_take_with_the_rates_interval_turned_over() -> None:
    (found,) = plotted(throughput(rate=100.0), prices={BIG: 0.36})
    assert found.measures["cost"].value == pytest.approx(1.0)
    assert found.measures["cost"].near == pytest.approx((1 / 1.02, 1 / 0.98))
    assert "cost" not in plotted(row(), prices={BIG: 0.36})[0].measures


def test_an_accuracy_counts_as_its_difference_in_pairs_and_the_baselines_as_none() -> None:
    worse, baseline, unknown = plotted(
        row(INT8, accuracy=loss(0.5)), row(BASELINE, 1.0, accuracy=UNCHANGED), row(BF16, accuracy=None)
    )
    assert worse.measures["accuracy"].near == pytest.approx((-0.007, -0.003))
    assert baseline.measures["accuracy"] == exact(0.0)
    assert "accuracy" not in unknown.measures


def test_memory_is_that_of_all_instances_and_equal_within_2_percent() -> None:
    (found,) = plotted(throughput())
    assert found.measures["memory"].value == 800_000_000
    assert found.measures["memory"].wide == pytest.approx((792_000_000, 808_000_000))


def test_every_objective_says_what_is_better() -> None:
    more = {name for name, objective in measures.OBJECTIVES.items() if objective.better == "more"}
    assert more == {"throughput", "accuracy"}
