from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from scheduler import across_notes
from scheduler.across import Across, Cell, Matrix, Row, across
from scheduler.across_sections import sections
from scheduler.compare import case_order, compare
from storage import records
from storage.views import Predictions, ResultView
from tests.factories import answers
from tests.fleets import EPYC, OLD, OLD_TORCH, XEON, accuracy, failed, latency, packages, platform

BASELINE, BF16, INT8 = "torch/fp32", "torch/bf16", "torch/int8-dynamic"
PLATFORMS = (EPYC, XEON, OLD, OLD_TORCH)


def beside(
    views: Iterable[ResultView],
    *more: records.Platform,
    kept: Mapping[str, Predictions] | None = None,
    disturbed: bool = False,
) -> Across:
    rows = compare(views, (kept or {}).get, include_disturbed=disturbed)
    return across(sorted(rows, key=case_order), [*PLATFORMS, *more])


def gains(found: Across) -> Matrix:
    """The only matrix of gains."""
    (model,) = found.models
    (matrix,) = model.gains
    return matrix


def row_of(found: Across, strategy: str = INT8) -> Row:
    (row,) = (row for row in gains(found).rows if row.strategy == strategy)
    return row


def values(row: Row) -> list[float | None]:
    return [cell.value if cell else None for cell in row.cells]


def cells(row: Row) -> list[Cell]:
    return [cell for cell in row.cells if cell]


def marks(row: Row) -> list[tuple[str, ...]]:
    return [cell.marks for cell in cells(row)]


def notes(found: Across) -> list[str]:
    (model,) = found.models
    return across_notes.differences(model)


def test_strategies_are_rows_and_platforms_are_columns() -> None:
    found = beside(
        [
            latency(EPYC, 2.4),
            latency(XEON, 3.1),
            latency(EPYC, 1.4, strategy=BF16),
            latency(EPYC, 1.0, strategy=BASELINE),
        ]
    )
    assert [column.name for column in found.columns] == ["EPYC 9B14", "Xeon 8581C"]
    assert [(row.strategy, values(row)) for row in gains(found).rows] == [
        (BASELINE, [1.0, None]),
        (BF16, [1.4, None]),
        (INT8, [2.4, 3.1]),
    ]


def test_a_row_spans_from_the_least_to_the_greatest_gain() -> None:
    row = row_of(beside([latency(EPYC, 2.4), latency(XEON, 3.1), latency(OLD, 1.5)]))
    assert (row.low, row.high, row.flips) == (1.5, 3.1, False)


def test_one_number_spans_nothing() -> None:
    row = row_of(beside([latency(EPYC, 2.4), failed(XEON)]))
    assert (row.low, row.high) == (None, None)


def test_a_gain_here_and_a_loss_there_flips_the_sign_and_it_is_said_where() -> None:
    found = beside([latency(EPYC, 1.4), latency(XEON, 1.6), latency(OLD, 0.5)])
    assert row_of(found).flips
    assert across_notes.flips(found.models[0]) == [
        f"{INT8}: faster than {BASELINE} on EPYC 9B14, Xeon 8581C; slower on Xeon E5-2686 v4 (b1×l16, 1 thread)"
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"gain": 0.98, "gain_low": 0.9, "gain_high": 1.06},  # not significant
        {"gain": 0.5, "gain_low": None, "gain_high": None},
        {"gain": 1.2},
        {"gain": 0.5, "model_digest": "model-b"},
    ],
)
def test_a_sign_flips_only_between_significant_gains_on_the_same_content(other: dict[str, object]) -> None:
    found = beside([latency(EPYC, 1.4), latency(OLD, **other)])  # type: ignore[arg-type]
    assert not row_of(found).flips
    assert across_notes.flips(found.models[0]) == []


def test_the_baseline_against_itself_never_flips() -> None:
    assert not row_of(
        beside([latency(EPYC, 1.2, strategy=BASELINE), latency(OLD, 0.8, strategy=BASELINE)]), BASELINE
    ).flips


def test_cases_that_flip_alike_share_a_sentence() -> None:
    found = beside([latency(where, gain, threads=n) for n in (1, 2) for where, gain in ((EPYC, 1.4), (OLD, 0.5))])
    (sentence,) = across_notes.flips(found.models[0])
    assert sentence.endswith("(b1×l16, 1 thread; b1×l16, 2 threads)")


def test_a_flip_between_unlike_software_says_so() -> None:
    (sentence,) = across_notes.flips(beside([latency(EPYC, 1.4), latency(OLD_TORCH, 0.5)]).models[0])
    assert "slower on Xeon E5-2686 v4; their software differs too (" in sentence


def test_a_flip_on_one_hardware_is_laid_to_its_software() -> None:
    (sentence,) = across_notes.flips(beside([latency(OLD, 1.4), latency(OLD_TORCH, 0.5)]).models[0])
    assert "the hardware is the same, its software makes the difference" in sentence


def test_the_software_is_no_suspect_where_one_of_each_side_shares_it() -> None:
    (sentence,) = across_notes.flips(beside([latency(EPYC, 1.4), latency(OLD, 0.5), latency(OLD_TORCH, 0.5)]).models[0])
    assert "software" not in sentence


def test_another_model_of_the_name_is_shown_marked_and_left_out_of_the_range() -> None:
    other = latency(OLD, 0.5, model_digest="model-b", host="cellar")
    found = beside([latency(EPYC, 1.4), latency(XEON, 1.6, host="two"), other])
    row = row_of(found)
    assert values(row) == [1.4, 1.6, 0.5]
    assert [cell.counted for cell in cells(row)] == [True, True, False]
    assert marks(row) == [(), (), ("digest",)]
    assert (row.low, row.high, row.flips) == (1.4, 1.6, False)
    assert notes(found) == [
        "the model differs: model-a on EPYC 9B14 [one], Xeon 8581C [two]; model-b on Xeon E5-2686 v4 [cellar]"
    ]


def test_where_every_column_has_its_own_content_nothing_is_compared() -> None:
    row = row_of(beside([latency(EPYC, 1.4), latency(XEON, 1.6, model_digest="model-b")]))
    assert marks(row) == [("digest",), ("digest",)]
    assert (row.low, row.high) == (None, None)


def test_of_contents_that_equally_many_columns_have_the_leftmost_counts() -> None:
    arms = [platform(f"Neoverse-{name}") for name in ("N1", "V2")]
    views = [latency(where, 3.0, model_digest="model-b") for where in (OLD, XEON)]
    row = row_of(beside([*views, latency(arms[0], 1.5), latency(arms[1], 2.0)], *arms))
    assert (values(row), row.low, row.high) == ([1.5, 2.0, 3.0, 3.0], 1.5, 2.0)


def test_what_most_columns_have_is_decided_over_all_thread_counts() -> None:
    views = [latency(where, threads=1) for where in (EPYC, XEON)]
    views += [latency(OLD, threads=n, model_digest="model-b") for n in (1, 8)]
    (model,) = beside(views).models
    assert [marks(row) for matrix in model.gains for row in matrix.rows] == [[(), (), ("digest",)], [("digest",)]]


def test_other_inputs_under_one_label_are_marked_and_said() -> None:
    found = beside([latency(EPYC), latency(XEON), latency(OLD, input_digest="input-b")])
    assert marks(row_of(found)) == [(), (), ("digest",)]
    assert notes(found) == [
        "the input b1×l16 differs: input-a on EPYC 9B14 [one], Xeon 8581C [one]; input-b on Xeon E5-2686 v4 [one]"
    ]


def test_students_that_were_trained_apart_are_other_models_and_it_is_said() -> None:
    student = "distil:layers=3+torch/fp32"
    views = [latency(where, strategy=student, document=made("student-a")) for where in (EPYC, XEON)]
    found = beside([*views, latency(OLD, strategy=student, document=made("student-b"))])
    assert marks(row_of(found, student)) == [(), (), ("digest",)]
    assert notes(found) == [
        "the model of distil:layers=3+torch/fp32 differs: student-a on EPYC 9B14 [one], Xeon 8581C [one]; "
        "student-b on Xeon E5-2686 v4 [one]"
    ]


def test_a_student_beside_the_whole_model_counts_as_its_own_strategys_content() -> None:
    student = "distil:layers=3+torch/fp32"
    views = [latency(where, strategy=student, document=made("student-a")) for where in (EPYC, XEON)]
    found = beside([*views, *(latency(where, strategy=BASELINE) for where in (EPYC, XEON))])
    assert [[cell.counted for cell in cells(row)] for row in gains(found).rows] == [[True, True], [True, True]]


def made(digest: str) -> dict[str, Any]:
    transforms = [{"step": "distil:layers=3", "key": "k", "model_digest": digest, "facts": {}}]
    return {"strategy": {"artifact": {"facts": {"transforms": transforms}}}}


def test_each_label_has_an_input_of_its_own() -> None:
    views = [latency(where) for where in (EPYC, XEON)]
    views += [latency(where, input="b1×l128", length=128, input_digest="input-b") for where in (EPYC, XEON)]
    assert notes(beside(views)) == []


def test_several_contents_of_one_platform_lose_no_number() -> None:
    views = [latency(EPYC, 1.4), latency(EPYC, 1.7, model_digest="model-b", host="two"), latency(XEON, 1.6)]
    found = beside(views)
    first, second = gains(found).rows
    assert (values(first), marks(first), first.high) == ([1.4, 1.6], [(), ()], 1.6)
    assert (values(second), marks(second), second.high) == ([1.7, None], [("digest",)], None)


def test_gains_over_unlike_baselines_never_share_a_row_and_it_is_said() -> None:
    found = beside([latency(EPYC, 2.0), latency(XEON, 1.1, baseline="onnxruntime/fp32")])
    (model,) = found.models
    assert [(matrix.baseline, [values(row) for row in matrix.rows]) for matrix in model.gains] == [
        (BASELINE, [[2.0, None]]),
        ("onnxruntime/fp32", [[None, 1.1]]),
    ]
    assert notes(found) == [
        "gains are taken against several baselines, which never share a row: "
        "torch/fp32 on EPYC 9B14; onnxruntime/fp32 on Xeon 8581C"
    ]


def test_what_is_the_same_everywhere_needs_no_words() -> None:
    assert notes(beside([latency(EPYC), latency(XEON), accuracy(EPYC), accuracy(XEON)])) == []


def test_a_column_whose_software_is_not_the_usual_is_marked() -> None:
    found = beside([latency(EPYC), latency(XEON), latency(OLD_TORCH)])
    assert [column.marks for column in found.columns] == [(), (), ("software",)]
    assert across_notes.software(found.columns) == [
        "torch: 2.13.0 on EPYC 9B14, Xeon 8581C; 2.12.1 on Xeon E5-2686 v4",
        "kernel: 6.1 on EPYC 9B14, Xeon 8581C; 5.15 on Xeon E5-2686 v4",
    ]


def test_another_kernel_alone_is_said_and_not_marked() -> None:
    other = platform("Neoverse-N1", software={"kernel": "6.8"})
    found = beside([latency(EPYC), latency(other)], other)
    assert [column.marks for column in found.columns] == [(), ()]
    assert across_notes.software(found.columns) == ["kernel: 6.1 on EPYC 9B14; 6.8 on Neoverse-N1"]


def test_one_hardware_with_two_environments_has_two_columns_that_tell_them_apart() -> None:
    other = platform(software=packages(torch="2.12.1"))
    found = beside([latency(EPYC, 2.0), latency(other, 2.2)], other)
    assert [column.label for column in found.columns] == [("EPYC 9B14", "torch 2.12.1"), ("EPYC 9B14", "torch 2.13.0")]
    assert [column.marks for column in found.columns] == [("software",), ("software",)]
    assert values(row_of(found)) == [2.2, 2.0]


def test_hosts_of_one_platform_share_a_column_that_names_them() -> None:
    found = beside([latency(EPYC, host="b"), latency(EPYC, host="a"), accuracy(EPYC, host="c"), latency(XEON)])
    assert [column.hosts for column in found.columns] == [("a", "b", "c"), ("one",)]
    assert marks(row_of(found)) == [("replicas",), ()]


def test_a_case_that_cannot_run_there_is_not_one_that_nobody_asked_for() -> None:
    (cell,) = cells(row_of(beside([failed(EPYC, message="no avx2"), latency(XEON, strategy=BF16)])))
    assert (cell.found.state, cell.found.reason, cell.counted, cell.marks) == ("unsupported", "no avx2", False, ())


def test_a_disturbed_result_counts_where_it_is_asked_for_and_keeps_its_mark() -> None:
    views = [latency(EPYC, 2.0, flags=("disturbed",)), latency(XEON, 3.0)]
    assert row_of(beside(views)).low is None
    row = row_of(beside(views, disturbed=True))
    assert (row.low, row.high, marks(row)) == (2.0, 3.0, [("disturbed",), ()])


def test_jobs_that_no_platform_ever_took_stand_apart() -> None:
    lost = failed(EPYC, state="cancelled", hardware_key=None, environment_key=None, cpu=None, host=None)
    found = beside([latency(EPYC), latency(XEON), lost])
    assert len(found.columns) == 2
    assert [row.state for row in found.nowhere] == ["cancelled"]


def test_a_model_has_the_columns_of_the_platforms_that_know_it() -> None:
    found = beside([latency(EPYC), latency(XEON), latency(XEON, model="second")])
    assert [(model.name, len(model.columns)) for model in found.models] == [("minilm", 2), ("second", 1)]


def answered(views: Iterable[ResultView]) -> dict[str, Predictions]:
    """The predictions of accuracy views, the right ones first."""
    return {view.job_id: answers([n < (view.correct or 0) for n in range(100)]) for view in views}


def test_accuracies_stand_beside_with_the_verdict_of_their_own_hardware() -> None:
    views = [accuracy(where, 95, strategy=BASELINE) for where in (EPYC, OLD)]
    views += [accuracy(EPYC, 94), accuracy(OLD, 80)]
    found = beside([*views, latency(EPYC), latency(EPYC, threads=2)], kept=answered(views))
    (matrix,) = found.models[0].accuracies
    first, second = matrix.rows
    assert (first.strategy, values(first), first.low, first.high) == (BASELINE, [0.95, 0.95], 0.95, 0.95)
    assert (values(second), second.low, second.high, second.flips) == ([0.94, 0.8], 0.8, 0.94, False)
    verdicts = [cell.found.accuracy.verdict for cell in cells(second) if cell.found.accuracy]
    assert verdicts == ["no loss shown", "loses 15.0 points, p < 0.001"]


def test_accuracies_on_other_rows_are_marked_and_left_out_of_the_range() -> None:
    found = beside([accuracy(EPYC, 94), accuracy(XEON, 93), accuracy(OLD, 80, dataset_digest="data-b", host="cellar")])
    (row,) = found.models[0].accuracies[0].rows
    assert (marks(row), row.low, row.high) == ([(), (), ("digest",)], 0.93, 0.94)
    assert notes(found) == [
        "the dataset differs: data-a on EPYC 9B14 [one], Xeon 8581C [one]; data-b on Xeon E5-2686 v4 [cellar]"
    ]


def test_an_accuracy_on_one_content_of_the_model_is_shown_once() -> None:
    views = [latency(EPYC), latency(EPYC, model_digest="model-b"), accuracy(EPYC), latency(XEON)]
    (row,) = beside(views).models[0].accuracies[0].rows
    assert values(row) == [0.9, None]


def test_an_accuracy_that_failed_keeps_its_state() -> None:
    found = beside([accuracy(EPYC), accuracy(XEON, state="dead", message="out of memory", accuracy=None)])
    (row,) = found.models[0].accuracies[0].rows
    assert [cell.found.accuracy and cell.found.accuracy.state for cell in cells(row)] == ["done", "dead"]
    assert values(row) == [0.9, None]


def test_thread_counts_are_matched_by_number_and_what_each_has_alone_stands_side_by_side() -> None:
    views = [latency(where, threads=1) for where in (EPYC, XEON, OLD)]
    views += [latency(EPYC, 2.5, threads=8), latency(XEON, 2.6, threads=16), failed(OLD, threads=2)]
    views += [latency(EPYC, 2.7, threads=16)]
    one, both, apart = sections(beside(views).models[0])
    assert (one.shared, one.threads) == (1, (1, 1, 1))
    assert (both.shared, both.threads, values(both.rows[0])) == (16, (16, 16, None), [2.7, 2.6, None])
    assert (apart.shared, apart.threads, values(apart.rows[0])) == (None, (8, None, 2), [2.5, None, None])
    assert apart.rows[0].low is None


def test_sections_keep_every_cell_of_strategies_that_only_one_platform_has() -> None:
    views = [latency(EPYC, threads=8), latency(XEON, threads=16), latency(XEON, 1.5, threads=16, strategy=BF16)]
    views += [latency(EPYC, 3.0, threads=4)]
    packed, rest = sections(beside(views).models[0])
    assert [(row.strategy, values(row)) for row in packed.rows] == [(INT8, [3.0, 2.0]), (BF16, [None, 1.5])]
    assert (rest.shared, [values(row) for row in rest.rows]) == (8, [[2.0, None]])


def test_sections_set_further_contents_beside_further_contents() -> None:
    views = [
        latency(where, gain, threads=threads, model_digest=digest)
        for where, threads, gain in ((EPYC, 8, 2.0), (XEON, 16, 3.0))
        for digest, gain in (("model-a", gain), ("model-b", gain + 0.5))
    ]
    (section,) = sections(beside(views).models[0])
    assert [values(row) for row in section.rows] == [[2.0, 3.0], [2.5, 3.5]]
