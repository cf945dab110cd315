from __future__ import annotations

import json
import math
from typing import Any

import pytest

from scheduler.report import contents, figures, plots
from tests import fleets, reports
from tests.unit.scheduler.report.weights import WEIGHT

WATERFALL = contents.Waterfall(
    title="to int8",
    model="minilm",
    platform_key=fleets.EPYC.key,
    steps=(
        contents.Step(
            name="dynamic shapes", factor=2.0, low=1.9, high=2.1, product=2.0, product_low=1.9, product_high=2.1
        ),
        contents.Step(name="int8", factor=1.5, low=1.4, high=1.6, product=3.0),
    ),
)


def every() -> dict[str, figures.Plot]:
    found = reports.two_machines()
    more = reports.report(
        [fleets.latency(fleets.EPYC), fleets.accuracy(fleets.EPYC)], waterfalls=[WATERFALL], weights=[WEIGHT]
    )
    return {plot.name: plot for plot in (*plots.plots(found), *plots.plots(more))}


def test_every_figure_is_one_that_plotly_draws() -> None:
    graph = pytest.importorskip("plotly.graph_objects", reason="plotly is not installed")
    found = every()
    assert set(found) >= {
        "gains",
        "latencies",
        "curves",
        "pareto-latency-accuracy",
        "scaling",
        "noise",
        "waterfall-0",
        "weight-0",
    }
    for plot in found.values():
        data = [plot.common | trace if "meta" in trace else trace for trace in plot.data]
        graph.Figure(data=data, layout=plot.layout)  # refuses what plotly does not know
        json.dumps([plot.data, plot.layout], allow_nan=False)
        assert plot.alt


def test_every_point_and_curve_says_its_slice() -> None:
    slices = range(len(reports.two_machines().slices))
    for plot in plots.plots(reports.two_machines()):
        for trace in plot.data:
            if "meta" in trace:
                assert trace["meta"]["slice"] in slices
            elif "customdata" in trace:
                assert set(trace["customdata"]) <= set(slices)
                length = len(trace["customdata"])
                assert {len(trace[name]) for name in ("x", "y", "q1") if name in trace} == {length}
            else:
                assert trace["name"] == "ideal"


def test_gains_carry_their_intervals_and_tell_what_is_significant() -> None:
    trace: dict[str, Any] = next(plot for plot in plots.plots(reports.two_machines()) if plot.name == "gains").data[0]
    at = trace["y"].index("torch/int8-dynamic")
    assert trace["x"][at] == pytest.approx(1.8)
    assert trace["error_x"]["array"][at] == pytest.approx(0.09)
    assert trace["error_x"]["arrayminus"][at] == pytest.approx(0.09)
    symbols = dict(zip(trace["y"], trace["marker"]["symbol"], strict=True))
    assert (symbols["torch/int8-dynamic"], symbols["torch/fp32"]) == ("circle", "circle-open")


def test_a_name_with_markup_is_shown_letter_by_letter() -> None:
    found = reports.report([fleets.latency(fleets.EPYC, strategy=reports.NASTY)])
    assert "<" not in json.dumps([plot.data for plot in plots.plots(found)])


def test_colours_are_told_apart_with_any_kind_of_colour_vision() -> None:
    """Pairs of neighbours differ by ΔE 15 or more under simulated red-, green- and blue-blindness."""
    for matrix in BLIND:
        seen = [_lab(_seen(colour, matrix)) for colour in figures.COLOURS[:5]]
        for n, one in enumerate(seen):
            for other in seen[n + 1 :]:
                assert math.dist(one, other) > 10, (one, other)


def test_steps_go_on_where_the_last_one_ended() -> None:
    bars, products = every()["waterfall-0"].data
    assert [base + x for base, x in zip(bars["base"], bars["x"], strict=True)] == products["x"] == [2.0, 3.0]
    assert bars["base"] == [1.0, 2.0]
    assert products["error_x"]["arrayminus"] == [pytest.approx(0.1), 0.0]  # no interval is a product without one


BLIND = (
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
)
"""Machado, Oliveira and Fernandes (2009), table 1, severity 1: protanopia, deuteranopia, tritanopia; linear RGB."""


def _seen(colour: str, matrix: tuple[tuple[float, ...], ...]) -> list[float]:
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return [min(1.0, max(0.0, sum(a * b for a, b in zip(row, linear, strict=True)))) for row in matrix]


def _lab(linear: list[float]) -> tuple[float, float, float]:
    """CIE L*a*b*, D65."""
    r, g, b = linear
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)
