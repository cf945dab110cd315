"""Changes since an earlier measurement as tables, with what is not compared and which hypotheses were tested."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from rich.console import Group, RenderableType
from rich.text import Text

from scheduler import compare, labels, regressions
from scheduler.accuracy_changes import AccuracyChange
from scheduler.changes import Found
from scheduler.cli import tables
from scheduler.cli.tables import Column
from scheduler.regressions import Change, Effect
from storage import metrics

REGRESSION = "✗"
"""How a regression is shown."""

WORSE = {"time": "slower", "gain": "slower beside its baseline"}
"""What a regression of each number is called."""


def render(found: Found, width: int) -> RenderableType:
    """Everything that `compare --against` prints."""
    parts: list[RenderableType] = [Text(tables.clean(found.title), style="bold")]
    for (hardware, _), group in itertools.groupby(found.changes, key=_place):
        parts += [Text(), *_machine(found, hardware, list(group), width)]
    if found.accuracies:
        parts += [Text("\naccuracy, answers compared row by row", style="italic")]
        parts += tables.folded(_STRATEGY_AND_MODEL, _ACCURACY, [("", found.accuracies)], width)
    for heading, lines in _lists(found):
        parts += tables.listed(heading, lines)
    return Group(*parts, Text(), *_legend(found), *_conclusion(found))


def _place(change: Change) -> tuple[str, str]:
    return change.later.hardware_key, change.later.model


def _machine(found: Found, hardware: str, changes: Sequence[Change], width: int) -> Iterator[RenderableType]:
    row = changes[0].later
    yield Text(tables.clean(f"{row.model} on {labels.short_cpu(row.cpu)}"), style="bold", overflow="fold")
    step = next(step for step in found.split.steps if step.hardware_key == hardware)
    same = f"hardware {hardware[:8]}, software {step.later[:8]} then and now"
    yield Text(
        same
        if step.earlier == step.later
        else f"hardware {hardware[:8]}, software {step.earlier[:8]} → {step.later[:8]}"
    )
    if step.changed:
        yield Text(tables.clean("; ".join(step.changed)), overflow="fold")
    columns = _columns(found.asked.rule)
    sections = [
        (heading, list(part)) for heading, part in itertools.groupby(changes, key=lambda c: compare.shape(c.later))
    ]
    yield from tables.folded(_STRATEGY, columns, sections, width)


def _columns(rule: regressions.Rule) -> list[Column[Change]]:
    """What is judged carries the mark of regressions."""
    return [
        Column(title="p50 then → now", cell=_latency),
        Column(title="rows/s then → now", cell=_rate),
        Column(title="time [95 %]", cell=lambda one: _judged(one, "time", rule), left=True, always=True),
        Column(title="baseline's time [95 %]", cell=lambda one: _shift(one.baseline_time), left=True),
        Column(title="gain then → now", cell=_gains),
        Column(title="gain's change [95 %]", cell=lambda one: _judged(one, "gain", rule), left=True),
        Column(title="sessions then, now", cell=lambda one: f"{one.earlier_sessions}, {one.sessions}"),
    ]


def _latency(one: Change) -> str:
    before, after = one.earlier.latency_p50_s, one.later.latency_p50_s
    return tables.NOTHING if before is None or after is None else arrow(metrics.seconds(before), metrics.seconds(after))


def _rate(one: Change) -> str:
    if one.later.kind not in {"throughput", "server"}:
        return tables.NOTHING
    before, after = one.earlier.throughput_per_s, one.later.throughput_per_s
    return tables.NOTHING if before is None or after is None else arrow(tables.rate(before), tables.rate(after))


def arrow(before: str, after: str) -> str:
    """`4.00 → 4.41 ms` where both have the unit, `900 µs → 1.10 ms` otherwise."""
    (number, _, unit), (_, _, other) = before.partition(" "), after.partition(" ")
    return f"{number if unit == other else before} → {after}"


def _gains(one: Change) -> str:
    before, after = one.earlier.gain, one.later.gain
    return tables.NOTHING if before is None or after is None else f"{metrics.ratio(before)} → {metrics.ratio(after)}"


def _judged(one: Change, number: Literal["time", "gain"], rule: regressions.Rule) -> str:
    effect = one.time if number == "time" else one.gain
    shown = "*" if effect is not None and effect.p_adjusted <= rule.fdr else ""
    return _shift(effect, shown + (REGRESSION if one.regression and rule.judge == number else ""))


def _shift(effect: Effect | None, marks: str = "") -> str:
    """`+10.2 %*✗ [+8.1, +12.3]`."""
    if effect is None:
        return tables.NOTHING
    value, low, high = (f"{100 * (ratio - 1):+.1f}" for ratio in (effect.ratio, effect.low, effect.high))
    return f"{value} %{marks} [{low}, {high}]"


def _accuracies(one: AccuracyChange) -> str:
    return arrow(metrics.percent(one.earlier_accuracy), metrics.percent(one.accuracy))


def _points(one: AccuracyChange) -> str:
    if one.difference is None or one.low is None or one.high is None:
        return tables.NOTHING
    value, low, high = (f"{100 * share:+.1f}" for share in (one.difference, one.low, one.high))
    return f"{value}{REGRESSION if one.regression else ''} [{low}, {high}]"


_STRATEGY: tuple[Column[Change], ...] = (
    Column(title="strategy", cell=lambda one: tables.strategy_lines(one.later.strategy), left=True),
)
_STRATEGY_AND_MODEL: tuple[Column[AccuracyChange], ...] = (
    Column(title="strategy", cell=lambda one: tables.strategy_lines(one.strategy), left=True),
    Column(title="model on", cell=lambda one: f"{one.model}\n{labels.short_cpu(one.cpu)}", left=True),
)
_ACCURACY: tuple[Column[AccuracyChange], ...] = (
    Column(title="then → now", cell=_accuracies),
    Column(title="points [95 %]", cell=_points, left=True),
    Column(title="same answers", cell=lambda one: metrics.percent(one.agreement)),
    Column(title="verdict", cell=lambda one: one.verdict, left=True),
)


def _lists(found: Found) -> Iterator[tuple[str, list[str]]]:
    yield "what ran otherwise", list(found.otherwise)
    yield "not tested", _counted((found.name(one.later), one.note) for one in found.changes if one.note)
    yield (
        "accuracies not compared",
        [f"{one.model}, {one.strategy}: {one.note}" for one in found.accuracies if one.note],
    )
    yield "cases not compared", _counted((found.name(one.row), one.text) for one in found.apart)
    yield "notes", list(found.split.notes)


def _counted(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """`case (and 5 more): reason`, once for each reason: whole studies may differ."""
    found: dict[str, list[str]] = {}
    for name, text in reasons:
        found.setdefault(text, []).append(name)
    return [f"{names[0]}{_more(len(names) - 1)}: {text}" for text, names in found.items()]


def _more(count: int) -> str:
    return f" and {metrics.counted(count, 'more case')}" if count else ""


def _legend(found: Found) -> Iterator[Text]:
    rule = found.asked.rule
    rate = f"{100 * rule.fdr:g} %"
    if found.changes:
        yield _dim("time: now ÷ then, of a call in means of sessions (pairs of fresh processes); above 0 is slower")
        yield _dim("gain: over the baseline of the same session, so that what the machine did in that hour cancels")
        yield _dim(
            f'* a change: Welch\'s t on the log scale, of "none"; {rate} of all * may be false (Benjamini-Hochberg)'
        )
        yield from (_dim(line) for line in (*_drift(found), *_moved(found)))
    if found.accuracies:
        yield _dim(f'accuracy: exact McNemar test of "none", {rate} of the verdicts may be false (Benjamini-Hochberg)')


def _drift(found: Found) -> Iterator[str]:
    """How far each machine moves from job to job, which times are tested against."""
    cpus = {one.later.hardware_key: labels.short_cpu(one.later.cpu) for one in found.changes}
    for hardware, cpu in cpus.items():
        deviation = found.drifts.get(hardware)
        if deviation is None:
            yield f"{cpu}: no baseline was measured twice, so drift from job to job is unknown, and does not count"
        else:
            yield f"{cpu}: times drift by {metrics.percent(deviation)} from job to job (its baselines), which counts"


def _moved(found: Found) -> Iterator[str]:
    """What became of the baselines, which tells a machine that changed from a strategy that did."""
    for step in found.split.steps:
        own = [one for one in found.changes if one.later.hardware_key == step.hardware_key]
        ratios = [one.baseline_time.ratio for one in own if one.baseline_time]
        if ratios:
            whose = "the software is the same, so it is the machine"
            if step.earlier != step.later:
                whose = "by the machine, or by software that is theirs too"
            cpu, percent = labels.short_cpu(own[0].later.cpu), 100 * (statistics.median(ratios) - 1)
            cases = metrics.counted(len(ratios), "case")
            yield f"{cpu}: baselines take {percent:+.1f} % now (median of {cases}): {whose}"


def _conclusion(found: Found) -> Iterator[Text]:
    if found.asked.rule.margin is not None:
        yield from _regressions(found, found.asked.rule.margin)
    if found.asked.accuracy_limit is not None:
        limit = f"{100 * found.asked.accuracy_limit:g} points"
        lost = [f"{one.model}, {one.strategy} by {-100 * (one.difference or 0):.1f} points" for one in found.lost]
        yield _said(lost, f"accuracy lost, more than {limit}", f"no accuracy is shown to have lost more than {limit}")
    if found.asked.gates and found.broken:
        yield _said([found.name(one.row) for one in found.broken], "a number then, and a failure now", "")


def _regressions(found: Found, margin: float) -> Iterator[Text]:
    rule = found.asked.rule
    what, limit = WORSE[rule.judge], f"{100 * margin:g} %"
    tested = metrics.counted(found.tested, "case")
    yield _dim(f'{REGRESSION} a regression: of "{what} by {limit} at most" (one-sided, adjusted likewise) is rejected')
    names = [found.name(one.later) for one in found.worse]
    yield _said(
        names,
        f"of {tested}, {what} by more than {limit}",
        f"\nno case of {tested} is shown to be {what} by more than {limit}",
    )
    unseen = len(regressions.blind(found.changes, rule))
    if unseen:
        yield Text(
            f"{unseen} of them have intervals wider than ±{limit}: such a loss may pass unseen there. More pairs "
            "(precision and max_seconds in the study) or replicas (--fresh) narrow them.",
            overflow="fold",
        )


def _said(names: Sequence[str], what: str, otherwise: str) -> Text:
    if not names:
        return Text(otherwise, overflow="fold")
    return Text(
        tables.clean(f"\n{REGRESSION} {len(names)} {what}:\n  " + "\n  ".join(names)), style="bold", overflow="fold"
    )


def _dim(text: str) -> Text:
    return Text(tables.clean(text), style="dim", overflow="fold")
