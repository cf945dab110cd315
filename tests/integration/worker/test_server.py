"""Server jobs with real processes on a tiny model: requests that come by themselves."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import pytest

from storage import errors, records, rows
from worker import server, station


def _nothing() -> None:
    pass


def _untold(_progress: object) -> None:
    pass


@pytest.fixture(autouse=True)
def two_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh processes take most of the time of such short jobs."""
    monkeypatch.setattr(server, "PAIRS", 2)


def served(model: records.ModelRef, instances: int = 1, **serving: Any) -> records.Case:
    return records.Case(
        kind="server",
        model=model,
        strategy="torch/int8-dynamic",
        baseline="torch/fp32",
        threads=1,
        instances=instances,
        input=records.InputSpec(batch=1, length=8, calls=1),
        serving=records.ServingSpec(**serving),
    )


def measured(
    place: station.Station, case: records.Case, seconds: float
) -> tuple[records.ServerMeasurement, list[records.Leg]]:
    budget = records.Budget(precision=0.9, max_seconds=seconds)
    with place.exclusive(_nothing):
        return server.measure(place, case, budget, _nothing, _untold)


def test_latencies_at_a_rate_count_from_the_arrival_and_both_sides_get_the_same_requests(
    place: station.Station, model: records.ModelRef
) -> None:
    found, legs = measured(place, served(model, rate_per_s=50.0), 2.0)

    assert found.gain is not None
    assert (found.pairs, found.instances, len(legs)) == (2, 1, 4)
    assert found.baseline_service.queries == found.strategy_service.queries == 50
    assert 20 < found.strategy_service.answered_per_s < 100
    assert 0 < found.strategy_service.busy_share < 0.9
    assert not found.strategy_service.overloaded
    means = {side: [np.mean(leg.samples_ns) for leg in legs if leg.side == side] for side in ("baseline", "strategy")}
    logs = np.log(np.array(means["baseline"]) / np.array(means["strategy"]))
    assert np.log(found.gain.value) == pytest.approx(logs.mean(), abs=0.01)
    p50, *_, p99 = found.strategy.percentiles
    assert p50.value_s is not None
    assert (p99.value_s, p99.withheld) == (None, "44 samples, 662 needed"), "what so few requests cannot claim"
    assert rows.result(found, model)["gain"] == found.gain.value


def test_a_rate_beyond_the_machine_is_overload_and_no_latency(place: station.Station, model: records.ModelRef) -> None:
    found, _ = measured(place, served(model, rate_per_s=50_000.0), 0.2)

    assert (found.gain, "overloaded" in found.flags) == (None, True)
    service = found.strategy_service
    assert service.backlog_per_s > 0.3 * 50_000
    assert service.answered_per_s < 20_000
    assert all((one.value_s, one.withheld) == (None, "overloaded") for one in found.strategy.percentiles)
    assert any("requests/s" in note and "the backlog grew by" in note for note in found.notes)
    assert rows.result(found, model)["gain"] is None
    document = records.to_document(found)
    assert records.from_document(records.ServerMeasurement, document) == found


def test_batches_and_the_cache_take_load_off(
    place: station.Station, model: records.ModelRef, rows: records.DatasetRef
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two instances need two CPUs")
    case = served(model, 2, rate_per_s=300.0, max_batch=4, max_wait_s=0.02, cache=2, zipf=1.0)
    case = dataclasses.replace(case, dataset=rows, input=records.InputSpec(batch=1, length="dataset", calls=8))
    found, _ = measured(place, case, 2.0)

    service = found.strategy_service
    assert 1.5 < service.mean_batch <= 4
    assert 0.1 < service.hit_share < 0.9
    assert any("answered by the cache" in note for note in found.notes)


def test_the_highest_rate_that_keeps_a_bound_is_found_on_each_side(
    place: station.Station, model: records.ModelRef
) -> None:
    found, _ = measured(place, served(model, bound_s=0.02, quantile=0.9), 20.0)

    if any("the time was over before" in note for note in found.notes):
        pytest.skip("this machine is too busy for a search of some seconds")
    for service in (found.baseline_service, found.strategy_service):
        assert service.rate_per_s is not None
        assert service.misses_per_s is not None
        assert service.rate_per_s < service.misses_per_s
        assert any(probe.holds for probe in service.probes)
    p90 = found.strategy.percentiles[1]
    assert p90.value_s is not None
    assert p90.value_s <= 0.02
    if found.gain is not None:
        rates = found.strategy_service.rate_per_s, found.baseline_service.rate_per_s
        assert found.gain.value == pytest.approx(rates[0] / rates[1], rel=0.5)  # type: ignore[operator]


def test_a_bound_below_one_calls_time_is_met_by_no_rate(place: station.Station, model: records.ModelRef) -> None:
    found, _ = measured(place, served(model, bound_s=1e-6, quantile=0.99), 5.0)

    assert (found.gain, found.flags[0]) == (None, "no rate")
    assert found.strategy_service.rate_per_s is None
    assert any("no rate meets p99 ≤ 0.001 ms: one call alone takes longer" in note for note in found.notes)


def test_a_search_with_too_little_time_says_how_many_requests_a_run_takes(
    place: station.Station, model: records.ModelRef
) -> None:
    found, _ = measured(place, served(model, bound_s=0.5, quantile=0.99), 0.01)

    assert found.gain is None
    assert any("none was tried; a run takes 737 requests or more" in note for note in found.notes)


def test_a_process_that_dies_under_load_is_seen(place: station.Station, model: records.ModelRef) -> None:
    def kill(progress: Any) -> None:
        import psutil

        nursery = place.nursery("torch").pid
        assert nursery is not None
        if "pair 2" in str(progress.get("phase")):
            psutil.Process(nursery).children()[0].kill()

    budget = records.Budget(precision=0.9, max_seconds=1.0)
    with place.exclusive(_nothing), pytest.raises(errors.ChildDied, match="SIGKILL"):
        server.measure(place, served(model, rate_per_s=50.0), budget, _nothing, kill)
