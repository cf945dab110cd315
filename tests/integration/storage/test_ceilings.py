"""Ceilings in the database: jobs of no study, the newest of each hardware."""

from __future__ import annotations

from scheduler import calibration
from storage import ceilings, hosts, lifecycle, queries
from storage.database import Database
from tests import builders, fleets


def _finish(db: Database, new: tuple[str, ...], result: ceilings.CeilingsMeasurement) -> None:
    (job_id,) = new
    claim = lifecycle.claim(db, job_id, host="one", platform_key=fleets.EPYC.key, lease=60)
    assert claim is not None and claim.case == ceilings.case()
    assert lifecycle.finish(db, claim, result)


def _plan(db: Database, *, fresh: bool = False) -> tuple[str, ...]:
    def known(keys: object) -> dict[str, str]:
        return queries.existing(db, keys)  # type: ignore[arg-type]

    return lifecycle.add(db, calibration.jobs([fleets.EPYC], known, fresh=fresh))


def test_the_newest_ceilings_of_each_hardware_come_back_whole(db: Database) -> None:
    hosts.register(db, name="one", platform=fleets.EPYC)
    first, second = builders.measured_ceilings(), builders.measured_ceilings(measured_s=7.0, flags=("disturbed",))
    _finish(db, _plan(db), first)
    assert queries.ceilings(db)[fleets.EPYC.hardware_key].measurement == first

    _finish(db, _plan(db, fresh=True), second)

    (found,) = queries.ceilings(db).values()
    assert found.measurement == second
    assert (found.host, found.hardware_key) == ("one", fleets.EPYC.hardware_key)


def test_a_second_calibration_plans_nothing_and_belongs_to_no_study(db: Database) -> None:
    hosts.register(db, name="one", platform=fleets.EPYC)
    assert len(_plan(db)) == 1
    assert _plan(db) == ()
    (job,) = queries.jobs(db)
    assert (job.kind, job.model, job.strategy, job.studies) == ("ceilings", "machine", "", ())


def test_ceilings_of_other_software_on_the_same_hardware_count_too(db: Database) -> None:
    hosts.register(db, name="one", platform=fleets.EPYC)
    _finish(db, _plan(db), builders.measured_ceilings())

    hosts.register(db, name="one", platform=fleets.platform(software=fleets.packages(torch="2.12.1")))

    (found,) = calibration.look(db)
    assert found.ceilings is not None
    assert (found.key, found.hosts) == (fleets.EPYC.hardware_key, ("one",))
