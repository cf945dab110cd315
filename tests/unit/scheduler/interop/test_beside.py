"""Foreign results among compared rows and side by side with ours."""

from __future__ import annotations

from typing import Any

from scheduler import across
from scheduler.compare import Comparison, compare
from storage import foreign, keys, records
from storage.views import ResultView
from tests import builders, factories


def told() -> records.Platform:
    """A platform that only pyperf's files tell of."""
    ours = builders.platform()
    environment = records.Environment(
        python="3.11", packages={}, kernel="unknown", settings={foreign.TOLD_BY: "pyperf"}
    )
    return foreign.platform(ours.hardware, environment)


def view(platform: records.Platform, **given: Any) -> ResultView:
    """One of our results, or of pyperf's where the platform is its."""
    return factories.latency_view(
        hardware_key=platform.hardware_key,
        environment_key=platform.environment_key,
        platform_key=platform.key,
        flags=("foreign",) if foreign.told_by(platform) else (),
        **given,
    )


def rows(*views: ResultView) -> list[Comparison]:
    return compare(views, lambda job_id: None)


def test_foreign_results_of_one_case_are_never_combined() -> None:
    found = rows(view(told(), gain=2.0), view(told(), gain=3.0, gain_low=None, gain_high=None))
    assert sorted(row.gain or 0.0 for row in found) == [2.0, 3.0]
    assert {row.marks for row in found} == {("foreign",)}


def test_a_foreign_baseline_is_no_comparison_with_itself() -> None:
    numbers = dict.fromkeys(("gain", "gain_low", "gain_high"))
    (row,) = rows(view(told(), strategy="torch/fp32", **numbers))
    assert (row.marks, row.significant, row.latency_p50_s) == (("foreign",), None, 0.010)


def test_a_foreign_gain_counts_for_nothing_that_is_said_of_a_row() -> None:
    ours, other = builders.platform(), builders.platform("Xeon 8581C")
    mine = [view(ours, gain=2.0, gain_low=1.9, gain_high=2.1), view(other, gain=2.5, gain_low=2.4, gain_high=2.6)]
    theirs = view(told(), gain=0.5, gain_low=0.4, gain_high=0.6, model_digest=None, input_digest=None)

    (model,) = across.across(rows(*mine, theirs), [ours, other, told()]).models
    (row,) = model.gains[0].rows
    assert (row.low, row.high, row.flips) == (2.0, 2.5, False)
    marks = {column.marks: cell.marks for column, cell in zip(model.columns, row.cells, strict=True) if cell}
    assert marks == {(): (), ("foreign",): ("foreign",)}
    assert [cell.counted for cell in row.cells if cell and "foreign" in cell.marks] == [False]


def test_a_column_says_which_tool_tells_of_it() -> None:
    ours = builders.platform()
    found = across.across(rows(view(ours), view(told())), [ours, told()])
    assert [column.name for column in found.columns] == ["EPYC 9B14", "EPYC 9B14 (by pyperf)"]
    assert keys.platform(ours.hardware, ours.environment).key != told().key
