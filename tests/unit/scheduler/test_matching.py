from __future__ import annotations

from typing import Any

import pytest

from scheduler.compare import Comparison, compare
from scheduler.matching import match
from storage.views import ResultView
from tests.factories import failed_view, latency_view


def rows(*views: ResultView) -> list[Comparison]:
    return compare(views, lambda job_id: None)


def test_one_case_of_one_content_is_compared_whatever_the_software() -> None:
    before, after = rows(latency_view(environment_key="old")), rows(latency_view(gain=1.5))
    found = match(before, after)
    assert [(one.gain, other.gain) for one, other in found.pairs] == [(2.0, 1.5)]
    assert found.apart == ()


def test_a_model_of_another_name_is_the_same_case_where_its_content_is() -> None:
    assert match(rows(latency_view(model="old name")), rows(latency_view())).apart == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"threads": 2},
        {"input": "b2×l16"},
        {"strategy": "torch/bf16"},
        {"baseline": "torch/bf16"},
        {"hardware_key": "h2"},
    ],
)
def test_a_case_that_one_side_has_alone_is_told(changed: dict[str, Any]) -> None:
    found = match(rows(latency_view()), rows(latency_view(**changed)))
    assert found.pairs == ()
    assert sorted((one.reason, one.text) for one in found.apart) == [
        ("only", "measured now only"),
        ("only", "measured then only"),
    ]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"model_digest": "b"}, "not compared: the model differs (model-a then, b now)"),
        ({"input_digest": "b"}, "not compared: the input differs (input-a then, b now)"),
    ],
)
def test_another_content_under_the_same_name_is_told_and_not_compared(changed: dict[str, Any], text: str) -> None:
    found = match(rows(latency_view()), rows(latency_view(**changed)))
    assert (found.pairs, [(one.reason, one.text) for one in found.apart]) == ((), [("content", text)])


def test_a_further_content_of_a_compared_case_is_told_too() -> None:
    found = match(rows(latency_view()), rows(latency_view(), latency_view(model_digest="b")))
    assert len(found.pairs) == 1
    assert [one.text for one in found.apart] == ["measured now only, on another content (b, input-a)"]


@pytest.mark.parametrize(
    ("before", "after", "reason", "text"),
    [
        (latency_view(), failed_view("failed", "no"), "broken", "a number then, none now: failed, no"),
        (latency_view(), failed_view("dead", "killed"), "broken", "a number then, none now: dead, killed"),
        (latency_view(), failed_view("unsupported", "avx2"), "no number", "a number then, none now: unsupported, avx2"),
        (failed_view("failed", "no"), latency_view(), "no number", "no number then: failed, no"),
        (failed_view("failed", "no"), failed_view("failed", "x"), "no number", "no number then and now: failed, no"),
    ],
)
def test_a_case_without_a_number_says_on_which_side(
    before: ResultView, after: ResultView, reason: str, text: str
) -> None:
    assert [(one.reason, one.text) for one in match(rows(before), rows(after)).apart] == [(reason, text)]


def test_disturbed_results_are_no_number() -> None:
    (apart,) = match(rows(latency_view()), rows(latency_view(flags=("disturbed",)))).apart
    assert apart.text.startswith("a number then, none now: left out, 1 disturbed result only; --include-disturbed")
