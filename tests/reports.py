"""Reports of made-up results, for tests of the page and of what it shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scheduler import compare
from scheduler.report import contents, spread
from scheduler.report.contents import About, Report
from storage import records
from storage.views import Predictions, ResultView
from tests import builders, fleets

NASTY = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"
"""A name that does harm where it is not escaped."""


def report(
    views: Iterable[ResultView],
    platforms: Sequence[records.Platform] = (fleets.EPYC, fleets.XEON),
    *,
    predictions: Mapping[str, Predictions] | None = None,
    **more: Any,
) -> Report:
    """The report of results; every finished one gets the same few raw samples."""
    found = list(views)
    rows = compare.compare(found, (predictions or {}).get)
    spreads = {view.job_id: spread.spreads(legs()) for view in found if view.state == "done" and view.gain}
    return contents.report(rows, platforms, about(), **{"spreads": spreads, **more})


def about(**given: Any) -> About:
    """Where a report comes from."""
    values: dict[str, Any] = {
        "title": "Study demo",
        "study": "demo",
        "made_at": 1.8e9,
        "version": "0.1.0",
        "database": "sqlite:///demo.db",
    }
    return About(**{**values, **given})


def legs(calls: int = 100) -> list[records.Leg]:
    """Two rounds of 100 calls a side: the strategy's take 10 ms and more, the baseline's twice that."""
    own = range(10_000_000, 10_000_000 + calls * 20_000, 20_000)
    return [
        builders.leg(round=round_, position=position, samples_ns=[scale * ns for ns in own])
        for round_ in range(2)
        for position, scale in ((0, 2), (1, 1))
    ]  # fmt: skip


def two_machines() -> Report:
    """Two machines, two thread counts, a failure and a baseline against itself; the strategy flips its sign."""
    views = [
        *(fleets.latency(fleets.EPYC, 1.8 * threads**0.1, threads=threads) for threads in (1, 2)),
        *(fleets.latency(fleets.XEON, 0.7, threads=threads, host="two") for threads in (1, 2)),
        fleets.latency(fleets.EPYC, 1.0, strategy="torch/fp32", latency_p50_s=0.02),
        fleets.failed(fleets.XEON, strategy="openvino/fp32", host="two"),
        fleets.accuracy(fleets.EPYC, 90),
        fleets.accuracy(fleets.EPYC, 92, strategy="torch/fp32"),
    ]
    return report(views)
