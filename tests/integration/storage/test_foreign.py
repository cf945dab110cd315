from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from scheduler import calibration, fleet
from storage import foreign, hosts, keys, lifecycle, queries, records
from storage.database import Database
from tests import builders

STUDY = lifecycle.StudyText(name="foreign/pyperf", text="# imported")


def foreign_result(name: str = "a", **changes: Any) -> foreign.ForeignResult:
    """A pyperf result of two processes, with a gain."""
    told = {foreign.TOLD_BY: "pyperf 2.11.0"}
    environment = records.Environment(python="3.11", packages={}, kernel="unknown", settings=told)
    hardware = dataclasses.replace(builders.platform().hardware, isa=(), physical_cores=0, memory_gib=0)
    side = foreign.ForeignSide(
        strategy="fast", percentiles=(records.Percentile(q=0.5, value_s=0.004),), processes=2, count=4
    )
    model = records.ModelRef(name="minilm", source="none", location="pyperf: minilm")
    fields: dict[str, Any] = {
        "case": records.Case(kind="latency", model=model, strategy="fast", baseline="slow", threads=None),
        "label": "bench",
        "platform": foreign.platform(hardware, environment),
        "host": "host-a",
        "measurement": foreign.ForeignMeasurement(
            origin=foreign.Origin(tool="pyperf", version="2.11.0", files=(f"{name}.json",), digests=(name,)),
            strategy=side,
            baseline=dataclasses.replace(side, strategy="slow"),
            gain=records.Interval(value=2.0, low=1.9, high=2.1),
            notes=("measured by pyperf",),
        ),
        "legs": tuple(
            builders.leg(pair=pair, samples_ns=(4_000_000, 4_000_001), side="strategy", foreign_share=foreign.UNWATCHED)
            for pair in range(2)
        ),
        "measured_at": 1.6e9,
    }
    return foreign.ForeignResult(**{**fields, **changes})


@pytest.fixture
def db(address: str) -> Any:
    with Database.open(address) as opened:
        yield opened


def test_a_foreign_result_is_read_back_as_it_was_told(db: Database) -> None:
    (job_id,) = foreign.store(db, study=STUDY, results=[foreign_result()])
    (view,) = queries.results(db, study="foreign/pyperf")
    assert (view.job_id, view.state, view.flags, view.notes) == (job_id, "done", ("foreign",), ("measured by pyperf",))
    assert (view.gain, view.gain_low, view.latency_p50_s, view.baseline_latency_p50_s) == (2.0, 1.9, 0.004, 0.004)
    assert (view.threads, view.input, view.host, view.pairs, view.finished_at) == (None, "bench", "host-a", None, 1.6e9)
    assert view.measurement() is None
    assert [leg.samples_ns for leg in queries.legs(db, job_id)] == [(4_000_000, 4_000_001)] * 2


def test_storing_the_same_again_changes_nothing(db: Database) -> None:
    first, other = foreign_result(), foreign_result("b")
    assert len(foreign.store(db, study=STUDY, results=[first])) == 1
    before = queries.studies(db)
    assert foreign.store(db, study=STUDY, results=[first]) == ()
    assert queries.studies(db) == before
    assert len(foreign.store(db, study=STUDY, results=[first, other])) == 1
    assert [one.digests for one in foreign.known(db)] == [("a",), ("b",)]


def test_a_foreign_platform_is_nobodys_host(db: Database) -> None:
    foreign.store(db, study=STUDY, results=[foreign_result()])
    assert queries.hosts(db) == []
    assert [foreign.told_by(one) for one in queries.platforms(db).values()] == ["pyperf 2.11.0"]
    assert calibration.look(db) == ()


def test_the_newest_study_is_one_of_ours_where_there_is_one(db: Database) -> None:
    with pytest.raises(Exception, match="holds no study yet"):
        fleet.study_of(db, None)
    lifecycle.submit(db, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=[builders.planned()])
    foreign.store(db, study=STUDY, results=[foreign_result()])
    assert fleet.study_of(db, None)[0].name == "demo"
    assert fleet.study_of(db, "foreign/pyperf")[0].name == "foreign/pyperf"


def test_removing_takes_the_foreign_study_and_nothing_else(db: Database) -> None:
    platform = builders.platform()
    hosts.register(db, name="here", platform=platform)
    ours = lifecycle.submit(
        db, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=[builders.planned(None, platform.key)]
    )
    claim = lifecycle.claim(db, ours.new[0], host="here", platform_key=platform.key, lease=60)
    assert claim is not None
    lifecycle.finish(db, claim, builders.latency(), [builders.leg()])
    foreign.store(db, study=STUDY, results=[foreign_result(), foreign_result("b")])
    with pytest.raises(ValueError, match="only studies of foreign results"):
        foreign.remove(db, [one.id for one in queries.studies(db)])

    ids = [one.id for one in queries.studies(db) if one.name == "foreign/pyperf"]
    assert foreign.remove(db, ids) == 2
    assert [view.job_id for view in queries.results(db)] == [ours.new[0]]
    assert len(queries.legs(db, ours.new[0])) == 1
    assert len(foreign.store(db, study=STUDY, results=[foreign_result()])) == 1


def test_a_study_that_is_not_foreign_holds_no_foreign_results(db: Database) -> None:
    with pytest.raises(ValueError, match="foreign/…, not 'demo'"):
        foreign.store(db, study=dataclasses.replace(STUDY, name="demo"), results=[foreign_result()])


def test_a_platform_without_its_tool_is_no_foreign_one() -> None:
    ours = builders.platform()
    with pytest.raises(ValueError, match="needs the setting 'measured by'"):
        foreign.platform(ours.hardware, ours.environment)
    assert foreign.told_by(ours) is None
    assert keys.platform(ours.hardware, ours.environment) == ours
