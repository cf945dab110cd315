from __future__ import annotations

import hypothesis
import numpy as np
from hypothesis import strategies as st

from scheduler import pareto, points
from scheduler.compare import Comparison
from scheduler.measures import OBJECTIVES, Measure, exact, shown_better
from scheduler.pareto import Front
from scheduler.points import Point
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
    plotted,
    row,
    throughput,
)

ALL = [OBJECTIVES[name] for name in pareto.DEFAULT]
TWO = [OBJECTIVES["latency"], OBJECTIVES["size"]]


def only(*rows: Comparison, over: str = ",".join(pareto.DEFAULT)) -> Front:
    (found,) = pareto.fronts(plotted(*rows), [OBJECTIVES[name] for name in over.split(",")])
    return found


def test_what_is_faster_and_loses_accuracy_stands_beside_what_is_slower_and_keeps_it() -> None:
    found = only(
        row(BASELINE, 1.0, accuracy=UNCHANGED, artifact_bytes=100_000_000),
        row(INT8, 3.0, accuracy=loss(1.0)),
        row(BF16, 0.5, accuracy=loss(0.0)),  # slower than the baseline, and no better in anything shown
        over="latency,accuracy",
    )
    assert names(found.points) == [INT8, BASELINE]
    (off,) = found.dominated
    assert (off.point.configuration.strategy, off.by.configuration.strategy, off.in_) == (BF16, BASELINE, ("latency",))


def test_intervals_that_touch_put_neither_before_the_other() -> None:
    rows = (row(INT8, 2.0, accuracy=loss(0.3)), row(BF16, 1.97, accuracy=loss(0.1)))
    assert names(only(*rows, over="latency,accuracy").points) == [INT8, BF16]
    # with one more objective in which they do differ, the bigger one leaves
    bigger = (rows[0], row(BF16, 1.97, accuracy=loss(0.1), artifact_bytes=90_000_000))
    assert names(only(*bigger, over="latency,accuracy,size").points) == [INT8]


def test_memory_that_differs_by_less_than_2_percent_is_equal() -> None:
    found = only(row(INT8, 2.0), row(BF16, 1.0, resident_peak_bytes=396_000_000), over="latency,memory")
    assert names(found.points) == [INT8]


def test_objectives_that_nobody_measured_are_left_out_and_named() -> None:
    found = only(row(INT8, 2.0), row(BF16, 1.0))
    assert [one.name for one in found.objectives] == ["latency", "size", "memory"]
    assert found.unmeasured == ("throughput", "accuracy", "cost")


def test_a_point_that_lacks_an_objective_cannot_be_placed() -> None:
    found = only(row(INT8, 2.0, accuracy=loss(0.1)), row(BF16, 9.0), over="latency,accuracy")
    assert names(found.points) == [INT8]
    assert [(point.configuration.strategy, lacks) for point, lacks in found.unplaced] == [(BF16, ("accuracy",))]


def test_there_is_a_front_for_each_workload_and_machine_and_none_over_one_objective() -> None:
    found = pareto.fronts(plotted(row(), row(where=OLD), throughput(), row(threads=2)), ALL)
    assert [(one.workload.kind, one.where) for one in found] == [
        ("latency", BIG),
        ("latency", OLD),
        ("throughput", BIG),
    ]
    assert pareto.fronts(plotted(row()), [OBJECTIVES["latency"], OBJECTIVES["cost"]]) == []


def test_points_that_dominate_one_another_in_a_circle_stay() -> None:
    circle = np.array([[0, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    assert pareto.undominated(circle).tolist() == [True, True, True, False]


def point(latency: Measure, size: Measure) -> Point:
    workload, configuration = points.read(row())
    return Point(
        workload=workload,
        where=BIG,
        configuration=configuration,
        row=row(),
        measures={"latency": latency, "size": size},
    )


@st.composite
def measure(draw: st.DrawFn) -> Measure:
    value, half = draw(st.integers(0, 12)), draw(st.integers(0, 3))
    interval = (value - half, value + half)
    return Measure(value=value, near=interval, wide=interval)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_without_uncertainty_it_is_the_ordinary_front(found: list[tuple[int, int]]) -> None:
    every = [point(exact(a), exact(b)) for a, b in found]
    (front,) = pareto.fronts(every, TWO)
    ordinary = {
        number
        for number, (a, b) in enumerate(found)
        if not any((c <= a and d <= b) and (c, d) != (a, b) for c, d in found)
    }
    assert {every.index(one) for one in front.points} == ordinary


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(st.lists(st.tuples(measure(), measure()), min_size=1, max_size=10))
def test_a_front_is_never_empty_and_every_other_point_is_beaten_somewhere_and_beats_nowhere(
    found: list[tuple[Measure, Measure]],
) -> None:
    every = [point(a, b) for a, b in found]
    (front,) = pareto.fronts(every, TWO)
    assert front.points
    assert len(front.points) + len(front.dominated) == len(every)
    for off in front.dominated:
        sides = [(off.by.measures[one.name], off.point.measures[one.name]) for one in TWO]
        assert any(shown_better(by, own, "less") for by, own in sides)
        assert not any(shown_better(own, by, "less") for by, own in sides)


def test_off_the_front_it_is_said_where_the_other_is_better() -> None:
    found = only(row(INT8, 2.0, artifact_bytes=1), row(PRUNED, 1.0), over="latency,size")
    assert [one.in_ for one in found.dominated] == [("latency", "size")]
