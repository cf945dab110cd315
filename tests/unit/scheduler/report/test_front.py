from __future__ import annotations

import json
from typing import Any

from scheduler import pareto
from scheduler.report import front, front_plots, page
from tests import fleets, reports
from tests.factories import answers

FP32, INT8, BF16 = "torch/fp32", "torch/int8-dynamic", "torch/bf16"


def whole() -> Any:
    """Int8 is faster and loses; bf16's gain cannot be told from the baseline's, and it is larger."""
    views, known = [], {}
    for strategy, gain, correct, size in ((FP32, 1.0, 98, 90), (INT8, 2.0, 80, 50), (BF16, 1.02, 98, 95)):
        views += [
            fleets.latency(fleets.EPYC, gain, strategy=strategy, artifact_bytes=size * 10**6, threads=threads)
            for threads in (1, 2)
        ]
        views.append(fleets.accuracy(fleets.EPYC, correct, strategy=strategy, artifact_bytes=size * 10**6))
        known[views[-1].job_id] = answers([True] * correct + [False] * (100 - correct))
    return reports.report(views, predictions=known)


def test_a_front_spans_thread_counts_and_respects_intervals() -> None:
    report = whole()
    (one,) = report.fronts
    assert {point.configuration.name for point in one.found.points} == {
        f"{strategy}, {threads}" for strategy in (FP32, INT8) for threads in ("1 thread", "2 threads")
    }
    # a point estimate puts bf16 ahead of the baseline in latency; its interval does not
    assert {(off.point.configuration.strategy, off.by.configuration.strategy) for off in one.beaten} == {(BF16, FP32)}
    assert (report.slices[one.slice].input, report.slices[one.slice].threads) == ("b1×l16", None)


def test_a_plot_shows_intervals_and_the_ranks_of_the_table() -> None:
    report = whole()
    (plot,) = front_plots.plots(report.fronts, report.places)
    assert plot.name == "pareto-latency-accuracy"
    beaten, on = plot.data
    assert (len(beaten["x"]), on["text"]) == (2, ["1", "2", "3", "4"])
    assert on["error_x"]["array"][0] > 0
    assert min(on["error_y"]["array"]) == 0  # the baseline's own accuracy is exact
    text = page.html(report, "/static/")
    assert text.count("beaten by") == 1
    assert [objective.name for objective in front.objectives(report.fronts)] == [
        "latency",
        "accuracy",
        "size",
        "memory",
    ]


def test_only_the_best_of_what_is_beaten_is_shown_and_the_rest_counted() -> None:
    worse = [
        fleets.latency(fleets.EPYC, 1.5 - 0.01 * n, strategy=f"torch/x{n:02}", artifact_bytes=90_000_000)
        for n in range(front.BEATEN + 5)
    ]
    report = reports.report([fleets.latency(fleets.EPYC, 3.0, artifact_bytes=10), *worse])
    (one,) = report.fronts
    assert (len(one.beaten), one.left_out) == (front.BEATEN, 5)
    assert one.beaten[0].point.configuration.strategy == "torch/x00"
    assert "5 more configurations off the fronts" in page.html(report, "/static/")


def test_any_input_of_a_front_shows_it_whole() -> None:
    views = [
        fleets.latency(fleets.EPYC, 1.0, strategy=FP32, input="b1×dataset", length="dataset"),
        fleets.latency(fleets.EPYC, 3.0, input="b1×dataset/max:128", length="dataset", padding="max:128"),
    ]
    report = reports.report(views)
    (one,) = report.fronts
    assert set(report.slices[one.slice].input or ()) == {"b1×dataset", "b1×dataset/max:128"}
    at = page.data(report, [])
    assert sorted(at["slices"][one.slice][1]) == [0, 1]
    json.dumps(at)


def test_vectors_say_of_every_pair_what_the_measures_say() -> None:
    from scheduler import measures, points
    from scheduler.measures import OBJECTIVES

    report = whole()
    own = points.plot(front.answers([line.found for line in report.lines])).points
    for objective in (OBJECTIVES["latency"], OBJECTIVES["accuracy"], OBJECTIVES["size"]):
        beats = pareto.dominance(own, [objective])
        wanted = [
            [
                measures.shown_better(a.measures[objective.name], b.measures[objective.name], objective.better)
                for b in own
            ]
            for a in own
        ]
        assert beats.tolist() == wanted
