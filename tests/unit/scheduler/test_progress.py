from __future__ import annotations

from collections.abc import Sequence

import pytest

from scheduler import progress
from scheduler.progress import Place
from storage import records
from storage.views import HostView, JobGroup
from tests.unit.scheduler.fleet_hosts import host

A, TWIN = host("a"), host("twin")
SLOW = host("slow", cpu="slow")
KEY = A.platform.key


def group(state: str = "queued", count: int = 1, **given: str | None) -> JobGroup:
    fields: dict[str, str | None] = {
        "platform_key": KEY,
        "wanted_host": None,
        "host": None,
        "kind": "latency",
        "model": "m",
        "strategy": "torch/fp32",
    }
    return JobGroup(state=state, count=count, **{**fields, **given})  # type: ignore[arg-type]


def place(groups: Sequence[JobGroup], *hosts: HostView) -> Place:
    (found,) = progress.places(groups, hosts, lambda key: {("latency", "m", "torch/fp32"): 10.0}, 60.0)
    return found


def test_jobs_are_counted_by_where_they_belong_and_who_ended_them() -> None:
    groups = [group("done", 3, host="a"), group("failed", 1, host="twin"), group("done", 2, host="gone"), group()]
    found = place(groups, A, TWIN, SLOW)

    assert found.states == {"done": 5, "failed": 1, "queued": 1}
    assert found.ended_on == {"a": 3, "twin": 1, "gone": 2}
    assert [one.name for one in found.hosts] == ["a", "twin"]
    assert found.open == 1


def test_what_is_left_is_shared_by_the_hosts_that_serve_and_the_slowest_place_decides() -> None:
    groups = [group(count=6), group(platform_key=SLOW.platform.key, count=4)]
    places = progress.places(groups, [A, TWIN, SLOW], lambda key: {("latency", "m", "torch/fp32"): 10.0}, 60.0)

    assert [one.left_s for one in places] == [30.0, 40.0]
    assert progress.Progress(places=places, running=(), hosts=()).left_s == 40.0

    alone = place([group(count=6)], A, host("twin", stopped=True))
    assert alone.left_s == 60.0


def test_a_case_that_nobody_measured_yet_takes_the_studys_budget() -> None:
    (found,) = progress.places([group(count=2)], [A], lambda key: {}, 30.0)
    assert found.left_s == pytest.approx(2 * 36.0)


def test_nothing_left_takes_no_time_even_without_a_host() -> None:
    found = place([group("done", 5)])
    assert found.left_s == 0.0
    assert progress.waits_for(found, []) is None


@pytest.mark.parametrize(
    ("jobs", "hosts", "said"),
    [
        (group(), [A, host("twin", unseen_s=200)], None),
        (group(), [host("a", unseen_s=200), host("twin", stopped=True)], "a is away for 3 min; twin is stopped"),
        (group(), [SLOW], "no known host is of this platform"),
        (group(wanted_host="b"), [A], "no host is called b now"),
        (group(wanted_host="slow"), [SLOW], "slow has other hardware or software now; `quantfleet backfill`"),
        (group(wanted_host="a"), [host("a", stopped=True), TWIN], "a is stopped"),
        (group(platform_key=records.ANY_PLATFORM), [host("a", unseen_s=1e6), SLOW], None),
    ],
)
def test_waiting_jobs_say_what_they_wait_for(jobs: JobGroup, hosts: list[HostView], said: str | None) -> None:
    found = place([jobs], *hosts)
    reason = progress.waits_for(found, hosts)
    assert reason is None if said is None else str(reason).startswith(said)
    assert (found.left_s is None) is (said is not None)


def test_while_a_place_waits_nobody_knows_when_all_is_done() -> None:
    groups = [group(), group(platform_key="gone")]
    places = progress.places(groups, [A], lambda key: {}, 60.0)
    assert progress.Progress(places=places, running=(), hosts=()).left_s is None


def test_times_that_nobody_measured_are_told_roughly() -> None:
    assert [progress.lasting(s) for s in (3.4, 119, 180, 7100, 7300, 200_000)] == [
        "3 s", "119 s", "3 min", "118 min", "2 h", "2 days",
    ]  # fmt: skip
