"""What `compare --explain` prints: for each gain that differs between machines, facts and what may be inferred."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from scheduler.cli import tables
from scheduler.reasons import Difference
from storage import metrics


def render(found: Sequence[Difference], *, several: bool) -> RenderableType:
    """A paragraph for each difference, or a sentence; `several`: whether there are several machines."""
    if not several:
        return Text("\nexplain: results of one platform only; there is nothing to compare a gain with")
    if not found:
        return Text("\nexplain: no gain differs between two platforms beyond its interval")
    parts: list[RenderableType] = [Text("\nwhy gains differ", style="bold")]
    for one in found:
        parts += [Text(), *_paragraph(one)]
    parts.append(Text("\n→ inferred: goes together with the difference, which proves no cause", style="dim"))
    return Group(*parts)


def _paragraph(one: Difference) -> list[RenderableType]:
    gains = f"{metrics.ratio(one.gain_high)} on {one.high}, {metrics.ratio(one.gain_low)} on {one.low}"
    head = Text(tables.clean(f"{one.model} {one.strategy} ({one.shape}): {gains}"), overflow="fold")
    lines = [f"- {fact}" for fact in one.facts] + [f"→ {inference}" for inference in one.inferences]
    return [head, *(Padding(Text(tables.clean(line), overflow="fold"), (0, 0, 0, 2)) for line in lines)]
