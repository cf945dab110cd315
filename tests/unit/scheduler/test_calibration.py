"""Which machines there are to calibrate, and what their jobs are."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler import calibration
from storage import errors, records
from storage.views import HostView
from tests import builders

EPYC, XEON = builders.platform("AMD EPYC 9B14"), builders.platform("Intel(R) Xeon(R) CPU E5-2680 v3")


def host(name: str, platform: records.Platform) -> HostView:
    times: dict[str, Any] = {"first_seen_at": 0.0, "last_seen_at": 0.0, "unseen_s": 0.0, "stopped_at": None}
    return HostView(name=name, platform=platform, labels={}, **times)


def machines() -> tuple[calibration.Machine, ...]:
    platforms = {platform.key: platform for platform in (EPYC, XEON)}
    return calibration.machines(platforms, [host("alpha", EPYC)], {}, [])


def nothing(_keys: Any) -> dict[str, str]:
    return {}


@pytest.mark.parametrize("word", [EPYC.hardware_key, EPYC.hardware_key[:6], "epyc", "alpha", "ALPHA"])
def test_a_machine_is_meant_by_its_key_its_cpu_or_a_host(word: str) -> None:
    assert [one.key for one in calibration.pick(machines(), word)] == [EPYC.hardware_key]


def test_a_machine_that_does_not_exist_is_answered_with_the_nearest() -> None:
    wrong = EPYC.hardware_key[:-2] + "zz"

    with pytest.raises(errors.QueryError, match=f"did you mean '{EPYC.hardware_key}'"):
        calibration.pick(machines(), wrong)
    with pytest.raises(errors.QueryError, match="did you mean 'alpha'"):
        calibration.pick(machines(), "alhpa")


def test_hardware_of_which_no_host_is_left_is_known_without_hosts() -> None:
    assert {one.key: one.hosts for one in machines()} == {EPYC.hardware_key: ("alpha",), XEON.hardware_key: ()}


def test_each_platform_gets_one_job_and_the_same_one_again() -> None:
    jobs = calibration.jobs([EPYC, XEON, EPYC], nothing)

    assert [job.platform_key for job in jobs] == [EPYC.key, XEON.key]
    assert {job.case.kind for job in jobs} == {"ceilings"}
    assert jobs == calibration.jobs([EPYC, XEON], nothing)


def test_a_fresh_one_is_the_next_replica_that_nobody_has() -> None:
    (first,) = calibration.jobs([EPYC], nothing)
    taken = {first.key: "done"}

    (second,) = calibration.jobs([EPYC], lambda keys: {key: taken[key] for key in keys if key in taken}, fresh=True)

    assert (second.replica, second.key != first.key) == (1, True)


def test_the_record_of_a_case_travels_as_any_other() -> None:
    (job,) = calibration.jobs([EPYC], nothing)

    assert records.from_document(records.Case, records.to_document(job.case)) == job.case
