"""A run looks at what changes, and sees all the same what becomes of each job."""

from __future__ import annotations

import pytest

from scheduler import local
from storage import lifecycle, noop, records
from storage.database import Database
from tests.integration.storage import fleet
from tests.sql import heard


def states(watched: local._Watched) -> list[str]:
    return [job.state for job in watched.look()]


@pytest.fixture
def ids(db: Database) -> list[str]:
    fleet.register(db)
    return fleet.submit(db, *(fleet.planned(replica=n) for n in range(4)))


def test_what_runs_ends_and_comes_back_is_seen_without_reading_all(db: Database, ids: list[str]) -> None:
    lifecycle.finish(db, fleet.claim(db, ids[3]), noop.NoopMeasurement())
    watched = local._Watched(db, ids[:3])
    assert states(watched) == ["queued"] * 3
    first, second = fleet.claim(db, ids[0]), fleet.claim(db, ids[1], "a2")
    assert states(watched) == ["running", "running", "queued"]

    lifecycle.finish(db, first, noop.NoopMeasurement())
    lifecycle.release(db, second)
    third = fleet.claim(db, ids[2])
    with heard(db) as said:
        assert states(watched) == ["done", "queued", "running"]
    asked = [statement for statement, _ in said if " job " in statement]
    assert all("finished_at >" in one or "'running'" in one for one in asked), asked

    lifecycle.fail(db, third, records.Failure(reason="unsupported", message="no"))
    lifecycle.finish(db, fleet.claim(db, ids[1]), noop.NoopMeasurement())
    assert states(watched) == ["done", "done", "unsupported"]


def test_what_a_person_does_to_jobs_is_seen_soon(db: Database, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "IDLE_S", 0.0)
    watched = local._Watched(db, ids)
    lifecycle.cancel(db, [ids[0]])
    assert states(watched)[0] == "cancelled"
    lifecycle.retry(db, [ids[0]])
    watched._took = 0.0
    assert states(watched)[0] == "queued"
