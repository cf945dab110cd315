"""A report's plots as figures of plotly.js: plain JSON, made here and drawn by the page (pure).

Each point says which slice it is of (`customdata`), each curve likewise (`meta.slice`), so that the page's filters
can leave points out without knowing what a plot shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from scheduler.compare import Comparison
from scheduler.measures import Interval
from scheduler.report import front_plots, spread
from scheduler.report.contents import Line, Place, Report, Step, Waterfall
from scheduler.report.figures import COLOURS, GREY, SYMBOLS, Figure, Plot, colour_of, four, log_axis, plain, whiskers
from scheduler.report.scaling import Scaling
from scheduler.report.weights import Weight

CURVES = 8
"""Curves that are drawn at first; the legend shows the others."""

MOST_POINTS = 400
"""Most points of a plot that the page draws at once; more are slow, and nobody tells them apart."""

_CURVE: Figure = {"type": "scatter", "mode": "lines+markers"}


def plots(report: Report) -> list[Plot]:
    """Every plot that has something to show."""
    found = [
        gains(report),
        latencies(report),
        curves(report),
        *front_plots.plots(report.fronts, report.places),
        scaling(report.scalings),
        noise(report),
        *(waterfall(one, number) for number, one in enumerate(report.waterfalls)),
        *(weight(one, number) for number, one in enumerate(report.weights)),
    ]
    return [plot for plot in found if plot.data]


def gains(report: Report) -> Plot:
    """Gains with their intervals: strategies × platforms."""
    lines = [line for line in report.lines if line.found.gain is not None]
    return Plot(
        name="gains",
        alt="Gains over the baseline by strategy, a colour and symbol for each machine, with 95 % intervals; "
        "filled where the interval excludes ×1. The table below has the same numbers.",
        data=[_gain_trace(report, place, number, lines) for number, place in enumerate(report.places)],
        layout=_over_one("gain: baseline's time ÷ the strategy's"),
        rows=True,
        told=("case",),
    )


def latencies(report: Report) -> Plot:
    """Boxes of each strategy's calls beside those of its baseline."""
    lines = {line.number: line for line in report.lines}
    data = []
    for side, colour in (("baseline", GREY), ("strategy", COLOURS[0])):
        own = [one for one in report.spreads if one.side == side and one.at(0.5) is not None]
        if own:
            data.append(_boxes(side, colour, own, lines))
    return Plot(
        name="latencies",
        alt="Distribution of the latencies of single calls by strategy, and of the baseline's in the same rounds: "
        "box from the first to the third quartile, line at the median, whiskers from p5 to p95. The table below has "
        "the same numbers.",
        data=data,
        layout={"xaxis": log_axis("latency of a call, ms"), "boxmode": "group", "boxgap": 0.25, "boxgroupgap": 0.1},
        rows=True,
        told=("case", "place"),
    )


def curves(report: Report) -> Plot:
    """Latency over its percentile, the tail drawn out."""
    lines = {line.number: line for line in report.lines}
    own = [one for one in report.spreads if one.side == "strategy" and one.at(0.5) is not None]
    ordered = sorted(own, key=lambda one: (one.slice, one.at(0.5) or 0.0))
    quantiles = (0.5, 0.75, 0.9, 0.95, 0.99)
    return Plot(
        name="curves",
        alt="Latency over its percentile, a curve for each strategy. The table above has the same numbers.",
        data=[_curve(one, lines[one.line]) for one in ordered],
        layout={
            "xaxis": {
                "title": {"text": "percentile"},
                "tickvals": [_tail(q) for q in quantiles],
                "ticktext": [f"p{100 * q:g}" for q in quantiles],
            },
            "yaxis": log_axis("latency of a call, ms"),
        },
        told=("case", "place"),
        curves=CURVES,
        common={**_CURVE, "hovertemplate": "%{y:.4g} ms"},
    )


def scaling(found: Iterable[Scaling]) -> Plot:
    """Speed-up over the number of threads."""
    cases = list(found)
    counts = sorted({count for one in cases for count in one.threads})
    data = [_scaling_trace(one) for one in cases]
    if data:
        least = counts[0]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "ideal",
                "x": counts,
                "y": [count / least for count in counts],
                "line": {"color": GREY, "dash": "dot", "width": 1},
                "hoverinfo": "skip",
            }
        )
    return Plot(
        name="scaling",
        alt="Speed-up over the number of threads, a curve for each strategy; the dotted line is the ideal. The table "
        "below has the same numbers.",
        data=data,
        layout={
            "xaxis": {"title": {"text": "threads"}, "tickvals": counts, "type": "log"},
            "yaxis": {"title": {"text": "speed-up over the fewest threads"}, "tickprefix": "×"},
        },
        free=("threads",),
        told=("case", "place"),
        curves=CURVES,
        common={**_CURVE, "hovertemplate": "×%{y:.2f} with %{x} threads"},
    )


def noise(report: Report) -> Plot:
    """Baselines against themselves."""
    lines = [line for one in report.noises for line in one.against_itself if line.found.gain is not None]
    data = [_gain_trace(report, place, number, lines) for number, place in enumerate(report.places) if lines]
    return Plot(
        name="noise",
        alt="Gains of baselines measured against themselves, with 95 % intervals: they should be ×1. The table below "
        "has the same numbers.",
        data=[trace for trace in data if trace["x"]],
        layout=_over_one("baseline against itself"),
        rows=True,
        told=("case",),
    )


def waterfall(found: Waterfall, number: int) -> Plot:
    """Steps, each from where the one before it ended, and the product so far with its interval."""
    starts = [1.0, *(step.product for step in found.steps[:-1])]
    names = [plain(f"{step.name}: ×{step.factor:.2f}") for step in found.steps]
    return Plot(
        name=f"waterfall-{number}",
        alt=f"{found.title}: the product of the steps' gains, step by step. The table below has the same numbers.",
        data=[
            {
                "type": "bar",
                "orientation": "h",
                "name": "step",
                "y": names,
                "base": [four(min(a, step.product)) for a, step in zip(starts, found.steps, strict=True)],
                "x": [four(abs(step.product - a)) for a, step in zip(starts, found.steps, strict=True)],
                "marker": {
                    "color": [COLOURS[0] if step.factor >= 1 else COLOURS[1] for step in found.steps],
                    "pattern": {"shape": ["" if step.factor >= 1 else "/" for step in found.steps]},
                },
                "customdata": [found.slice] * len(found.steps),
                "hovertemplate": "%{y}<extra></extra>",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "name": "product so far",
                "y": names,
                "x": [four(step.product) for step in found.steps],
                "error_x": {**whiskers([_product(step) for step in found.steps], 1.0, COLOURS[4]), "thickness": 2},
                "marker": {"color": COLOURS[4], "symbol": "diamond", "size": 9, "line": {"color": GREY, "width": 1}},
                "customdata": [found.slice] * len(found.steps),
                "hovertemplate": "×%{x:.2f} so far<extra></extra>",
            },
        ],
        layout={"xaxis": {"title": {"text": "gain over the baseline"}, "tickprefix": "×"}},
        rows=True,
        sorted=False,
    )  # fmt: skip


def _product(step: Step) -> tuple[float, Interval | None]:
    low, high = step.product_low, step.product_high
    return step.product, None if low is None or high is None else (low, high)


def weight(found: Weight, number: int) -> Plot:
    """The values, the integers of the first scheme, and the errors of two."""
    middle = [(a + b) / 2 for a, b in zip(found.edges, found.edges[1:], strict=False)]
    errors = [(a + b) / 2 for a, b in zip(found.error_edges, found.error_edges[1:], strict=False)]
    data = [_bars(middle, found.counts, "float32 values", COLOURS[0], "")]
    if found.schemes:
        first = found.schemes[0]
        data.append(_bars(first.integers[0], first.integers[1], f"integers: {first.name}", COLOURS[1], "2"))
    chosen = {one.name: one for one in reversed(found.schemes) if one.name in ("symmetric", "per channel", "per row")}
    for one, colour in zip(chosen.values(), (COLOURS[2], COLOURS[4]), strict=False):
        data.append(_bars(errors, one.errors, f"errors: {one.name}", colour, "3"))
    titles = ("value", "integer", "error")
    axes = {
        f"xaxis{'' if n == 1 else n}": {
            "title": {"text": title},
            "nticks": 4,
            "domain": [(n - 1) * 0.345, (n - 1) * 0.345 + 0.31],
        }
        for n, title in enumerate(titles, 1)
    }
    sides = {f"yaxis{n}": {"anchor": f"x{n}", "type": "log", "dtick": 1, "showticklabels": False} for n in (2, 3)}
    counts = {"title": {"text": "count"}, "type": "log", "dtick": 1}
    return Plot(
        name=f"weight-{number}",
        alt=f"Histograms of the weight {found.layer}: its values, its integers under the first scheme, and the errors "
        "of one scale and of many; counts on a logarithmic axis. The table below tells the errors.",
        data=data,
        layout={**axes, **sides, "yaxis": counts, "bargap": 0, "barmode": "overlay"},
    )


def _gain_trace(report: Report, place: Place, number: int, lines: Iterable[Line]) -> Figure:
    own = [line for line in lines if line.place is place]
    symbol = SYMBOLS[number % len(SYMBOLS)]
    rows = [line.found for line in own]
    values = [row.gain or 0.0 for row in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(place.name),
        "orientation": "h",
        "offsetgroup": str(number),
        "x": [four(value) for value in values],
        "y": [plain(line.name) for line in own],
        "customdata": [line.slice for line in own],
        "error_x": {**whiskers([_interval(row) for row in rows], 1.0, colour_of(number)), "thickness": 1.5, "width": 3},
        "marker": {
            "color": colour_of(number),
            "size": 9,
            "symbol": [symbol if row.significant else f"{symbol}-open" for row in rows],
        },
        "hovertemplate": "%{y}: ×%{x:.2f} +%{error_x.array:.2f} −%{error_x.arrayminus:.2f}",
    }  # fmt: skip


def _interval(row: Comparison) -> tuple[float, Interval | None]:
    """A gain with its interval."""
    low, high = row.gain_low, row.gain_high
    return row.gain or 0.0, None if low is None or high is None else (low, high)


def _boxes(side: str, colour: str, own: Sequence[spread.Spread], lines: dict[int, Line]) -> Figure:
    def at(one: spread.Spread, *quantiles: float) -> float:
        """The first of the quantiles that the sample supports."""
        return _ms(next((value for q in quantiles if (value := one.at(q)) is not None), None))

    return {
        "type": "box",
        "orientation": "h",
        "name": side,
        "y": [plain(lines[one.line].name) for one in own],
        "q1": [at(one, 0.25, 0.4, 0.5) for one in own],
        "median": [at(one, 0.5) for one in own],
        "q3": [at(one, 0.75, 0.6, 0.5) for one in own],
        "lowerfence": [at(one, 0.05, 0.1, 0.25, 0.5) for one in own],
        "upperfence": [at(one, 0.95, 0.9, 0.75, 0.5) for one in own],
        "customdata": [one.slice for one in own],
        "marker": {"color": colour},
        "line": {"width": 1.2},
    }


def _curve(one: spread.Spread, line: Line) -> Figure:
    known = [(q, value) for q, value in zip(spread.GRID, one.quantiles_s, strict=True) if value is not None]
    own = [(q, value) for q, value in known if q >= 0.5]
    return {
        "name": plain(line.name),
        "x": [_tail(q) for q, _ in own],
        "y": [_ms(value) for _, value in own],
        "meta": {"slice": one.slice},
    }


def _scaling_trace(one: Scaling) -> Figure:
    return {
        "name": plain(one.strategy),
        "x": list(one.threads),
        "y": [four(value) for value in one.speedups],
        "meta": {"slice": one.slice},
    }


def _bars(x: Sequence[float], y: Sequence[int], name: str, colour: str, axis: str) -> Figure:
    return {
        "type": "bar",
        "name": plain(name),
        "x": [four(value) for value in x],
        "y": list(y),
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
        "opacity": 0.75,
        "marker": {"color": colour},
    }


def _over_one(title: str) -> Figure:
    """An axis of gains, with a line at ×1."""
    line = {"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper", "line": {"color": GREY, "width": 1}}
    # platforms stand below one another in a row of the plot: their intervals often overlap
    beside = {"scattermode": "group", "scattergap": 0.3}
    return {"xaxis": {**log_axis(title), "tickprefix": "×"}, "shapes": [line], **beside}


def _tail(q: float) -> float:
    """Where a percentile stands: each further nine takes the same room."""
    return four(-math.log10(1 - q))


def _ms(seconds: float | None) -> float:
    return four(1e3 * (seconds or 0.0))
