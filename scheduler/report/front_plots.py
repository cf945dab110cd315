"""Pareto fronts as figures of plotly.js: what is on them, and the best of what is not (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scheduler.measures import Objective
from scheduler.points import Point
from scheduler.report.contents import Place
from scheduler.report.figures import GREY, SYMBOLS, Figure, Plot, colour_of, four, log_axis, plain, whiskers
from scheduler.report.front import Front

NAME = "pareto-"
"""How names of these plots begin."""

_CORNERS = ("top right", "bottom right", "top left", "bottom left")
"""Where ranks stand in turn: neighbours on a front are often close."""


def plots(fronts: Iterable[Front], places: Sequence[Place]) -> list[Plot]:
    """The fronts, a plot for each pair of axes: latency or throughput, over it accuracy where that is measured."""
    by_axes: dict[tuple[Objective, Objective], list[Front]] = {}
    for one in fronts:
        by_axes.setdefault(one.axes, []).append(one)
    return [_plot(places, x, y, own) for (x, y), own in by_axes.items()]


def _plot(places: Sequence[Place], x: Objective, y: Objective, fronts: Sequence[Front]) -> Plot:
    """The front's configurations and the best of those off it; the size of a mark is that of the model on disk."""
    data: list[Figure] = []
    for number, place in enumerate(places):
        own = [one for one in fronts if one.place is place]
        beaten = [(one.slice, "", off.point) for one in own for off in one.beaten]
        on = [(one.slice, str(rank), point) for one in own for rank, point in enumerate(one.found.points, 1)]
        name, symbol = plain(place.name), SYMBOLS[number % len(SYMBOLS)]
        data += [_points(beaten, (x, y), symbol, f"{name}, beaten", GREY)] if beaten else []
        data += [_points(on, (x, y), symbol, f"{name}, front", colour_of(number))] if on else []
    return Plot(
        name=f"{NAME}{x.name}-{y.name}",
        alt=f"{_AXES[y.name].title} over {_AXES[x.name].title}, with 95 % intervals; the larger a mark, the larger the "
        "model on disk. Numbered, filled marks are on the Pareto front of their machine and workload. The table below "
        "lists them.",
        data=data,
        layout={"xaxis": _axis(x), "yaxis": _axis(y), "showlegend": True},
    )


def _points(
    own: Sequence[tuple[int, str, Point]], axes: tuple[Objective, Objective], symbol: str, name: str, colour: str
) -> Figure:
    """Marks of `(slice, rank or "", point)`; hollow and grey without a rank."""
    points = [point for _, _, point in own]
    on = colour != GREY
    trace: Figure = {
        "type": "scatter",
        "mode": "markers+text" if on else "markers",
        "name": name,
        "hovertext": [plain(point.configuration.name) for point in points],
        "customdata": [at for at, _, _ in own],
        "marker": {
            "color": colour,
            "symbol": symbol if on else f"{symbol}-open",
            "size": [_diameter(point.row.artifact_bytes) for point in points],
        },
        "hovertemplate": "%{hovertext}: %{x:.4g}, %{y:.4g}",
    }
    for side, objective in zip("xy", axes, strict=True):
        scale = _AXES[objective.name].scale
        found = [point.measures[objective.name] for point in points]
        trace[side] = [four(scale * one.value) for one in found]
        trace[f"error_{side}"] = whiskers([(one.value, one.wide) for one in found], scale, colour)
    if not on:
        return trace
    return trace | {"text": [rank for _, rank, _ in own], "textposition": [_CORNERS[n % 4] for n in range(len(own))]}


def _diameter(size_bytes: int | None) -> float:
    """Of a mark in px: its area grows with the model's size, as far as marks can be told apart."""
    return round(min(24.0, 6 + math.sqrt((size_bytes or 0) / 1e6)), 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Axis:
    """How a plot shows an objective."""

    title: str
    scale: float = 1.0  # from the objective's own unit to the axis's
    log: bool = True


_AXES = {
    "latency": _Axis(title="p50 latency of a call, ms", scale=1e3),
    "throughput": _Axis(title="rows per second"),
    "accuracy": _Axis(title="accuracy against the baseline, points", scale=100.0, log=False),
    "size": _Axis(title="size on disk, MB", scale=1e-6),
    "memory": _Axis(title="peak memory, MB", scale=1e-6),
    "cost": _Axis(title="cost of a million rows"),
}
"""By names of measures.OBJECTIVES."""


def _axis(objective: Objective) -> Figure:
    shown = _AXES[objective.name]
    return log_axis(shown.title) if shown.log else {"title": {"text": shown.title}}
