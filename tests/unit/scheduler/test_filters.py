from __future__ import annotations

import pytest

from scheduler.filters import Filter
from storage import errors
from tests.factories import accuracy_view, latency_view

VIEWS = [latency_view(input=label) for label in ("b1×l16", "b1×l16, 2 instances", "b8×dataset/sorted")] + [
    accuracy_view()
]


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("b1×l16", 2),
        ("b1xl16", 2),
        ("B1xL16", 2),
        ("b1xl16, 2*", 1),
        ("*dataset*", 1),
        ("*", 3),
        ("b8xdataset/sorted", 1),
    ],
)
def test_an_input_is_named_by_a_glob_and_with_an_x_where_the_key_is_missing(pattern: str, count: int) -> None:
    assert len(Filter(input=pattern).select(VIEWS)) == count


def test_an_input_that_nothing_has_says_what_there_is() -> None:
    with pytest.raises(errors.QueryError, match=r"--input: nothing is called 'b1xl61'; did you mean 'b1×l16'\?"):
        Filter(input="b1xl61").select(VIEWS)


def test_what_fits_may_be_nothing_where_nobody_is_to_be_told() -> None:
    assert Filter(input="b2*").kept(VIEWS) == []
    assert len(Filter(input="b1*", threads=1).kept(VIEWS)) == 2
