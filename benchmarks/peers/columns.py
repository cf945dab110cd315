"""From outcomes to the table's columns (pure)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers.sweep import BASELINE, STRATEGY, Case, Outcome

TARGET = 0.05
"""Half width of a gain's 95 % interval for which machine seconds are compared."""

Truth = Mapping[Case, Sequence[float]]
"""Median seconds of a call by bare loops, one for each repetition."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one tool did. None: nothing to tell it from."""

    tool: str
    wall_s: float  # of the whole sweep
    answered: int  # cases with a number, in the whole sweep
    cases: int
    timed_s: float | None  # calls behind one number, median over cases
    error: float | None  # reported ÷ bare loop's median − 1: geometric mean over cases
    worst: float | None  # the same of the case that is farthest off
    spread: float | None  # of a reported median over repetitions, relative
    gain_spread: float | None  # of fp32's ÷ int8's reported median
    target_s: float | None  # machine seconds until the gain's mean is within ±5 %, by that spread
    threads: tuple[tuple[int, int | None], ...]  # asked for → seen (the least and most usual)
    beside: float  # cores that the tool's other processes used meanwhile
    reasons: tuple[str, ...] = ()  # why numbers are missing

    @property
    def cases_per_hour(self) -> float:
        """Numbers an hour."""
        return 3600 * self.answered / self.wall_s if self.wall_s else 0.0


def row(tool: str, repetitions: Sequence[Sequence[Outcome]], truth: Truth, wall_s: float | None = None) -> Row:
    """A tool's row; the first repetition is the whole sweep, `wall_s` its time where its cases' do not add up to it."""
    sweep = repetitions[0]
    took = sum(one.wall_s for one in sweep) if wall_s is None else wall_s
    found = medians(repetitions)
    errors = [error for case, values in found.items() if truth.get(case) and (error := _log_ratio(values, truth[case]))]
    gain_spread = pooled_spread(gains(repetitions))
    for_a_gain = 2 * took / len(sweep)
    return Row(
        tool=tool,
        wall_s=took,
        answered=sum(one.median_s is not None for one in sweep),
        cases=len(sweep),
        timed_s=_median([one.timed_s for one in sweep if one.timed_s is not None]),
        error=math.expm1(statistics.fmean(errors)) if errors else None,
        worst=math.expm1(max(errors, key=abs)) if errors else None,
        spread=pooled_spread(list(found.values())),
        gain_spread=gain_spread,
        target_s=None if gain_spread is None else for_a_gain * repeats_for(gain_spread, TARGET),
        threads=_threads([one for rep in repetitions for one in rep]),
        beside=_median([one.beside for rep in repetitions for one in rep]) or 0.0,
        reasons=tuple(dict.fromkeys(one.reason for rep in repetitions for one in rep if one.reason)),
    )


def medians(repetitions: Sequence[Sequence[Outcome]]) -> dict[Case, list[float]]:
    """The reported medians of each case, in seconds, one for each repetition that had it."""
    found: dict[Case, list[float]] = {}
    for one in (one for repetition in repetitions for one in repetition):
        if one.median_s is not None:
            found.setdefault(one.case, []).append(one.median_s)
    return found


def gains(repetitions: Sequence[Sequence[Outcome]]) -> list[list[float]]:
    """fp32's ÷ int8's median by repetition, a list for each threads × input."""
    found: dict[tuple[int, int], list[float]] = {}
    for repetition in repetitions:
        told = {one.case: one.median_s for one in repetition if one.median_s is not None}
        for case, median_s in told.items():
            base = told.get(Case(length=case.length, threads=case.threads, strategy=BASELINE))
            if case.strategy == STRATEGY and base is not None:
                found.setdefault((case.length, case.threads), []).append(base / median_s)
    return list(found.values())


def pooled_spread(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation of the logs, pooled over groups of repeats; None where nothing was repeated."""
    logs = [[math.log(value) for value in group] for group in groups if len(group) > 1]
    if not logs:
        return None
    return math.sqrt(sum(statistics.variance(g) * (len(g) - 1) for g in logs) / sum(len(g) - 1 for g in logs))


def repeats_for(spread: float, half: float) -> float:
    """How often to measure until the mean's 95 % interval is ±`half` (relative), at least once: normal quantile."""
    return max(1.0, (statistics.NormalDist().inv_cdf(0.975) * spread / math.log1p(half)) ** 2)


def _log_ratio(values: Sequence[float], truth: Sequence[float]) -> float:
    return statistics.fmean(map(math.log, values)) - statistics.fmean(map(math.log, truth))


def _threads(outcomes: Sequence[Outcome]) -> tuple[tuple[int, int | None], ...]:
    asked: dict[int, list[int]] = {}
    for one in outcomes:
        asked.setdefault(one.case.threads, []).extend([] if one.threads is None else [one.threads])
    return tuple((count, statistics.mode(seen) if seen else None) for count, seen in sorted(asked.items()))


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


HEAD = (
    f"{'tool':20}{'sweep':>7}{'cases/h':>9}{'timed':>7}{'error (worst)':>15}{'spread':>8}{'gain':>8}{'±5 %':>7}"
    "  threads"
)


def text(one: Row) -> str:
    """A row of the table under HEAD."""
    error = "–" if one.error is None or one.worst is None else f"{100 * one.error:+.1f} ({100 * one.worst:+.0f}) %"
    threads = " ".join(f"{asked}→{'?' if seen is None else seen}" for asked, seen in one.threads)
    beside = f" +{one.beside:.1f}" if one.beside >= 0.1 else ""
    return (
        f"{one.tool:20}{one.wall_s:5.0f} s{one.cases_per_hour:9.0f}{_seconds(one.timed_s, 1):>7}{error:>15}"
        f"{_percent(one.spread):>8}{_percent(one.gain_spread):>8}{_seconds(one.target_s, 0):>7}  {threads}{beside}"
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _seconds(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f} s"
