"""Waterfalls for a report: the steps that are recognised on the way to each family's fastest case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from scheduler import compare, recognise, waterfall
from scheduler.compare import Comparison
from scheduler.report.contents import Step, Waterfall
from storage import records

LEAST = 2
"""Steps with a number that a chart has at least: a single one is a gain, which other sections show."""


def waterfalls(rows: Iterable[Comparison], platforms: Iterable[records.Platform]) -> list[Waterfall]:
    """One for each baseline and platform from which two steps or more lead; steps without a number are left out."""
    starts = waterfall.starts(compare.of_ours(rows), platforms)
    return [found for family in recognise.families(starts) for found in _of(family)]


def _of(family: recognise.Family) -> Iterator[Waterfall]:
    chain = recognise.recognise(family)
    if chain is None:
        return
    for start in family.starts:
        steps = tuple(_steps(waterfall.chart(start, chain.steps)))
        if len(steps) >= LEAST:
            yield Waterfall(
                title=f"{start.model}, {start.point.kind}, from {start.point.strategy} on {start.column.name}",
                model=start.model,
                platform_key=start.column.platform.key,
                steps=steps,
            )


def _steps(chart: waterfall.Chart) -> Iterator[Step]:
    for bar in chart.bars:
        if bar.state == "done" and bar.factor is not None and bar.total is not None:
            yield Step(
                name=bar.name,
                factor=bar.factor.value,
                low=bar.factor.low,
                high=bar.factor.high,
                product=bar.total.value,
                product_low=bar.total.low,
                product_high=bar.total.high,
            )
