"""The README's picture: gains with their intervals as an SVG, from `quantfleet compare --json`.

quantfleet compare --study clinc150 --json | python -m benchmarks.picture > docs/gains.svg
"""

from __future__ import annotations

import html
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

LEFT, TOP, ROW, PLOT, RIGHT = 330, 64, 24, 440, 60
COLOURS = ("#0072b2", "#d55e00", "#009e73")  # Okabe and Ito: told apart by colour-blind readers
LARGEST_TICK = 16


def main() -> None:
    """Read a comparison from standard input, write the SVG to standard output."""
    rows = [row for row in json.load(sys.stdin)["comparisons"] if row["gain"] is not None]
    sys.stdout.write(svg(rows))


def svg(rows: Sequence[dict[str, Any]]) -> str:
    """One line of dots for each strategy, one colour for each thread count, a logarithmic axis."""
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    threads = sorted({row["threads"] for row in rows})
    low, high = 0.5, max(2.0, max(row["gain_high"] for row in rows) * 1.15)

    def x(gain: float) -> float:
        return LEFT + PLOT * math.log(max(gain, low) / low) / math.log(high / low)

    bottom = TOP + ROW * len(strategies)
    parts = [*_axis(x, high, bottom), *_legend(threads)]
    for index, strategy in enumerate(strategies):
        y = TOP + ROW * (index + 0.5)
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4:.0f}" text-anchor="end">{html.escape(strategy)}</text>')
        for row in (row for row in rows if row["strategy"] == strategy):
            parts.append(_dot(row, x, y, threads.index(row["threads"]), len(threads)))
    what = f"{rows[0]['model']} on {rows[0]['cpu']}: gain over {rows[0]['baseline']}, with 95 % intervals"
    width, height = LEFT + PLOT + RIGHT, bottom + 40
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="#222">'
        f'<title>{html.escape(what)}</title><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="14" y="24" font-size="15" font-weight="bold">{html.escape(what)}</text>{"".join(parts)}</svg>\n'
    )


def _axis(x: Any, high: float, bottom: float) -> list[str]:
    ticks = [tick for tick in (0.5, 1, 2, 4, 8, LARGEST_TICK) if tick <= high]
    parts = []
    for tick in ticks:
        style = "#222" if tick == 1 else "#ccc"
        parts.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP - 6}" y2="{bottom}" stroke="{style}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 18:.0f}" text-anchor="middle">×{tick:g}</text>')
    return parts


def _legend(threads: Sequence[int]) -> list[str]:
    parts = []
    for index, count in enumerate(threads):
        left = 14 + 110 * index
        word = f"{count} thread{'s' if count > 1 else ''}"
        parts.append(f'<circle cx="{left + 5}" cy="43" r="4.5" fill="{COLOURS[index % 3]}"/>')
        parts.append(f'<text x="{left + 16}" y="47">{word}</text>')
    return parts


def _dot(row: dict[str, Any], x: Any, y: float, index: int, count: int) -> str:
    at = y + (index - (count - 1) / 2) * 9
    colour = COLOURS[index % 3]
    label = f"{row['strategy']}, {row['threads']} threads: ×{row['gain']:.2f}"
    return (
        f"<g><title>{html.escape(label)}</title>"
        f'<line x1="{x(row["gain_low"]):.1f}" x2="{x(row["gain_high"]):.1f}" y1="{at:.1f}" y2="{at:.1f}" '
        f'stroke="{colour}" stroke-width="7" stroke-opacity="0.4"/>'
        f'<circle cx="{x(row["gain"]):.1f}" cy="{at:.1f}" r="2.5" fill="{colour}"/></g>'
    )


if __name__ == "__main__":
    main()
