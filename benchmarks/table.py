"""The README's table as Markdown, from `quantfleet compare --json`.

quantfleet compare --study clinc150 --json | python -m benchmarks.table
"""

from __future__ import annotations

import json
import sys
from typing import Any

from storage import metrics

HEADINGS = ("strategy", "threads", "gain [95 %]", "p50 (baseline)", "p90", "p95", "size", "peak", "accuracy", "verdict")


def main() -> None:
    """Read a comparison from standard input, write a Markdown table to standard output."""
    rows = [row for row in json.load(sys.stdin)["comparisons"] if row["gain"] is not None]
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(_cells(row) for row in rows)]
    sys.stdout.write("".join(f"| {' | '.join(cells)} |\n" for cells in lines))


def _cells(row: dict[str, Any]) -> list[str]:
    verdict = row["verdict"] or ("baseline" if row["strategy"] == row["baseline"] else "–")
    return [
        f"`{row['strategy']}`",
        str(row["threads"]),
        f"{metrics.ratio(row['gain'])} [{row['gain_low']:.2f}, {row['gain_high']:.2f}]",
        f"{metrics.seconds(row['latency_p50_s'])} ({metrics.seconds(row['baseline_latency_p50_s'])})",
        metrics.seconds(row["latency_p90_s"]),
        metrics.seconds(row["latency_p95_s"]),
        f"{metrics.bytes_(row['artifact_bytes'])} ({metrics.ratio(row['size_ratio'])})",
        metrics.bytes_(row["resident_peak_bytes"]),
        "–" if row["accuracy"] is None else f"{row['accuracy']:.3f}",
        verdict,
    ]


if __name__ == "__main__":
    main()
