"""Stored results → one row for each case on each platform, with its gain and paired accuracy (pure).

Results are compared only where they may be: latencies of one case on one hardware and environment, with the same
model and input digests; accuracies on the same rows besides. Where digests differ, the row says so instead.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from scheduler import pages, paired, percentiles
from storage import foreign, metrics, records, statistics, wide
from storage.views import Predictions, ResultView

MARKS = {
    "A/A": "the baseline against itself: its gain should be ×1, its interval shows this machine's noise",
    "disturbed": "other load, stolen time or throttling while it was measured",
    "threads": "threads that ran are not the threads that were asked for",
    "overloaded": "requests came faster than they were answered: no latency; the notes say how the backlog grew",
    "no rate": "no highest rate that keeps the bound was found; the notes say why",
    "withheld": "too few samples for this percentile",
    "wide": "the interval is wider than the study's precision asked for",
    "replicas": "gain combined from several jobs of the same case; latencies are the median of theirs",
    "left out": "disturbed results of this case are not counted; --include-disturbed counts them",
    "operation": "not the same operation as its baseline: no gain of precision; the notes give the one like for like",
    "digest": "the same name stands for different content; rows are not compared with one another",
    foreign.FLAG: "imported from another tool; its gain is unpaired, and nothing of ours is compared with it",
}
"""Every mark that a row can carry, and what it means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One case on one hardware and environment. None: not measured, withheld, or not comparable."""

    hardware_key: str
    environment_key: str
    cpu: str
    hosts: tuple[str, ...]  # that measured it
    model: str
    model_digest: str | None
    strategy: str
    baseline: str
    threads: int | None  # asked for; None in a row that has an accuracy only
    input: str | None  # label of what a call gets, e.g. b1×l16, or b1×l16, 2 instances
    batch: int | None
    length: int | str | None  # tokens, or "dataset"
    job_ids: tuple[str, ...]  # whose results the row shows, newest first
    state: str  # done, or why there is no number: unsupported, failed, dead, cancelled, left out
    reason: str | None = None  # sentence for a state other than done
    gain: float | None = None  # baseline time ÷ strategy time
    gain_low: float | None = None  # 95 % interval
    gain_high: float | None = None
    significant: bool | None = None  # the interval excludes 1; None without an interval
    pairs: int | None = None  # pairs of fresh processes, over all jobs
    latency_p50_s: float | None = None
    latency_p90_s: float | None = None
    latency_p95_s: float | None = None
    baseline_latency_p50_s: float | None = None
    baseline_latency_p90_s: float | None = None
    baseline_latency_p95_s: float | None = None
    withheld: tuple[str, ...] = ()  # percentiles that the sample does not support, with the reason
    throughput_per_s: float | None = None  # rows per second of one caller; throughput, server: of all instances
    baseline_throughput_per_s: float | None = None
    artifact_bytes: int | None = None
    baseline_artifact_bytes: int | None = None
    size_ratio: float | None = None  # strategy's size ÷ baseline's
    resident_peak_bytes: int | None = None
    baseline_resident_peak_bytes: int | None = None
    threads_observed: int | None = None
    accuracy: paired.Accuracy | None = None
    marks: tuple[str, ...] = ()  # keys of MARKS
    notes: tuple[str, ...] = ()  # sentences
    input_digest: str | None = None  # of the token ids
    made_digest: str | None = None  # of the model that the strategy's transforms made
    kind: str = "latency"  # of the jobs: latency, throughput, server or tensor; accuracy in a row that has nothing else
    instances: int | None = None  # throughput and server: processes side by side
    efficiency: float | None = None  # throughput: rate ÷ (instances × rate of one alone on the machine)
    efficiency_low: float | None = None  # 95 % interval
    efficiency_high: float | None = None
    cost_per_million: float | None = None  # throughput: of a million rows, where the hosts have a price
    baseline_cost_per_million: float | None = None
    joules_per_row: float | None = None  # of the whole machine; None where it does not tell
    baseline_joules_per_row: float | None = None
    same_operation: bool | None = None  # tensor: whether baseline and strategy compute the same
    like_for_like: float | None = None  # tensor, unlike operations: the strategy's gain over its own operation in fp32
    floor_s: float | None = None  # least seconds of a call on this hardware, see scheduler.limits
    limit_share: float | None = None  # floor ÷ p50
    bound: str | None = None  # what makes the floor: compute or memory
    baseline_limit_share: float | None = None
    latency_p50_low_s: float | None = None  # 95 % intervals of the strategy's percentiles, see scheduler.percentiles
    latency_p50_high_s: float | None = None
    latency_p90_low_s: float | None = None
    latency_p90_high_s: float | None = None
    latency_p95_low_s: float | None = None
    latency_p95_high_s: float | None = None


_made = wide.maker(Comparison)

T = TypeVar("T")


class Case(NamedTuple):
    """What a row is of, wherever it was measured; only an accuracy that stands alone has no input."""

    model: str
    kind: str
    input: str | None
    threads: int | None
    batch: int | None
    length: int | str | None
    baseline: str
    strategy: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Paging:
    """A page of rows: whole cases, on all of their platforms."""

    page: pages.Page
    group: Callable[[Case], Hashable] = lambda case: case  # what stays together besides


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The rows of a page, or all of them."""

    rows: list[Comparison]
    pages: int = 1
    left: int = 0  # cases on other pages, each counted once for each platform


Lookup = Callable[[str], Predictions | None]

LABEL_WIDTH = 28
"""Longest name of a layer that a heading shows whole."""

SHOWN = (50, 90, 95)
"""Percentiles of a comparison; others that were measured stay in the results."""

_MEDIANS = (
    *(sys.intern(f"{side}latency_p{q}_s") for side in ("", "baseline_") for q in SHOWN),
    "throughput_per_s",
    "baseline_throughput_per_s",
    "joules_per_row",
    "baseline_joules_per_row",
)


def compare(results: Iterable[ResultView], predictions: Lookup, *, include_disturbed: bool = False) -> list[Comparison]:
    """Rows in the order hardware, environment, model, input, threads, baseline first, strategy.

    `predictions` gives a finished accuracy job's row-by-row answers, None where they are not kept. Disturbed results
    are left out unless asked for; a case that has no others keeps a row that says so.
    """
    return part(results, predictions, include_disturbed=include_disturbed).rows


def part(
    results: Iterable[ResultView],
    predictions: Lookup,
    *,
    include_disturbed: bool = False,
    paging: Paging | None = None,
    intervals: Sequence[int] = SHOWN,
) -> Part:
    """The same, or one page of it: nothing is combined or compared for the others. QueryError for a page too far.

    `intervals`: the percentiles among `SHOWN` whose intervals are needed; those of a fleet's cases take a while.
    """
    views = list(results)
    accuracies = paired.Accuracies([view for view in views if view.kind == "accuracy"], predictions)
    cases = _groups([view for view in views if view.kind in records.PAIRED], _case)
    covered = {_where(case[0]) for case in cases}
    alone = _groups(
        [view for view in views if view.kind == "accuracy" and _where(view) not in covered],
        lambda view: (_where(view), view.model_digest),
    )
    shown = _cut([*cases, *alone], lambda group: case_of(group[0]), paging)
    on_page = {case_of(group[0]) for group in shown.kept}
    # an operation's gain like for like may stand on another page
    needed = [case for case in cases if case[0].kind == "tensor" or case_of(case[0]) in on_page]
    look = _Look(accuracies=accuracies, include_disturbed=include_disturbed, intervals=intervals)
    rows = _with_like_for_like([row for case in needed for row in _case_rows(case, look)])
    rows = [row for row in rows if row.kind != "tensor" or case_of(row) in on_page]
    rows += [_accuracy_row(group, look) for group in alone if case_of(group[0]) in on_page]
    return Part(rows=sorted(rows, key=order), pages=shown.pages, left=shown.left)


def page_of(rows: Sequence[Comparison], paging: Paging) -> Part:
    """A page of rows that are there already, in the order in which they came. QueryError for a page too far."""
    shown = _cut(rows, case_of, paging)
    kept = {id(row) for row in shown.kept}
    return Part(rows=[row for row in rows if id(row) in kept], pages=shown.pages, left=shown.left)


def case_of(one: Comparison | ResultView) -> Case:
    """The case of a result or a row."""
    if one.kind == "accuracy":
        return Case(one.model, one.kind, None, None, None, None, one.baseline, one.strategy)
    return Case(one.model, one.kind, one.input, one.threads, one.batch, one.length, one.baseline, one.strategy)


def _cut(items: Sequence[T], case: Callable[[T], Case], paging: Paging | None) -> pages.Cut[T]:
    if paging is None:
        return pages.Cut(kept=list(items), pages=1, left=0)
    ordered = sorted(items, key=lambda item: case_order(case(item)))
    return pages.cut(ordered, lambda item: paging.group(case(item)), paging.page)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """What rows are made with."""

    accuracies: paired.Accuracies
    include_disturbed: bool
    intervals: Sequence[int]


def of_ours(rows: Iterable[Comparison]) -> list[Comparison]:
    """Rows of results that our own workers measured: what is concluded from, other tools' numbers are only shown."""
    return [row for row in rows if foreign.FLAG not in row.marks]


def disturbed_left_out(results: Iterable[ResultView]) -> int:
    """How many results `compare` leaves out unless it is told to include the disturbed ones."""
    return sum(_is_disturbed(view) for view in results)


def _case(view: ResultView) -> tuple[Any, ...]:
    # what another tool measured is never combined with anything: each result is a case of its own
    alone = view.job_id if foreign.FLAG in view.flags else None
    return (*_where(view), view.kind, view.baseline, view.threads, view.input, alone)


def _where(view: ResultView) -> tuple[str, str, str, str]:
    return (*paired.platform(view), view.model, view.strategy)


def _groups(views: Iterable[ResultView], key: Callable[[ResultView], Any]) -> list[list[ResultView]]:
    """Views by key, the newest first in each group."""
    groups: dict[Any, list[ResultView]] = {}
    for view in sorted(views, key=lambda v: v.finished_at or 0.0, reverse=True):
        groups.setdefault(key(view), []).append(view)
    return list(groups.values())


def _is_disturbed(view: ResultView) -> bool:
    return view.kind in records.PAIRED and view.state == "done" and "disturbed" in view.flags


def _case_rows(views: Sequence[ResultView], look: _Look) -> list[Comparison]:
    """Usually one row; one for each content where a name stands for several models or inputs."""
    done = [view for view in views if view.state == "done"]
    counted = [view for view in done if look.include_disturbed or not _is_disturbed(view)]
    if not counted:
        return [_left_out(done, look) if done else _no_number(views, look)]
    groups = _groups(counted, lambda v: (v.model_digest, v.input_digest))
    extra = [*_left_out_note(len(done) - len(counted)), *_failed_note(views)]
    marks = ["left out"] if len(done) > len(counted) else []
    if len(groups) > 1:
        marks.append("digest")
        extra.append(_digest_note(groups))
    return [_done_row(group, look, marks, extra) for group in groups]


def _done_row(views: Sequence[ResultView], look: _Look, marks: Sequence[str], extra: Sequence[str]) -> Comparison:
    newest = views[0]
    gain = _gain(views)
    withheld = _withheld(newest)
    flags = {flag for view in views for flag in view.flags if flag in MARKS}
    found = {*marks, *flags}
    found |= {"A/A"} if newest.strategy == newest.baseline and foreign.FLAG not in flags else set()
    found |= {"replicas"} if len(views) > 1 else set()
    found |= {"withheld"} if withheld else set()
    found |= {"operation"} if newest.document.get("same_operation") is False else set()
    notes = [*extra, *_replica_note(views), *(note for view in views for note in view.notes)]
    return _row(
        views,
        look,
        state="done",
        gain=None if gain is None else gain.value,
        gain_low=None if gain is None else gain.low,
        gain_high=None if gain is None else gain.high,
        significant=None if gain is None else gain.excludes_1,
        pairs=sum(view.pairs or 0 for view in views),
        withheld=withheld,
        threads_observed=newest.threads_observed,
        marks=tuple(mark for mark in MARKS if mark in found),
        notes=tuple(dict.fromkeys(notes)),
        same_operation=newest.document.get("same_operation"),
        **_efficiency(newest),
        **_medians(views),
        **percentiles.ends(views, look.intervals),
    )


def _row(views: Sequence[ResultView], look: _Look, **more: Any) -> Comparison:
    """What every row has: its case, its accuracy, and sizes where they were measured; `more`: what this one has
    besides."""
    newest = views[0]
    hardware_key, environment_key = paired.platform(newest)
    where = (hardware_key, environment_key, newest.model)
    common: dict[str, Any] = {
        "hardware_key": hardware_key,
        "environment_key": environment_key,
        "cpu": newest.cpu or "an unknown machine",
        "hosts": tuple(dict.fromkeys(view.host for view in views if view.host)),
        "model": newest.model,
        "model_digest": newest.model_digest,
        "input_digest": newest.input_digest,
        "made_digest": newest.made_digest,
        "strategy": newest.strategy,
        "baseline": newest.baseline,
        "threads": newest.threads,
        "input": newest.input,
        "batch": newest.batch,
        "length": newest.length,
        "job_ids": tuple(view.job_id for view in views),
        "state": newest.state,
        "accuracy": look.accuracies.find(where, newest.model_digest, newest.strategy, newest.baseline),
        "kind": newest.kind,
        "instances": newest.instances,
        "artifact_bytes": newest.artifact_bytes,
        "baseline_artifact_bytes": newest.baseline_artifact_bytes,
        "size_ratio": _size_ratio(newest),
        "resident_peak_bytes": _most(views, "resident_peak_bytes"),
        "baseline_resident_peak_bytes": _most(views, "baseline_resident_peak_bytes"),
    }
    return _made(**{**common, **more})


def _left_out(views: Sequence[ResultView], look: _Look) -> Comparison:
    """A case whose every result was disturbed: no number, and the way to see one."""
    reason = f"{len(views)} disturbed result{'s' * (len(views) > 1)} only; --include-disturbed shows it"
    bare = replace(_row(views, look), artifact_bytes=None, baseline_artifact_bytes=None, size_ratio=None)
    bare = replace(bare, resident_peak_bytes=None, baseline_resident_peak_bytes=None)
    return replace(bare, state="left out", reason=reason, marks=("disturbed", "left out"))


def _no_number(views: Sequence[ResultView], look: _Look) -> Comparison:
    return replace(_row(views, look), reason=views[0].message or "no reason was stored")


def _accuracy_row(views: Sequence[ResultView], look: _Look) -> Comparison:
    """A strategy that has an accuracy (or the reason why not) and no latency on this platform."""
    done = [view for view in views if view.state == "done"]
    row = _row(done or views, look)
    row = replace(row, kind="accuracy", threads=None, input=None, batch=None, length=None)
    return row if done else replace(row, reason=views[0].message or "no reason was stored")


changed = wide.changer(Comparison)
"""As `dataclasses.replace`, in a tenth of its time: a study of a fleet has thousands of rows."""


def _efficiency(view: ResultView) -> dict[str, Any]:
    found = (view.document.get("strategy_load") or {}).get("efficiency") or {}
    names = {"efficiency": "value", "efficiency_low": "low", "efficiency_high": "high"}
    return {name: found.get(key) for name, key in names.items()}


def _with_like_for_like(rows: Sequence[Comparison]) -> list[Comparison]:
    """Beside each gain between unlike operations, the gain of the same strategy over its own operation in fp32."""
    alike = {_place(row): row for row in rows if row.same_operation}
    return [_told_apart(row, alike.get(_place(row))) if row.same_operation is False else row for row in rows]


def _place(row: Comparison) -> tuple[Any, ...]:
    return (row.hardware_key, row.environment_key, row.model, row.model_digest, row.strategy, row.threads, row.input)


def _told_apart(row: Comparison, alike: Comparison | None) -> Comparison:
    other = None if alike is None else alike.gain
    told = "it was not measured like for like" if other is None else f"like for like: {metrics.ratio(other)}"
    note = f"{metrics.ratio(row.gain)} over {row.baseline}, but not the same operation; {told}"
    return replace(row, like_for_like=other, notes=(note, *row.notes))


def _gain(views: Sequence[ResultView]) -> records.Interval | None:
    return statistics.combined_gain([_estimate(view) for view in views if view.gain]) if views[0].gain else None


def _estimate(view: ResultView) -> statistics.GainEstimate:
    return statistics.GainEstimate(
        interval=records.Interval(value=view.gain or 0.0, low=view.gain_low, high=view.gain_high),
        pairs=view.pairs or 1,
        rounds=view.rounds or 1,
        variance_between=view.variance_between or 0.0,
        variance_within=view.variance_within or 0.0,
    )


def _size_ratio(view: ResultView) -> float | None:
    """Strategy's size ÷ baseline's; an accuracy job knows the baseline's size only when it is the baseline."""
    size = view.artifact_bytes
    other = size if view.strategy == view.baseline else view.baseline_artifact_bytes
    return size / other if size and other else None


def _withheld(view: ResultView) -> tuple[str, ...]:
    """`p95: 41 samples, 130 needed` for each shown percentile that either side withholds."""
    reasons: dict[str, str] = {}
    for side in ("strategy", "baseline"):
        for one in (view.document.get(side) or {}).get("percentiles", ()):
            if one.get("withheld") and round(100 * one["q"]) in SHOWN and one["withheld"] not in MARKS:
                reasons.setdefault(f"p{100 * one['q']:g}", str(one["withheld"]))
    return tuple(f"{name}: {reason}" for name, reason in reasons.items())


_TAKEN = operator.attrgetter(*_MEDIANS)


def _medians(views: Sequence[ResultView]) -> dict[str, Any]:
    return dict(zip(_MEDIANS, map(_median, zip(*map(_TAKEN, views), strict=True)), strict=True))


def _median(values: Iterable[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    middle = len(known) // 2
    if not known:
        return None
    return float(known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2)


def _most(views: Sequence[ResultView], name: str) -> int | None:
    return max((value for view in views if (value := getattr(view, name)) is not None), default=None)


def _left_out_note(count: int) -> list[str]:
    return [f"{count} disturbed result{'s' * (count > 1)} of this case left out"] if count else []


def _failed_note(views: Sequence[ResultView]) -> list[str]:
    failed = [view for view in views if view.state != "done"]
    return [f"{len(failed)} of {len(views)} jobs of this case gave no number: {failed[0].message}"] if failed else []


def _replica_note(views: Sequence[ResultView]) -> list[str]:
    gains = [view.gain for view in views if view.gain]
    if len(gains) < 2:
        return []
    return [f"gain combined from {len(gains)} jobs, ×{min(gains):.2f} to ×{max(gains):.2f}"]


def _digest_note(groups: Sequence[Sequence[ResultView]]) -> str:
    models = {group[0].model_digest or "unknown" for group in groups}
    inputs = {group[0].input_digest or "unknown" for group in groups}
    what, digests = ("model", models) if len(models) > 1 else ("input", inputs)
    return f"the {what} differs between results of this case ({', '.join(sorted(digests))}): not combined"


def shape(row: Any) -> str:
    """Input and threads of anything that has both: `b1×l16, 2 threads`; "accuracy" for what has neither."""
    return "accuracy" if row.input is None else f"{short(row.input)}, {threads(row.threads)}"


def threads(count: int | None) -> str:
    """`1 thread`, `2 threads`; None: another tool measured, and did not tell."""
    return "threads unknown" if count is None else metrics.counted(count, "thread")


def short(label: str) -> str:
    """A layer's name by its end, which tells layers of a model apart: tables are narrow."""
    name, comma, rows = label.partition(",")
    if len(name) <= LABEL_WIDTH or "." not in name:
        return label
    parts = name.split(".")
    while len(".".join(parts)) >= LABEL_WIDTH and len(parts) > 1:
        parts.pop(0)
    return f"…{'.'.join(parts)}{comma}{rows}"


def case_order(row: Comparison | Case) -> tuple[Any, ...]:
    """Sorts rows by model, input, threads, baseline first, strategy, wherever they were measured."""
    return (row.model, *_shape_order(row))


def order(row: Comparison) -> tuple[Any, ...]:
    """Sorts rows as `compare` does."""
    where = (row.cpu, row.hardware_key, row.environment_key)
    return (*where, row.model, row.model_digest or "", *_shape_order(row))


def _shape_order(row: Comparison | Case) -> tuple[Any, ...]:
    length = row.length if isinstance(row.length, int) else math.inf  # real rows come after the fixed lengths
    # rows with an accuracy only come after the measured ones
    shape: tuple[Any, ...] = (row.threads is None, row.batch or 0, length, row.input or "", row.threads or 0)
    if row.kind == "tensor":  # like operations together
        shape = (*shape, row.baseline)
    return (*shape, row.strategy != row.baseline, row.strategy)
