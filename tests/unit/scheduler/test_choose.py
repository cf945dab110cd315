from __future__ import annotations

import pytest

from scheduler import choose, demands
from scheduler.choose import Choice
from scheduler.compare import Comparison
from scheduler.demands import Limit
from scheduler.measures import OBJECTIVES
from tests.unit.scheduler.decisions import (
    BASELINE,
    BF16,
    BIG,
    INT8,
    OLD,
    PRUNED,
    UNCHANGED,
    loss,
    names,
    near,
    plotted,
    row,
    served,
    throughput,
)

P95, LOSS = Limit(name="latency_p95", most=0.012), Limit(name="accuracy_loss", most=0.005)
LATENCY = OBJECTIVES["latency"]


def only(*rows: Comparison, limits: tuple[Limit, ...] = (), objective: str = "latency") -> Choice:
    (found,) = choose.choose(plotted(*rows, prices={BIG: 0.36}), OBJECTIVES[objective], limits)
    return found


def test_the_least_latency_is_best_and_what_does_not_separate_from_it_ties() -> None:
    found = only(row(BASELINE, 1.0), row(BF16, 1.97), row(INT8, 2.0), row(PRUNED, 1.8))
    assert names(found.ranked) == [INT8, BF16, PRUNED, BASELINE]
    assert names(found.ties) == [BF16]


def test_a_configuration_without_an_interval_cannot_be_told_apart() -> None:
    found = only(row(INT8, 2.0), row(BF16, 1.0, within=None))
    assert names(found.ties) == [BF16]


@pytest.mark.parametrize(
    ("objective", "expected"), [("throughput", ["torch/int8-static", INT8]), ("cost", ["torch/int8-static", INT8])]
)
def test_rates_are_best_when_high_and_costs_when_low(objective: str, expected: list[str]) -> None:
    found = only(throughput(INT8, 100.0), throughput("torch/int8-static", 150.0), objective=objective)
    assert names(found.ranked) == expected
    assert found.ties == ()


def test_threads_and_instances_compete_with_one_another() -> None:
    found = only(row(INT8, 2.0), row(INT8, 2.0, threads=2, baseline_latency_p50_s=0.010))
    assert [one.point.configuration.threads for one in found.ranked] == [2, 1]


def test_a_choice_is_made_for_each_hardware_and_each_workload() -> None:
    found = choose.choose(plotted(row(), row(where=OLD), row(input="b1×l128", length=128)), LATENCY, ())
    assert [(one.workload.length, one.where) for one in found] == [(16, BIG), (16, OLD), (128, BIG)]


def test_a_loss_is_kept_only_where_its_whole_interval_is_within_the_limit() -> None:
    rows = (
        row(PRUNED, 4.0, accuracy=loss(3.0)),
        row(INT8, 3.0, accuracy=loss(0.4)),
        row(BF16, 2.0, accuracy=loss(0.1)),
        row(BASELINE, 1.0, accuracy=UNCHANGED),
    )
    found = only(*rows, limits=(LOSS,))
    assert names(found.ranked) == [BF16, BASELINE]
    assert names(found.unshown) == [INT8]
    told = "accuracy loss 0.40 pt, up to 0.60 pt: not shown to be within 0.50 pt (about 4 × as many rows would tell)"
    assert found.unshown[0].missed == (told,)
    assert found.missed == 2


def test_a_percentile_is_kept_only_where_the_upper_end_of_its_interval_is_within_the_limit() -> None:
    rows = (
        row(PRUNED, 4.0, latency_p95_s=0.013),
        row(INT8, 3.0, latency_p95_s=0.0116, latency_p95_high_s=0.0128),
        row(BF16, 2.0, latency_p95_s=0.011, latency_p95_high_s=0.0119),
    )
    found = only(*rows, limits=(P95,))
    assert names(found.ranked) == [BF16]
    assert names(found.unshown) == [INT8]
    told = "p95 11.6 ms, up to 12.8 ms: not shown to be within 12.0 ms (about 9 × as many calls would tell)"
    assert found.unshown[0].missed == (told,)
    assert found.unshown[0].checks[0].times == near(9.0)


@pytest.mark.parametrize(
    ("value", "high", "told"),
    [
        (0.0119999, 0.013, "(more than 100 × as many calls would tell)"),
        (0.012, 0.013, "not shown to be within 12.0 ms"),  # no number of calls brings an end below the value
        (0.011, None, "p95 11.0 ms, no upper end known: not shown to be within 12.0 ms"),
    ],
)
def test_what_would_decide_is_told_as_far_as_it_can_be(value: float, high: float | None, told: str) -> None:
    found = demands.check(row(latency_p95_s=value, latency_p95_high_s=high), P95)
    assert found.state == "not shown"
    assert found.text.endswith(told)


@pytest.mark.parametrize(
    ("goal", "most", "state"),
    [
        ("p95 ≤ 20 ms", 0.020, "met"),
        ("p99 ≤ 20 ms", 0.020, "met"),
        ("p95 ≤ 15 ms", 0.020, "met"),
        ("p90 ≤ 20 ms", 0.020, "not shown"),
        ("p95 ≤ 25 ms", 0.020, "not shown"),
        ("50/s", 0.020, "not shown"),
    ],
)
def test_what_a_search_held_to_is_kept_by_the_search(goal: str, most: float, state: str) -> None:
    own = served(label=goal, latency_p95_s=0.0199, latency_p95_high_s=0.022)
    assert demands.check(own, Limit(name="latency_p95", most=most)).state == state


def test_that_nothing_at_all_may_be_lost_is_a_limit_that_the_baseline_keeps() -> None:
    none = Limit(name="accuracy_loss", most=0.0)
    found = only(row(INT8, 2.0, accuracy=loss(0.1)), row(BASELINE, 1.0, accuracy=UNCHANGED), limits=(none,))
    assert names(found.ranked) == [BASELINE]
    missed = only(row(INT8, 2.0, accuracy=loss(0.1)), limits=(none,))
    assert missed.nearest[0].missed == ("accuracy loss 0.10 pt > 0.00 pt",)


def test_a_loss_that_is_not_shown_matters_only_where_it_would_win() -> None:
    found = only(row(INT8, 1.5, accuracy=loss(0.4)), row(BF16, 2.0, accuracy=loss(0.1)), limits=(LOSS,))
    assert found.unshown == ()


def test_where_nothing_keeps_the_limits_the_nearest_come_first_with_what_they_miss() -> None:
    rows = (
        row(BASELINE, 1.0, accuracy=UNCHANGED),
        row(INT8, 1.9, accuracy=loss(0.1)),
        row(BF16, 3.0, accuracy=loss(0.1), latency_p95_s=None, withheld=("p95: 41 samples, 130 needed",)),
        row(PRUNED, 3.0, accuracy=loss(3.0)),
    )
    found = only(*rows, limits=(P95, LOSS))
    assert found.best is None
    assert names(found.nearest) == [INT8, BASELINE, PRUNED, BF16]
    assert [one.missed for one in found.nearest] == [
        ("p95 12.6 ms > 12.0 ms (+5 %)",),
        ("p95 24.0 ms > 12.0 ms (+100 %)",),
        ("accuracy loss 3.00 pt > 0.50 pt (+500 %)",),
        ("p95 unknown: 41 samples, 130 needed",),
    ]


def test_every_kind_of_limit_is_read_of_its_field() -> None:
    own = throughput(latency_p50_s=0.01, latency_p90_s=0.02, latency_p95_s=0.03, accuracy=loss(1.0))
    found = [demands.check(own, Limit(name=name, most=1.0)).value for name in demands.LABELS]
    assert found == [0.01, 0.02, 0.03, pytest.approx(0.01), 800_000_000, 50_000_000]


def test_an_accuracy_that_nobody_measured_keeps_no_limit() -> None:
    found = only(row(INT8, 2.0), limits=(LOSS,))
    assert found.nearest[0].missed == (
        "accuracy loss unknown: its accuracy is not measured on this hardware and software",
    )


def test_an_accuracy_that_may_not_be_compared_says_why() -> None:
    accuracy = demands.check(row(accuracy=None), LOSS)
    assert (accuracy.state, accuracy.value) == ("unknown", None)
