"""Which host may take a job: its platform's, the one that it names, or whichever can."""

from __future__ import annotations

import pytest

from storage import hosts, lifecycle, outbox, queries, records
from storage.database import Database
from tests import builders
from tests.integration.storage import fleet

ANY = fleet.ANY


def takers(db: Database, job_id: str) -> list[str]:
    """The hosts that get the job when they ask for it, one after the other."""
    got = []
    for host in fleet.HOSTS:
        if fleet.try_claim(db, job_id, host) is not None:
            got.append(host)
            lifecycle.adopt(db, host)
    return got


@pytest.mark.parametrize(
    ("platform", "wanted_host", "expected"),
    [
        ("A", None, ["a1", "a2"]),
        ("B", None, ["b1"]),
        ("A", "a2", ["a2"]),
        (ANY, None, ["a1", "a2", "b1", "c1"]),
        (ANY, "b1", ["b1"]),
        ("B", "a1", []),  # that host had the platform when the job was planned, and has another one now
    ],
)
def test_only_those_that_a_job_is_meant_for_get_it(
    db: Database, platform: str, wanted_host: str | None, expected: list[str]
) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db, fleet.planned(platform, wanted_host))
    assert takers(db, job_id) == expected


def test_a_case_for_a_host_and_for_its_platform_are_two_jobs(db: Database) -> None:
    jobs = [fleet.planned("A"), fleet.planned("A", "a1"), fleet.planned("A", "a2"), fleet.planned(ANY)]
    assert len(fleet.submit(db, *jobs)) == 4
    assert fleet.submit(db, *jobs) == []
    assert [job.wanted_host for job in queries.jobs(db)] == [None, "a1", "a2", None]


def test_the_result_of_a_job_for_any_platform_belongs_to_the_one_that_measured(db: Database) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db, fleet.planned(ANY))
    mine = fleet.claim(db, job_id, "b1")
    assert mine.platform_key == fleet.key("B")
    assert lifecycle.finish(db, mine, builders.latency())
    (result,) = queries.results(db)
    assert (result.platform_key, result.host, result.cpu) == (fleet.key("B"), "b1", "CPU B")
    assert queries.results(db, hardware=fleet.PLATFORMS["B"].hardware_key) == [result]
    assert fleet.view(db, job_id).platform_key == ANY


def test_a_platform_that_declined_a_job_does_not_get_it_again_and_another_does(db: Database) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db, fleet.planned(ANY))
    assert lifecycle.decline(db, fleet.claim(db, job_id, "a1"), "needs amx") == "queued"
    job = fleet.view(db, job_id)
    assert (job.crashes, job.errors, job.message) == (0, 0, "needs amx")
    assert fleet.tries(db, job_id) == ["declined"]
    assert takers(db, job_id) == ["b1", "c1"]


def test_a_job_that_every_platform_declined_is_unsupported_with_the_last_reason(db: Database) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db, fleet.planned(ANY))
    for host, state in (("a1", "queued"), ("b1", "queued"), ("c1", "unsupported")):
        assert lifecycle.decline(db, fleet.claim(db, job_id, host), f"{host} cannot") == state
    (result,) = queries.results(db)
    assert (result.state, result.message, result.gain) == ("unsupported", "c1 cannot", None)
    assert fleet.tries(db, job_id) == ["declined", "declined", "unsupported"]


def test_a_retry_asks_those_again_that_declined(db: Database) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db, fleet.planned(ANY))
    for host in ("a1", "b1", "c1"):
        lifecycle.decline(db, fleet.claim(db, job_id, host), "no")
    assert lifecycle.retry(db, [job_id]) == 1
    assert takers(db, job_id) == ["a1", "a2", "b1", "c1"]
    assert {each.queue for each in outbox.unpublished(db)} == {"any"}


def test_a_host_that_left_for_good_keeps_no_job_waiting_for_its_answer(db: Database) -> None:
    fleet.register(db, "a1", "b1")
    (job_id,) = fleet.submit(db, fleet.planned(ANY))
    hosts.forget(db, "b1")
    assert lifecycle.decline(db, fleet.claim(db, job_id, "a1"), "no") == "unsupported"


@pytest.mark.parametrize(("platform", "wanted_host"), [("A", None), (ANY, "a1")])
def test_a_job_for_one_platform_or_host_alone_is_unsupported_when_that_declines(
    db: Database, platform: str, wanted_host: str | None
) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db, fleet.planned(platform, wanted_host))
    assert lifecycle.decline(db, fleet.claim(db, job_id, "a1"), "needs amx") == "unsupported"


def test_declining_twice_or_too_late_changes_nothing(db: Database) -> None:
    fleet.register(db)
    twice, late = fleet.submit(db, fleet.planned(ANY), fleet.planned(ANY, replica=1))
    mine = fleet.claim(db, twice, "a1")
    assert lifecycle.decline(db, mine, "no") == "queued"
    assert lifecycle.decline(db, mine, "no") == "queued"  # the first answer got lost on its way
    assert fleet.tries(db, twice) == ["declined"]
    assert fleet.try_claim(db, twice, "a2") is None

    slow = fleet.claim(db, late, "a1")
    lifecycle.adopt(db, "a1")
    quick = fleet.claim(db, late, "b1")
    assert lifecycle.decline(db, slow, "no") == "superseded"
    assert fleet.view(db, late).state == "running"
    assert lifecycle.finish(db, quick, builders.latency())


def test_a_cancelled_job_that_is_declined_is_not_offered_to_others(db: Database) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db, fleet.planned(ANY))
    mine = fleet.claim(db, job_id, "a1")
    lifecycle.cancel(db, [job_id])
    assert lifecycle.decline(db, mine, "no") == "cancelled"


@pytest.mark.parametrize("host", ["a1", "b1"])
def test_adopting_takes_a_job_for_any_platform_back_from_its_host_only(db: Database, host: str) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db, fleet.planned(ANY))
    fleet.claim(db, job_id, "a1")
    assert lifecycle.adopt(db, host) == ([job_id] if host == "a1" else [])
    assert records.TERMINAL.isdisjoint({fleet.view(db, job_id).state})
