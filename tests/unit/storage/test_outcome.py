from __future__ import annotations

from typing import Any

import pytest

from storage import lifecycle, records
from storage.lifecycle import Outcome


def outcome(reason: Any, **given: Any) -> Outcome:
    values: dict[str, Any] = {"crashes": 0, "errors": 0, "cancelling": False, "final": False}
    return lifecycle.outcome(records.Failure(reason=reason, message="why"), **{**values, **given})


@pytest.mark.parametrize("reason", ["crash", "expired"])
def test_the_second_death_is_the_last(reason: str) -> None:
    assert outcome(reason) == Outcome(state="queued", crashes=1, errors=0)
    assert outcome(reason, crashes=1) == Outcome(state="dead", crashes=2, errors=0)


def test_errors_back_off_and_end() -> None:
    after = [outcome("error", errors=errors) for errors in range(3)]
    assert [(step.state, step.errors, step.wait_s) for step in after] == [
        ("queued", 1, 5.0),
        ("queued", 2, 30.0),
        ("failed", 3, 0.0),
    ]


def test_a_crash_after_an_error_waits_for_nothing() -> None:
    assert outcome("crash", errors=2) == Outcome(state="queued", crashes=1, errors=2)


@pytest.mark.parametrize("reason", ["error", "crash", "expired", "released"])
def test_a_cancelled_job_is_not_queued_again(reason: str) -> None:
    assert outcome(reason, cancelling=True).state == "cancelled"


def test_what_this_host_cannot_do_is_no_failure_however_often_it_crashed() -> None:
    assert outcome("unsupported", crashes=1, errors=2, final=True).state == "unsupported"


def test_a_final_error_is_not_tried_again() -> None:
    assert outcome("error", final=True).state == "failed"
