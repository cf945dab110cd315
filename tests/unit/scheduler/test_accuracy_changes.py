from __future__ import annotations

from collections.abc import Sequence

import pytest
import scipy.stats

from scheduler.accuracy_changes import AccuracyChange, changes
from storage.views import Predictions, ResultView
from tests.factories import accuracy_view, answers


def compared(
    before: Sequence[tuple[ResultView, Predictions | None]],
    after: Sequence[tuple[ResultView, Predictions | None]],
    limit: float | None = None,
) -> tuple[AccuracyChange, ...]:
    kept = {view.job_id: found for view, found in (*before, *after) if found is not None}
    return changes([view for view, _ in before], [view for view, _ in after], kept.get, fdr=0.05, limit=limit)


RIGHT, TEN_WRONG = answers([True] * 100), answers([False] * 10 + [True] * 90)


def test_an_accuracy_that_fell_is_told_by_the_paired_test() -> None:
    (found,) = compared([(accuracy_view(), RIGHT)], [(accuracy_view(), TEN_WRONG)])
    assert (found.verdict, found.rows, found.regression) == ("loses", 100, False)
    assert (found.difference, found.agreement) == pytest.approx((-0.1, 0.9))
    assert found.p == found.p_adjusted == pytest.approx(scipy.stats.binomtest(0, 10).pvalue)


@pytest.mark.parametrize(("limit", "regression"), [(0.005, True), (0.09, True), (0.1, False)])
def test_a_loss_beyond_the_limit_is_a_regression(limit: float, regression: bool) -> None:
    (found,) = compared([(accuracy_view(), RIGHT)], [(accuracy_view(), TEN_WRONG)], limit)
    assert found.regression == regression


def test_a_gain_is_no_regression_and_a_difference_by_chance_no_change() -> None:
    better, chance = accuracy_view(), accuracy_view(strategy="torch/bf16")
    found = compared(
        [(accuracy_view(), TEN_WRONG), (accuracy_view(strategy="torch/bf16"), RIGHT)],
        [(better, RIGHT), (chance, answers([False] * 2 + [True] * 98))],
        limit=0.0,
    )
    assert {one.strategy: (one.verdict, one.regression) for one in found} == {
        better.strategy: ("gains", False),
        chance.strategy: ("no change shown", False),
    }


def test_several_accuracies_are_adjusted_together() -> None:
    six_wrong = answers([False] * 6 + [True] * 94)  # p = 0.031 by itself
    views = [(accuracy_view(strategy=f"s{n}"), RIGHT) for n in range(3)]
    later = [(accuracy_view(strategy=f"s{n}"), six_wrong if n == 0 else RIGHT) for n in range(3)]
    found = {one.strategy: one for one in compared(views, later)}
    assert found["s0"].p == pytest.approx(0.03125)
    assert found["s0"].p_adjusted == pytest.approx(0.09375)
    assert found["s0"].verdict == "no change shown"


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"model_digest": "b"}, "the model differs (model-a then, b now): not compared"),
        ({"dataset_digest": "b"}, "the dataset differs (data-a then, b now): not compared"),
    ],
)
def test_other_content_is_told_and_not_compared(changed: dict[str, str], note: str) -> None:
    (found,) = compared([(accuracy_view(), RIGHT)], [(accuracy_view(**changed), TEN_WRONG)], 0.0)
    assert (found.p, found.note, found.regression) == (None, note, False)


def test_the_earlier_accuracy_on_the_same_content_is_taken_though_another_is_newer() -> None:
    before = [(accuracy_view(), RIGHT), (accuracy_view(dataset_digest="newer"), RIGHT)]
    (found,) = compared(before, [(accuracy_view(), RIGHT)])
    assert (found.note, found.difference) == (None, 0.0)


def test_answers_that_are_not_kept_or_have_other_labels_are_not_compared() -> None:
    (lost,) = compared([(accuracy_view(), None)], [(accuracy_view(), RIGHT)])
    assert lost.note == "the predictions row by row are not in the database: not compared"
    other = Predictions(predictions=(1,) * 100, labels=(0,) * 100)
    (relabelled,) = compared([(accuracy_view(), other)], [(accuracy_view(), RIGHT)])
    assert relabelled.note == "the labels differ: not compared"


def test_hardware_is_never_mixed() -> None:
    assert compared([(accuracy_view(hardware_key="there"), RIGHT)], [(accuracy_view(), RIGHT)]) == ()
