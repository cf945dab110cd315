"""Pages of a large comparison: together they are the whole, and each is whole in itself."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import compare, filters, pages
from scheduler.compare import Case, Comparison, Paging
from scheduler.report import reading
from storage import errors
from storage.views import Predictions, ResultView
from tests import fleets
from tests.factories import answers

PLACES = (fleets.EPYC, fleets.XEON)
BASELINE, INT8, BF16 = "torch/fp32", "torch/int8-dynamic", "torch/bf16"


@given(groups=st.lists(st.integers(1, 5), max_size=12), most=st.integers(1, 9))
def test_pages_hold_whole_groups_in_order_and_every_thing_once(groups: list[int], most: int) -> None:
    items = [(group, number) for group, count in enumerate(groups) for number in range(count)]
    first = pages.cut(items, lambda item: item[0], pages.Page(most=most))
    cuts = [
        pages.cut(items, lambda item: item[0], pages.Page(most=most, number=number + 1))
        for number in range(first.pages)
    ]
    assert [item for one in cuts for item in one.kept] == items
    assert all(one.left == len(items) - len(one.kept) for one in cuts)
    assert all(len(one.kept) >= most for one in cuts[:-1])
    seen = [{group for group, _ in one.kept} for one in cuts]
    assert sum(map(len, seen)) == len(groups)  # no group stands on two pages


@pytest.mark.parametrize("number", [-1, 0, 3])
def test_a_page_that_there_is_not_is_told(number: int) -> None:
    with pytest.raises(errors.QueryError, match=f"there is no page {number} of 2"):
        pages.cut("aabb", str, pages.Page(most=2, number=number))


def test_nothing_is_one_empty_page() -> None:
    assert pages.cut([], str, pages.Page(most=2)) == pages.Cut(kept=[], pages=1, left=0)


def views() -> list[ResultView]:
    """Cases of every sort: measured twice, failed, disturbed, of two contents, operations, and accuracies alone."""
    found = [
        fleets.latency(
            where, 1.0 + number / 10, threads=threads, strategy=strategy, input=f"b1×l{length}", length=length
        )
        for where in PLACES
        for number, strategy in enumerate((BASELINE, INT8, BF16))
        for threads in (1, 2)
        for length in (16, 128)
    ]
    for where in PLACES:
        found += [
            fleets.latency(where, 2.2),
            fleets.failed(where, strategy="openvino/fp32"),
            fleets.latency(where, strategy="onnxruntime/fp32", flags=("disturbed",)),
            fleets.latency(where, model="other", model_digest="one"),
            fleets.latency(where, model="other", model_digest="two"),
            fleets.accuracy(where, strategy=BASELINE),
            fleets.accuracy(where, 88, strategy=INT8),
            fleets.accuracy(where, 85, strategy="pruned:share=0.5+torch/fp32"),  # of no measured case
            fleets.accuracy(where, 70, model="third", strategy=BASELINE),
        ]
        for baseline, same in (("matmul/fp32", False), ("mul/fp32", True)):
            operation: dict[str, Any] = {
                "kind": "tensor",
                "input": "w, 1 row",
                "batch": None,
                "length": None,
                "strategy": "mul/int8",
            }
            document = {"same_operation": same}
            found.append(fleets.latency(where, baseline=baseline, document=document, **operation))
    random.Random(7).shuffle(found)
    return found


def lookup(job_id: str) -> Predictions | None:
    return answers([number % 10 != int(job_id, 16) % 10 for number in range(100)])


def paged(found: list[ResultView], paging: Paging) -> list[list[Comparison]]:
    """The rows of every page."""
    first = compare.part(found, lookup, paging=paging)
    more = [
        compare.part(
            found, lookup, paging=Paging(page=pages.Page(most=paging.page.most, number=number), group=paging.group)
        )
        for number in range(2, first.pages + 1)
    ]
    return [first.rows, *(part.rows for part in more)]


def by_input(case: Case) -> tuple[str, str | None]:
    return case.model, case.input


@pytest.mark.parametrize("most", [1, 3, 10, 1000])
@pytest.mark.parametrize("group", [None, by_input])
def test_the_pages_of_a_comparison_are_the_comparison(most: int, group: object) -> None:
    found = views()
    paging = Paging(page=pages.Page(most=most), **({"group": group} if group else {}))  # type: ignore[arg-type]
    parts = paged(found, paging)
    whole = compare.compare(found, lookup)
    assert any(row.like_for_like for row in whole), "an operation's other gain stands on another page at times"
    assert sorted((row for rows in parts for row in rows), key=compare.order) == whole
    assert len(parts) > 1 or most == 1000


@pytest.mark.parametrize("most", [1, 3, 10])
def test_a_page_is_the_same_whether_the_rest_is_computed_or_not(most: int) -> None:
    paging = Paging(page=pages.Page(most=most, number=2))
    found = views()
    early = compare.part(found, lookup, paging=paging)
    late = compare.page_of(compare.compare(found, lookup), paging)
    assert early.rows == late.rows


def test_a_case_stands_on_one_page_with_all_its_machines() -> None:
    parts = paged(views(), Paging(page=pages.Page(most=3)))
    where = [{compare.case_of(row) for row in rows} for rows in parts]
    assert not set.union(*(one & other for one in where for other in where if one is not other))
    assert {row.hardware_key for row in parts[0]} == {place.hardware_key for place in PLACES}


def test_a_report_of_little_has_one_page() -> None:
    assert reading.Wanted().page == 1
    assert compare.part(views(), lookup, paging=Paging(page=pages.Page(most=reading.LINES))).pages == 1
    assert filters.Filter() == reading.Wanted().chosen
