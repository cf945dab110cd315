from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from scheduler.compare import Comparison, compare
from scheduler.filters import Filter
from storage import errors
from storage.views import Predictions, ResultView
from tests.factories import accuracy_view, answers, failed_view, latency_view

BASELINE = "torch/fp32"


def rows_of(
    views: Iterable[ResultView], kept: Mapping[str, Predictions] | None = None, *, include_disturbed: bool = False
) -> list[Comparison]:
    return compare(views, (kept or {}).get, include_disturbed=include_disturbed)


def only(views: Iterable[ResultView], kept: Mapping[str, Predictions] | None = None) -> Comparison:
    (row,) = rows_of(views, kept)
    return row


def with_accuracies(
    own: ResultView, other: ResultView, lost: int = 12
) -> tuple[list[ResultView], dict[str, Predictions]]:
    """A measured case, its accuracy and its baseline's: the strategy loses so many of 200 rows."""
    right = [True] * 190 + [False] * 10
    worse = [False] * lost + right[lost:]
    return [latency_view(), own, other], {own.job_id: answers(worse), other.job_id: answers(right)}


def test_one_job_gives_its_own_numbers_with_the_baselines() -> None:
    row = only([latency_view()])
    assert (row.gain, row.gain_low, row.gain_high, row.significant) == (2.0, 1.9, 2.105, True)
    assert (row.latency_p90_s, row.baseline_latency_p90_s) == (0.011, 0.022)
    assert row.size_ratio == pytest.approx(58.7 / 91.1)
    assert (row.marks, row.notes) == ((), ())


@pytest.mark.parametrize(
    ("low", "high", "significant"), [(0.97, 1.04, False), (1.01, 1.2, True), (0.5, 0.8, True), (None, None, None)]
)
def test_a_gain_is_significant_when_its_interval_excludes_1(
    low: float | None, high: float | None, significant: bool | None
) -> None:
    assert only([latency_view(gain_low=low, gain_high=high)]).significant is significant


def test_threads_inputs_models_software_and_hardware_have_rows_of_their_own() -> None:
    views = [
        latency_view(),
        latency_view(threads=2),
        latency_view(input="b1×l128", length=128),
        latency_view(model="distilbert"),
        latency_view(environment_key="software00000002"),
        latency_view(hardware_key="hardware00000002"),
    ]
    assert [row.gain for row in rows_of(views)] == [2.0] * 6


def test_replicas_are_combined_and_said() -> None:
    row = only([latency_view(gain=2.0), latency_view(gain=2.02, gain_low=1.92, gain_high=2.12, latency_p50_s=0.012)])
    assert row.gain == pytest.approx((2.0 * 2.02) ** 0.5)
    assert (row.pairs, row.latency_p50_s) == (10, 0.011)
    assert row.marks == ("replicas",)
    assert row.notes == ("gain combined from 2 jobs, ×2.00 to ×2.02",)


def test_disturbed_replicas_are_left_out_and_counted_unless_asked_for() -> None:
    views = [latency_view(), latency_view(gain=5.0, gain_low=4, gain_high=6, flags=("disturbed",))]
    (without,) = rows_of(views)
    assert (without.gain, without.marks) == (2.0, ("left out",))
    assert without.notes == ("1 disturbed result of this case left out",)
    (included,) = rows_of(views, include_disturbed=True)
    assert included.gain == pytest.approx(10**0.5)
    assert included.marks == ("disturbed", "replicas")


def test_a_case_with_disturbed_results_only_keeps_a_row_without_numbers() -> None:
    row = only([latency_view(flags=("disturbed",))])
    assert (row.state, row.gain, row.latency_p50_s, row.artifact_bytes) == ("left out", None, None, None)
    assert row.reason == "1 disturbed result only; --include-disturbed shows it"


def test_marks_name_the_baseline_itself_thread_mismatch_and_withheld_percentiles() -> None:
    row = only([latency_view(strategy=BASELINE, flags=("threads",), withheld={0.95: "41 samples, 130 needed"})])
    assert row.marks == ("A/A", "threads", "withheld")
    assert row.withheld == ("p95: 41 samples, 130 needed",)


@pytest.mark.parametrize("state", ["unsupported", "failed", "dead"])
def test_a_job_without_a_number_is_a_row_with_its_reason(state: str) -> None:
    row = only([failed_view(state, "out of memory")])
    assert (row.state, row.reason, row.gain) == (state, "out of memory", None)


def test_a_failed_replica_beside_a_good_one_is_noted() -> None:
    row = only([latency_view(), failed_view("dead", "killed by signal 9")])
    assert (row.state, row.gain) == ("done", 2.0)
    assert row.notes == ("1 of 2 jobs of this case gave no number: killed by signal 9",)


@pytest.mark.parametrize(("field", "what"), [("model_digest", "model"), ("input_digest", "input")])
def test_results_on_other_content_are_not_combined_and_it_is_said(field: str, what: str) -> None:
    one: dict[str, Any] = {field: "aaa"}
    other: dict[str, Any] = {field: "bbb", "gain": 3.0}
    rows = rows_of([latency_view(**one), latency_view(**other)])
    assert sorted(row.gain or 0 for row in rows) == [2.0, 3.0]
    assert all(row.marks == ("digest",) for row in rows)
    assert rows[0].notes == (f"the {what} differs between results of this case (aaa, bbb): not combined",)


def test_accuracy_is_compared_row_by_row_with_the_baselines() -> None:
    views, kept = with_accuracies(accuracy_view(), accuracy_view(strategy=BASELINE, accuracy=0.95))
    row = next(row for row in rows_of(views, kept) if row.gain)
    assert row.accuracy is not None
    assert row.accuracy.verdict == "loses 6.0 points, p < 0.001"
    assert row.accuracy.baseline_accuracy == 0.95
    assert row.accuracy.agreement == pytest.approx(0.94)
    assert row.accuracy.difference == pytest.approx(-0.06)


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ({"dataset_digest": "data-b"}, "not compared: the rows differ (dataset data-a, baseline's data-b)"),
        ({"model_digest": "model-b"}, "not compared: the model differs (model-a, baseline's model-b)"),
        ({"environment_key": "x"}, "not compared: the baseline has no accuracy on this hardware and software"),
    ],
)
def test_accuracies_on_other_rows_models_or_platforms_are_never_compared(given: dict[str, str], note: str) -> None:
    views, kept = with_accuracies(accuracy_view(), accuracy_view(strategy=BASELINE, **given))
    row = next(row for row in rows_of(views, kept) if row.gain)
    assert row.accuracy is not None
    assert (row.accuracy.accuracy, row.accuracy.verdict, row.accuracy.difference) == (0.9, None, None)
    assert row.accuracy.note == note


def test_an_accuracy_without_kept_predictions_is_shown_but_not_compared() -> None:
    views, _ = with_accuracies(accuracy_view(), accuracy_view(strategy=BASELINE))
    unkept = next(row for row in rows_of(views) if row.gain)
    assert unkept.accuracy is not None
    assert unkept.accuracy.verdict is None
    assert "not in the database" in str(unkept.accuracy.note)


def test_a_newer_accuracy_on_other_rows_does_not_hide_the_one_that_can_be_compared() -> None:
    views, kept = with_accuracies(accuracy_view(), accuracy_view(strategy=BASELINE))
    row = next(row for row in rows_of([*views, accuracy_view(dataset_digest="data-c")], kept) if row.gain)
    assert row.accuracy is not None
    assert row.accuracy.verdict == "loses 6.0 points, p < 0.001"
    assert row.accuracy.note == "accuracies on 2 datasets exist, one is shown"


def test_a_strategy_with_an_accuracy_only_has_a_row_without_threads_and_input() -> None:
    row = only([accuracy_view()])
    assert (row.state, row.threads, row.input, row.gain) == ("done", None, None, None)
    assert row.accuracy is not None
    assert row.accuracy.accuracy == 0.9
    assert (row.accuracy.low or 1) < 0.9 < (row.accuracy.high or 0)


def test_a_failed_accuracy_job_is_said_beside_the_measured_latency() -> None:
    row = only([latency_view(), accuracy_view(state="dead", message="out of memory", accuracy=None)])
    assert row.gain == 2.0
    assert row.accuracy is not None
    assert row.accuracy.note == "dead: out of memory"


def test_rows_go_by_input_and_threads_with_the_baseline_first() -> None:
    views = [
        latency_view(length=128, input="b1×l128"),
        latency_view(threads=2, strategy="torch/bf16"),
        latency_view(threads=2, strategy=BASELINE),
        latency_view(),
    ]
    order = [(row.length, row.threads, row.strategy) for row in rows_of(views)]
    assert order == [
        (16, 1, "torch/int8-dynamic"),
        (16, 2, BASELINE),
        (16, 2, "torch/bf16"),
        (128, 1, "torch/int8-dynamic"),
    ]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Filter(strategy="ONNXRUNTIME/*"), 1),
        (Filter(hardware="epyc"), 2),
        (Filter(hardware="hardware0000"), 2),
        (Filter(hardware="here"), 2),
        (Filter(threads=2, model="mini*"), 1),
        (Filter(), 2),
    ],
)
def test_filters_pick_by_glob_part_of_the_cpus_name_host_and_number(wanted: Filter, count: int) -> None:
    views = [latency_view(), latency_view(strategy="onnxruntime/fp32", threads=2)]
    assert len(wanted.select(views)) == count
    assert len(wanted.select(rows_of(views))) == count


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Filter(model="minlm"), "--model: nothing is called 'minlm'; did you mean 'minilm'? (there is minilm)"),
        (Filter(strategy="torch/int8-dinamic"), "did you mean 'torch/int8-dynamic'?"),
        (Filter(threads=4), "--threads: nothing is called '4' (there is 1)"),
        (Filter(hardware="xeon"), "--hardware: nothing is called 'xeon'"),
    ],
)
def test_a_filter_value_that_fits_nothing_is_an_error_with_the_nearest(wanted: Filter, message: str) -> None:
    with pytest.raises(errors.QueryError) as caught:
        wanted.select([latency_view()])
    assert message in str(caught.value)


def test_filters_that_fit_nothing_together_are_an_error() -> None:
    views = [latency_view(), latency_view(strategy="torch/bf16", threads=2)]
    with pytest.raises(errors.QueryError, match="together"):
        Filter(strategy="torch/bf16", threads=1).select(views)
