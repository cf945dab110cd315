"""How quiet each platform was: baselines against themselves, calibrated noise, marks (pure)."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.views import CeilingsView

if TYPE_CHECKING:
    from scheduler.report.contents import Line, Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """What is known of a platform's noise."""

    place: Place
    lines: int  # with a number
    half_width: float | None  # median half width of the gains' intervals, relative
    against_itself: tuple[Line, ...]  # baselines measured against themselves
    covered: int  # of them, those whose interval holds ×1
    disturbed: int  # lines marked disturbed or left out for it
    variation: float | None  # of a short kernel's times when the machine was calibrated: std ÷ mean
    p99_ratio: float | None  # likewise: p99 ÷ median


def noises(places: Iterable[Place], lines: Sequence[Line], ceilings: Mapping[str, CeilingsView]) -> tuple[Noise, ...]:
    """One for each platform."""
    by_place: dict[str, list[Line]] = {}
    for line in lines:
        by_place.setdefault(line.place.platform.key, []).append(line)
    return tuple(
        _noise(place, by_place.get(place.platform.key, ()), ceilings.get(place.platform.hardware_key))
        for place in places
    )


def half_width(line: Line) -> float | None:
    """Half of the gain's interval ÷ the gain; None without an interval."""
    row = line.found
    if row.gain is None or row.gain_low is None or row.gain_high is None:
        return None
    return (row.gain_high - row.gain_low) / 2 / row.gain


def _noise(place: Place, lines: Sequence[Line], measured: CeilingsView | None) -> Noise:
    widths = [width for line in lines if (width := half_width(line)) is not None]
    alone = tuple(line for line in lines if "A/A" in line.found.marks)
    told = None if measured is None else measured.measurement.noise
    return Noise(
        place=place,
        lines=sum(line.found.gain is not None for line in lines),
        half_width=statistics.median(widths) if widths else None,
        against_itself=alone,
        covered=sum(line.found.significant is False for line in alone),
        disturbed=sum("disturbed" in line.found.marks for line in lines),
        variation=None if told is None else told.variation,
        p99_ratio=None if told is None else told.p99_ratio,
    )
