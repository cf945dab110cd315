"""What changed between an earlier measurement and a later one of the same cases, and what got worse (pure).

The unit of replication is the session, one pair of fresh processes; numbers are compared as means of logarithms, so
that a difference is a ratio. A gain is taken against the baseline of the same session, so that whatever the machine did
in that hour is in both sides of it: gains are what is judged unless it is asked otherwise. Times differ by the
machine's drift too (`scheduler.drift`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from scheduler.compare import Comparison
from scheduler.drift import Lookup
from scheduler.sessions import Session
from storage import estimates, metrics, multiple_testing, statistics
from storage.estimates import Component, Difference, Estimate

Number = Literal["time", "baseline_time", "gain"]

Verdict = Literal["worse", "better", "no change shown", "not tested"]

LEAST = 2
"""Sessions on a side, at least, of which one job has to have as many: one tells no variance."""

_READ: Mapping[Number, Callable[[Session], float]] = {
    "time": lambda session: session.log_time,
    "baseline_time": lambda session: session.log_baseline,
    "gain": lambda session: session.log_gain,
}

_WORSE: Mapping[Number, int] = {"time": 1, "baseline_time": 1, "gain": -1}
"""Which direction of a number is a loss."""

_DRIFTS: tuple[Number, ...] = ("time", "baseline_time")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What is tested."""

    fdr: float = 0.05  # expected share of false ones among the changes, and among the regressions, that are told
    margin: float | None = None  # a slowdown up to this share (0.03: 3 %) is no regression; None: none is told
    judge: Literal["time", "gain"] = "gain"  # whose losses are regressions


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """A number now ÷ then."""

    ratio: float
    low: float  # 95 % interval
    high: float
    p: float  # two-sided, of "no change"
    p_worse: float | None  # one-sided, of "worse by the margin at most"; None without a margin
    p_adjusted: float = 1.0  # Benjamini & Hochberg, over all cases
    p_worse_adjusted: float | None = None

    @property
    def half_width(self) -> float:
        """Of the interval, relative."""
        return math.expm1(math.log(self.high / self.low) / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One case, then and now."""

    earlier: Comparison
    later: Comparison
    earlier_sessions: int
    sessions: int
    time: Effect | None  # of the strategy's call; throughput: of all instances' pace
    baseline_time: Effect | None
    gain: Effect | None
    verdict: Verdict  # of what is judged
    regression: bool  # worse by more than the margin, shown at the false-discovery rate
    note: str | None = None  # why it is not tested


def changes(pairs: Iterable[tuple[Comparison, Comparison]], sessions: Lookup, rule: Rule,
            drifts: Mapping[str, Component]) -> tuple[Change, ...]:  # fmt: skip
    """The change of each case, earlier and later row, in the order given.

    A time's difference is tested by Welch's t on the log scale, with the drift between jobs as a further variance; a
    gain's likewise, without drift. p values are adjusted over all cases for each number by itself.
    """
    found = [_change(earlier, later, sessions, rule, drifts.get(later.hardware_key)) for earlier, later in pairs]
    for number in _READ:
        found = _adjusted(found, number)
    return tuple(_judged(change, rule) for change in found)


def blind(found: Iterable[Change], rule: Rule) -> list[Change]:
    """Tested cases whose interval is wider than the margin: a loss of that size may pass unseen."""
    return [one for one in found if (effect := _of(one, rule)) and effect.half_width > (rule.margin or math.inf)]


def _change(earlier: Comparison, later: Comparison, sessions: Lookup, rule: Rule, drift: Component | None) -> Change:
    before, after = ([list(sessions(row.kind, job_id)) for job_id in row.job_ids] for row in (earlier, later))
    note = _untestable(earlier, later, before, after)
    effects: dict[str, Effect | None] = dict.fromkeys(map(str, _READ))
    if note is None:
        # once for each side: several jobs of one hour share it, so they do not average it
        twice = [] if drift is None else [Component(variance=2 * drift.variance, df=drift.df)]
        effects = {number: _effect(number, before, after, rule, twice) for number in _READ}
    return Change(
        earlier=earlier,
        later=later,
        earlier_sessions=sum(map(len, before)),
        sessions=sum(map(len, after)),
        **effects,
        verdict="not tested",
        regression=False,
        note=note,
    )


Jobs = Sequence[Sequence[Session]]


def _untestable(earlier: Comparison, later: Comparison, before: Jobs, after: Jobs) -> str | None:
    for when, row, jobs in (("then", earlier, before), ("now", later, after)):
        if row.gain is None:
            return f"no time and no gain {when}: {'; '.join(row.notes) or 'the reason was not stored'}"
        most = max(map(len, jobs), default=0)
        if most == 0:
            return f"no sessions {when}: a search has none that compare, and a result without raw samples neither"
        if most < LEAST:
            return f"too few sessions {when}: {metrics.counted(most, 'session')} in a job, {LEAST} needed"
    return None


def _effect(number: Number, before: Jobs, after: Jobs, rule: Rule, drift: Sequence[Component]) -> Effect:
    shared = drift if number in _DRIFTS else ()
    found = estimates.difference(_estimate(number, before), _estimate(number, after), *shared)
    low, high = found.interval(statistics.LEVEL)
    return Effect(
        ratio=math.exp(found.value),
        low=math.exp(low),
        high=math.exp(high),
        p=found.p,
        p_worse=None if rule.margin is None else _p_worse(number, found, math.log1p(rule.margin)),
    )


def _p_worse(number: Number, found: Difference, margin: float) -> float:
    return found.p_above(margin) if _WORSE[number] > 0 else found.p_below(-margin)


def _estimate(number: Number, jobs: Jobs) -> Estimate:
    read = _READ[number]
    return estimates.combined([estimates.of([read(one) for one in job]) for job in jobs if len(job) >= LEAST])


def _adjusted(found: Sequence[Change], number: Number) -> list[Change]:
    tested: list[tuple[int, Effect]] = [
        (place, effect) for place, one in enumerate(found) if (effect := getattr(one, number)) is not None
    ]
    plain = multiple_testing.benjamini_hochberg([effect.p for _, effect in tested])
    worse = multiple_testing.benjamini_hochberg([effect.p_worse or 0.0 for _, effect in tested])
    changed = list(found)
    for (place, effect), p, p_worse in zip(tested, plain, worse, strict=True):
        told = None if effect.p_worse is None else p_worse
        adjusted: dict[str, Any] = {number: replace(effect, p_adjusted=p, p_worse_adjusted=told)}
        changed[place] = replace(changed[place], **adjusted)
    return changed


def _judged(change: Change, rule: Rule) -> Change:
    effect = _of(change, rule)
    if effect is None:
        return change
    shown = None if effect.p_worse_adjusted is None else effect.p_worse_adjusted <= rule.fdr
    return replace(change, verdict=verdict(effect, rule.judge, rule.fdr), regression=bool(shown))


def verdict(effect: Effect, number: Number, fdr: float) -> Verdict:
    """Whether a number got worse or better, at a false-discovery rate."""
    if effect.p_adjusted > fdr:
        return "no change shown"
    return "worse" if (effect.ratio > 1) == (_WORSE[number] > 0) else "better"


def _of(change: Change, rule: Rule) -> Effect | None:
    return change.time if rule.judge == "time" else change.gain
