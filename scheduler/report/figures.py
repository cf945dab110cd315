"""What figures of plotly.js are made of: colours, symbols, axes, numbers and names as they are drawn (pure).

Colours are Okabe and Ito's, which people with any kind of colour vision tell apart; symbols and dashes say the same
again, for paper.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scheduler.measures import Interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A7F00")
"""Okabe and Ito's, without black, which dark pages swallow; their yellow is darkened, which white pages swallow."""

GREY = "#808080"

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot")

Figure = dict[str, Any]
"""A trace, a layout, or a part of them, as plotly.js takes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A figure with what the page has to know of it."""

    name: str  # of its section
    alt: str  # what it shows, for those who do not see it
    data: list[Figure]
    layout: Figure
    rows: bool = False  # strategies stand on the y axis: its height follows their number
    sorted: bool = True  # of such: the best on top, whatever is shown; False: in the order of the points
    free: tuple[str, ...] = ()  # filters that it does not follow
    told: tuple[str, ...] = ()  # what is added to a strategy's name where several are shown: case, place
    curves: int | None = None  # so many curves at first; the page gives them their colours
    common: Figure = field(default_factory=dict)  # what all its curves share


def whiskers(found: Sequence[tuple[float, Interval | None]], scale: float, colour: str) -> Figure:
    """Intervals around values, as plotly takes them: what lies above and below."""
    ends = [(value, *(interval or (value, value))) for value, interval in found]
    return {
        "type": "data",
        "symmetric": False,
        "array": [four(scale * max(0.0, high - value)) for value, _, high in ends],
        "arrayminus": [four(scale * max(0.0, value - low)) for value, low, _ in ends],
        "color": colour,
        "thickness": 1,
        "width": 2,
    }


def log_axis(title: str) -> Figure:
    """A logarithmic axis."""
    return {"title": {"text": title}, "type": "log"}


def four(value: float) -> float:
    """Four significant digits: more are not measured, and make the page large."""
    return float(f"{value:.4g}")


def plain(text: str) -> str:
    """A name as plotly shows it letter by letter: it reads some tags of HTML in its texts."""
    return html.escape(text, quote=False)


def colour_of(number: int) -> str:
    """A platform's colour."""
    return COLOURS[number % len(COLOURS)]
