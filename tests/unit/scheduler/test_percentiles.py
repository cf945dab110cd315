from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from scheduler import compare, percentiles
from storage.views import ResultView
from tests.factories import latency_view


def measured(*percentile: tuple[float, float | None, float | None], **given: Any) -> ResultView:
    """A job with a p95: its value and the ends of its interval."""
    found = [{"q": 0.95, "value_s": value, "low_s": low, "high_s": high} for value, low, high in percentile]
    return latency_view(document={"strategy": {"percentiles": found}, "baseline": {}}, **given)


def p95(jobs: Sequence[ResultView]) -> tuple[float | None, ...]:
    """The interval over these jobs."""
    return tuple(percentiles.ends(jobs, [95]).values())


def test_the_interval_of_one_job_is_the_one_that_it_stored() -> None:
    (row,) = compare.compare([measured((0.0115, 0.0111, 0.0122))], lambda job_id: None)
    assert (row.latency_p95_low_s, row.latency_p95_high_s) == (0.0111, 0.0122)
    assert (row.latency_p50_low_s, row.latency_p90_high_s) == (None, None)


def test_what_nobody_needs_is_not_computed_and_changes_nothing_else() -> None:
    view = measured((0.0115, 0.0111, 0.0122))
    part = compare.part([view], lambda job_id: None, intervals=())
    (bare,), (whole,) = part.rows, compare.compare([view], lambda job_id: None)
    assert (bare.latency_p95_low_s, bare.latency_p95_high_s) == (None, None)
    assert dataclasses.replace(whole, latency_p95_low_s=None, latency_p95_high_s=None) == bare


def test_jobs_that_agree_narrow_the_interval_and_jobs_that_do_not_widen_it() -> None:
    one = measured((0.0100, 0.0095, 0.0105))
    alike = p95([one, measured((0.0101, 0.0096, 0.0106))])
    apart = p95([one, measured((0.0140, 0.0133, 0.0147))])
    assert alike == pytest.approx((0.0097, 0.0104), abs=2e-5)
    assert apart[0] is not None and apart[0] < 0.0095
    assert apart[1] is not None and apart[1] > 0.0147


def test_an_end_that_no_sample_supports_stays_unknown() -> None:
    assert p95([measured((0.0100, 0.0095, None))]) == (0.0095, None)
    assert p95([measured()]) == (None, None)
    whole, half = measured((0.0100, 0.0095, 0.0105)), measured((0.0100, 0.0095, None))
    assert p95([whole, half]) == pytest.approx((0.0095, 0.0105), rel=0.01)
