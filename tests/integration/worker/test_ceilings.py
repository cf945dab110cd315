"""A calibration from claim to result, in a real measured process; short, so that its numbers mean little."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler import calibration, limits
from storage import database, hosts, lifecycle, queries, records
from storage.database import Database
from worker import ceilings, station, supervisor


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {"PRODUCT_S": 0.05, "READ_S": 0.005, "COPY_S": 0.01, "NOISE_S": 0.05, "TAKES": 1}
    for name, value in changed.items():
        monkeypatch.setattr(ceilings, name, value)
    monkeypatch.setattr(ceilings, "LARGEST_SETS", (1 << 22, 1 << 22))


def test_a_calibration_stores_every_ceiling_by_threads(tmp_path: Path, place: station.Station) -> None:
    address = f"sqlite:///{tmp_path / 'q.db'}"
    database.upgrade(address)
    with Database.open(address) as db:
        hosts.register(db, name=place.settings.host, platform=place.platform)
        (job_id,) = lifecycle.add(db, calibration.jobs([place.platform], lambda _: {}))

        assert supervisor.run_job(place, db, job_id) == "done"
        found = queries.ceilings(db)[place.platform.hardware_key].measurement

    counts = ceilings.thread_counts(place)
    assert {(one.precision, one.threads) for one in found.products} == {
        (precision, count) for precision in ("fp32", "bf16", "int8") for count in counts
    }
    assert {one.set_bytes for one in found.bandwidths if one.operation == "read"} == {
        1 << 19, 1 << 20, 1 << 21, 1 << 22
    }  # fmt: skip
    assert {one.threads for one in found.bandwidths if one.operation == "copy"} == set(counts)
    assert all(1e6 < one.usual_per_s <= one.ops_per_s < 1e15 for one in found.products)
    assert all(one.usual_per_s <= one.bytes_per_s for one in found.bandwidths)
    assert 0 < found.timer.resolution_ns < 1e6 and found.timer.call_ns > 0
    assert found.noise.runs > 3 and found.noise.kernel_s > 0


def test_a_latency_result_keeps_the_work_of_both_sides(
    tmp_path: Path, place: station.Station, model: records.ModelRef
) -> None:
    case = records.Case(
        kind="latency",
        model=model,
        strategy="onnxruntime/int8-dynamic",
        baseline="torch/fp32",
        threads=1,
        input=records.InputSpec(batch=2, length=8, calls=1),
    )
    measured, _ = _run(place, tmp_path, case)

    own, other = measured["strategy"]["facts"]["work"], measured["baseline"]["facts"]["work"]
    assert (own["arithmetic"], other["arithmetic"]) == ("int8", "fp32")
    assert own["ops"] == other["ops"] > 2 * 2 * 8 * 2 * 4 * 32 * 32  # attention's projections alone
    assert 4 * own["weight_bytes"] == other["weight_bytes"]


def test_real_rows_are_counted_at_their_own_lengths(
    tmp_path: Path, place: station.Station, model: records.ModelRef, rows: records.DatasetRef
) -> None:
    case = records.Case(
        kind="latency",
        model=model,
        strategy="torch/fp32",
        baseline="torch/fp32",
        threads=1,
        input=records.InputSpec(batch=1, length="dataset", calls=4),
        dataset=rows,
    )
    measured, view = _run(place, tmp_path, case)

    found = measured["strategy"]["facts"]["work"]
    assert found["calls"] == 4
    assert found["ops"] > 0
    assert limits.results([view], {}) == [view]


def _run(place: station.Station, folder: Path, case: records.Case) -> tuple[dict, queries.ResultView]:  # type: ignore[type-arg]
    from storage import keys

    address = f"sqlite:///{folder / 'q.db'}"
    database.upgrade(address)
    with Database.open(address) as db:
        hosts.register(db, name=place.settings.host, platform=place.platform)
        budget = records.Budget(precision=0.5, max_seconds=0.5, min_pairs=2)
        key = keys.job_key(case, place.platform.key, 0)
        job = records.PlannedJob(key=key, case=case, platform_key=place.platform.key, replica=0, budget=budget)
        (job_id,) = lifecycle.add(db, [job])
        assert supervisor.run_job(place, db, job_id) == "done"
        (view,) = queries.results(db)
    return dict(view.document), view
