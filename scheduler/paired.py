"""The accuracy that belongs to a row, compared row by row with the baseline's where that is allowed (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from storage import statistics
from storage.views import Predictions, ResultView

Where = tuple[str, str, str]
"""Hardware key, environment key, model's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Accuracy of one strategy on one platform. The paired fields are None where nothing may be compared."""

    accuracy: float | None  # share of rows that are right; None when the job gave no number
    low: float | None = None  # 95 % interval (Wilson)
    high: float | None = None
    rows: int | None = None
    dataset_digest: str | None = None
    baseline_accuracy: float | None = None
    difference: float | None = None  # accuracy − baseline's, as a share
    difference_low: float | None = None  # 95 % interval (Bonett & Price)
    difference_high: float | None = None
    p: float | None = None  # exact McNemar test, two-sided
    agreement: float | None = None  # share of rows with the same prediction
    verdict: str | None = None  # "no loss shown", "loses 1.2 points, p < 0.01", "baseline"
    note: str | None = None  # why there is no number or no comparison, or what else to know
    state: str = "done"  # or the job's end without a number: unsupported, failed, …
    model_digest: str | None = None  # of the model that it was measured on
    made_digest: str | None = None  # of what the strategy's transforms made of it
    host: str | None = None  # that measured it


class Accuracies:
    """Accuracy results, found by platform, model and strategy; paired comparisons are made once."""

    def __init__(self, views: Iterable[ResultView], predictions: Callable[[str], Predictions | None]) -> None:
        self._predictions = predictions
        self._known: dict[tuple[Where, str], list[ResultView]] = {}
        self._found: dict[tuple[Where, str | None, str, str], Accuracy | None] = {}
        for view in sorted(views, key=lambda v: v.finished_at or 0.0, reverse=True):
            where = (*platform(view), view.model)
            self._known.setdefault((where, view.strategy), []).append(view)

    def find(self, where: Where, model_digest: str | None, strategy: str, baseline: str) -> Accuracy | None:
        """The newest accuracy of a strategy, against the baseline's on the same model and rows; None for none."""
        key = (where, model_digest, strategy, baseline)
        if key not in self._found:
            self._found[key] = self._find(*key)
        return self._found[key]

    def _find(self, where: Where, model_digest: str | None, strategy: str, baseline: str) -> Accuracy | None:
        every = self._known.get((where, strategy), [])
        done = [view for view in every if view.state == "done"]
        if not done:
            return _without_number(every[0]) if every else None
        own = [view for view in done if model_digest in (None, view.model_digest)]
        if not own:
            note = f"measured on another model of this name ({done[0].model_digest}), not on {model_digest}"
            return Accuracy(accuracy=None, note=note)
        if strategy == baseline:
            return _alone(own[0], verdict="baseline", note=_several(own))
        return self._against(own, self._known.get((where, baseline), []))

    def _against(self, own: Sequence[ResultView], known: Sequence[ResultView]) -> Accuracy:
        others = [view for view in known if view.state == "done"]
        for view in own:
            for other in others:
                if _comparable(view, other):
                    return self._paired(view, other, _several(own))
        return _alone(own[0], note=_why_not(own[0], others))

    def _paired(self, view: ResultView, other: ResultView, note: str | None) -> Accuracy:
        import numpy as np

        mine, theirs = self._predictions(view.job_id), self._predictions(other.job_id)
        if mine is None or theirs is None:
            return _alone(view, note="not compared: the predictions row by row are not in the database")
        if not np.array_equal(mine.labels, theirs.labels):
            return _alone(view, note="not compared: the labels differ from the baseline's")
        found = statistics.paired_accuracy(theirs.predictions, mine.predictions, mine.labels)
        return replace(
            _alone(view, verdict=found.verdict, note=note),
            rows=found.rows,
            baseline_accuracy=other.accuracy,
            difference=found.difference,
            difference_low=found.low,
            difference_high=found.high,
            p=found.p,
            agreement=found.agreement,
        )


def platform(view: ResultView) -> tuple[str, str]:
    """Hardware and environment key; a job that no host of its platform has registered for has neither."""
    return view.hardware_key or "unknown", view.environment_key or "unknown"


def _without_number(view: ResultView) -> Accuracy:
    return Accuracy(accuracy=None, note=f"{view.state}: {view.message}", state=view.state, host=view.host)


def _alone(view: ResultView, *, verdict: str | None = None, note: str | None = None) -> Accuracy:
    interval = statistics.wilson(view.correct or 0, view.rows) if view.rows else None
    return Accuracy(
        accuracy=view.accuracy,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        rows=view.rows,
        dataset_digest=view.dataset_digest,
        verdict=verdict,
        note=note,
        model_digest=view.model_digest,
        made_digest=view.made_digest,
        host=view.host,
    )


def _comparable(view: ResultView, other: ResultView) -> bool:
    same_rows = view.dataset_digest is not None and view.dataset_digest == other.dataset_digest
    return same_rows and view.model_digest == other.model_digest


def _why_not(view: ResultView, others: Sequence[ResultView]) -> str:
    if not others:
        return "not compared: the baseline has no accuracy on this hardware and software"
    if all(other.model_digest != view.model_digest for other in others):
        return f"not compared: the model differs ({view.model_digest}, baseline's {others[0].model_digest})"
    return f"not compared: the rows differ (dataset {view.dataset_digest}, baseline's {others[0].dataset_digest})"


def _several(views: Sequence[ResultView]) -> str | None:
    digests = {view.dataset_digest for view in views}
    return f"accuracies on {len(digests)} datasets exist, one is shown" if len(digests) > 1 else None
