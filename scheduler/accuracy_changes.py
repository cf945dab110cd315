"""How accuracies changed between an earlier measurement and a later one, row by row on the same rows (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from storage import multiple_testing, statistics
from storage.views import Predictions, ResultView

Lookup = Callable[[str], Predictions | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyChange:
    """One strategy on one model and dataset, then and now. The paired fields are None where nothing may be compared."""

    hardware_key: str
    cpu: str
    model: str
    model_digest: str | None
    strategy: str
    job_id: str
    earlier_job_id: str
    accuracy: float | None  # share of rows that are right
    earlier_accuracy: float | None
    rows: int | None = None
    difference: float | None = None  # now − then, as a share
    low: float | None = None  # 95 % interval (Bonett & Price)
    high: float | None = None
    p: float | None = None  # exact McNemar test, two-sided
    p_adjusted: float | None = None  # Benjamini & Hochberg, over all accuracies
    agreement: float | None = None  # share of rows with the same prediction
    verdict: str = "not compared"  # loses, gains, no change shown
    regression: bool = False
    note: str | None = None  # why it is not compared


def changes(
    earlier: Iterable[ResultView], later: Iterable[ResultView], predictions: Lookup, *, fdr: float, limit: float | None
) -> tuple[AccuracyChange, ...]:
    """The newest accuracy of each strategy, model and hardware that both sides have, against the newest earlier one.

    Losses are shown by McNemar's exact test at a false-discovery rate; `limit`: those greater than this share (0.005:
    half a point) are regressions, None: none is.
    """
    before, after = _newest(earlier), _newest(later)
    both = [(before[key], view) for key, view in after.items() if key in before]
    found = [_change(_like(view, old), view, predictions) for old, view in both]
    tested = [place for place, one in enumerate(found) if one.p is not None]
    adjusted = multiple_testing.benjamini_hochberg([found[place].p or 0.0 for place in tested])
    for place, p in zip(tested, adjusted, strict=True):
        found[place] = _judged(replace(found[place], p_adjusted=p), fdr, limit)
    return tuple(found)


Key = tuple[str | None, str, str]


def _newest(views: Iterable[ResultView]) -> dict[Key, list[ResultView]]:
    """Finished accuracies by hardware, model's name and strategy, the newest first."""
    found: dict[Key, list[ResultView]] = {}
    for view in sorted(views, key=lambda one: one.finished_at or 0.0, reverse=True):
        if view.kind == "accuracy" and view.state == "done":
            found.setdefault((view.hardware_key, view.model, view.strategy), []).append(view)
    return found


def _like(after: Sequence[ResultView], before: Sequence[ResultView]) -> ResultView:
    """The newest earlier result on the content of the newest later one, or else the newest."""
    return next((view for view in before if not _differs(view, after[0])), before[0])


def _change(before: ResultView, views: Sequence[ResultView], predictions: Lookup) -> AccuracyChange:
    after = views[0]
    found = AccuracyChange(
        hardware_key=after.hardware_key or "unknown",
        cpu=after.cpu or "an unknown machine",
        model=after.model,
        model_digest=after.model_digest,
        strategy=after.strategy,
        job_id=after.job_id,
        earlier_job_id=before.job_id,
        accuracy=after.accuracy,
        earlier_accuracy=before.accuracy,
    )
    differs = _differs(before, after)
    if differs:
        return replace(found, note=f"{', '.join(differs)}: not compared")
    old, new = predictions(before.job_id), predictions(after.job_id)
    if old is None or new is None:
        return replace(found, note="the predictions row by row are not in the database: not compared")
    if list(old.labels) != list(new.labels):
        return replace(found, note="the labels differ: not compared")
    told = statistics.paired_accuracy(list(old.predictions), list(new.predictions), list(new.labels))
    return replace(
        found,
        rows=told.rows,
        difference=told.difference,
        low=told.low,
        high=told.high,
        p=told.p,
        agreement=told.agreement,
    )


def _differs(before: ResultView, after: ResultView) -> list[str]:
    parts = (
        ("the model", before.model_digest, after.model_digest),
        ("the model that the transforms made", before.made_digest, after.made_digest),
        ("the dataset", before.dataset_digest, after.dataset_digest),
    )
    return [
        f"{what} differs ({one or 'unknown'} then, {other or 'unknown'} now)"
        for what, one, other in parts
        if one != other or (one is None and what == "the dataset")
    ]


def _judged(change: AccuracyChange, fdr: float, limit: float | None) -> AccuracyChange:
    if change.p_adjusted is None or change.difference is None or change.p_adjusted > fdr:
        return replace(change, verdict="no change shown")
    lost = change.difference < 0
    worse = limit is not None and change.difference < -limit
    return replace(change, verdict="loses" if lost else "gains", regression=worse)
