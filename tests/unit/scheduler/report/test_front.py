from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.report import front
from tests import fleets, reports

NUMBERS = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))


def test_the_front_holds_what_nothing_beats_in_all_three() -> None:
    views = []
    for strategy, seconds, correct, size in (
        ("torch/fp32", 0.020, 95, 90),
        ("torch/int8-dynamic", 0.010, 90, 50),
        ("torch/bf16", 0.020, 90, 60),  # beaten by int8 in all
        ("openvino/fp32", 0.015, 95, 90),  # as right and as large as fp32, and quicker
    ):
        views.append(fleets.latency(fleets.EPYC, strategy=strategy, latency_p50_s=seconds, artifact_bytes=size))
        views.append(fleets.accuracy(fleets.EPYC, correct, strategy=strategy))
    points = reports.report(views).fronts
    assert [(point.line.found.strategy, point.rank) for point in points] == [
        ("torch/int8-dynamic", 1),
        ("openvino/fp32", 2),
        ("torch/fp32", None),
        ("torch/bf16", None),
    ]


def test_thread_counts_do_not_beat_one_another() -> None:
    views = [
        fleets.latency(fleets.EPYC, threads=1, latency_p50_s=0.02),
        fleets.latency(fleets.EPYC, threads=2, latency_p50_s=0.01),
        fleets.accuracy(fleets.EPYC),
    ]
    assert [point.rank for point in reports.report(views).fronts] == [1, 1]


@given(st.lists(NUMBERS, min_size=1, max_size=8))
def test_something_is_never_beaten_and_nothing_beats_itself(points: list[tuple[int, int, int]]) -> None:
    assert not any(front.dominates(point, point) for point in points)
    assert any(not any(front.dominates(other, point) for other in points) for point in points)
