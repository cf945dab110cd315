from __future__ import annotations

import datetime

import pytest

from scheduler import earlier
from storage import errors, records
from tests import fleets
from tests.factories import latency_view
from tests.fleets import EPYC, OLD, OLD_TORCH, failed, latency

PLATFORMS = (EPYC, OLD, OLD_TORCH)


def test_results_of_one_hardware_stand_against_each_other_and_the_software_that_changed_is_named() -> None:
    found = earlier.split([latency(OLD_TORCH)], [latency(OLD)], PLATFORMS)
    (step,) = found.steps
    assert (step.earlier, step.later) == (OLD_TORCH.environment_key, OLD.environment_key)
    assert step.changed == ("torch: 2.12.1 → 2.13.0", "kernel: 5.15 → 6.1")
    assert (len(found.earlier), len(found.later), found.notes) == (1, 1, ())


def test_the_same_software_is_taken_where_both_have_it_though_another_is_newer() -> None:
    before = [latency(OLD), latency(OLD_TORCH)]
    found = earlier.split(before, [latency(OLD)], PLATFORMS)
    assert [view.environment_key for view in found.earlier] == [OLD.environment_key]
    assert found.steps[0].changed == ()
    taken, other = OLD.environment_key[:8], OLD_TORCH.environment_key[:8]
    assert found.notes == (f"Xeon E5-2686 v4, then: software {taken} counts, software {other} left out",)


def test_the_newest_software_with_a_number_counts() -> None:
    found = earlier.split([latency(OLD_TORCH)], [latency(OLD), failed(OLD_TORCH)], PLATFORMS)
    assert found.steps[0].later == OLD.environment_key


def test_a_machine_that_only_fails_now_is_still_looked_at() -> None:
    found = earlier.split([latency(OLD)], [failed(OLD, state="failed")], PLATFORMS)
    assert [view.state for view in found.later] == ["failed"]


def test_hardware_of_one_side_is_told() -> None:
    found = earlier.split([latency(OLD), latency(EPYC)], [latency(OLD)], PLATFORMS)
    assert found.notes == (f"EPYC 9B14 (hardware {EPYC.hardware_key[:8]}) was measured then only",)
    assert {view.hardware_key for view in found.earlier} == {OLD.hardware_key}


def test_a_result_of_both_sides_tells_no_change() -> None:
    both = latency(OLD)
    found = earlier.split([both], [both, latency(OLD)], PLATFORMS)
    assert (len(found.earlier), len(found.later)) == (1, 1)
    assert found.notes == ("1 result belongs to both sides and tells no change: measure again with --fresh",)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("torch=2.12", [OLD_TORCH]),
        ("Torch=2.12.1", [OLD_TORCH]),
        ("torch=2.1*", [OLD, OLD_TORCH]),
        ("torch=2.12,kernel=5.15", [OLD_TORCH]),
        (OLD_TORCH.environment_key[:6], [OLD_TORCH]),
    ],
)
def test_software_is_named_by_versions_or_its_key(text: str, fits: list[records.Platform]) -> None:
    fitting = earlier.in_environment(text, (OLD, OLD_TORCH))
    assert [one for one in (OLD, OLD_TORCH) if fitting(latency(one))] == fits


def test_a_version_does_not_fit_another_that_only_begins_with_its_digits() -> None:
    other = fleets.platform(software=fleets.packages(torch="2.1.3"))
    fits = earlier.in_environment("torch=2.1", (EPYC, other))
    assert (fits(latency(other)), fits(latency(EPYC))) == (True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("toch=2.12", "no software has a fact 'toch'; did you mean 'torch'?"),
        ("torch=2.14", "no software has torch 2.14; did you mean '2.13.0'? (there is 2.12.1, 2.13.0)"),
        ("torch=2.12,kernel=6.1", "no software has all of these together"),
        ("0000", "no software has this key (there is "),
        ("the old one", "expected the start of a software key, or FACT=VERSION such as torch=2.12"),
        ("torch=", "expected the start of a software key, or FACT=VERSION"),
    ],
)
def test_software_that_nobody_has_is_an_error_with_what_there_is(text: str, message: str) -> None:
    with pytest.raises(errors.QueryError) as caught:
        earlier.in_environment(text, (OLD, OLD_TORCH))
    assert message in str(caught.value)


def test_a_day_parts_earlier_results_from_later_ones() -> None:
    day = datetime.datetime(2026, 11, 30).timestamp()
    fits = earlier.finished_before("2026-11-30")
    assert (fits(latency_view(finished_at=day - 1)), fits(latency_view(finished_at=day))) == (True, False)
    assert earlier.finished_before("2026-11-30T00:00:01")(latency_view(finished_at=day))
    with pytest.raises(errors.QueryError, match="--against-before yesterday: expected a day such as 2026-11-30"):
        earlier.finished_before("yesterday")
