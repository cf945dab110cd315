"""Floors and shares of the limit, from ceilings and work."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from scheduler import compare, limits
from storage.views import CeilingsView, ResultView
from tests import builders, factories

MEASURED = builders.measured_ceilings()
HARDWARE = "hardware00000001"
KNOWN = {
    HARDWARE: CeilingsView(
        job_id="c", hardware_key=HARDWARE, platform_key="p", host="here", finished_at=1.0, measurement=MEASURED
    )
}


def work(arithmetic: str, ops: float, bytes_: float) -> dict[str, Any]:
    return {"arithmetic": arithmetic, "ops": ops, "bytes": bytes_, "ops_mean": 2 * ops, "bytes_mean": bytes_}


def view(strategy: dict[str, Any] | None, baseline: dict[str, Any] | None = None, **given: Any) -> ResultView:
    document = {
        "strategy": {"facts": {} if strategy is None else {"work": strategy}},
        "baseline": {"facts": {} if baseline is None else {"work": baseline}},
    }
    return factories.latency_view(document=document, **given)


def test_a_call_of_many_operations_is_bound_by_computing() -> None:
    found = limits.floor(MEASURED, "fp32", ops=1e9, bytes_=40 << 20, threads=1)

    assert found is not None
    assert found.seconds == pytest.approx(0.01)
    assert found.bound == "compute"


def test_a_call_of_many_bytes_is_bound_by_memory() -> None:
    found = limits.floor(MEASURED, "fp32", ops=1e6, bytes_=1e9, threads=2)

    assert found is not None
    assert found.seconds == pytest.approx(1e9 / 15e9)
    assert found.bound == "memory"


def test_what_fits_into_a_cache_is_read_at_the_cache_s_rate() -> None:
    assert limits.bytes_per_s(MEASURED, 20 << 20, 1) == 50e9
    assert limits.bytes_per_s(MEASURED, 1 << 10, 1) == 50e9
    assert limits.bytes_per_s(MEASURED, 1 << 30, 1) == 10e9


def test_between_two_measured_sets_the_faster_rate_counts_so_that_a_floor_stays_one() -> None:
    assert limits.bytes_per_s(MEASURED, 100 << 20, 1) == 50e9


def test_a_precision_without_instructions_may_be_widened_to_float32() -> None:
    assert limits.ops_per_s(MEASURED, "bf16", 1) == 100e9
    assert limits.ops_per_s(MEASURED, "int8", 1) == 200e9


def test_float16_has_no_ceiling_and_so_no_floor() -> None:
    assert limits.floor(MEASURED, "fp16", ops=1e9, bytes_=1e6, threads=1) is None


@pytest.mark.parametrize(
    ("threads", "rate"), [(1, 100e9), (2, 200e9), (3, 300e9), (4, 350e9), (8, 350e9), (16, 350e9), (64, 350e9)]
)
def test_a_thread_count_that_was_not_measured_gets_an_upper_bound(threads: int, rate: float) -> None:
    products = [one for one in MEASURED.products if one.precision == "fp32"]
    eight = [builders._product("fp32", 8, 350e9), builders._product("fp32", 16, 300e9)]
    measured = builders.measured_ceilings(products=(*products, *eight))

    assert limits.ops_per_s(measured, "fp32", threads) == rate


def test_instances_share_the_machine_and_each_has_its_own_weights() -> None:
    one = limits.floor(MEASURED, "fp32", ops=1e9, bytes_=1e6, threads=1)
    two = limits.floor(MEASURED, "fp32", ops=1e9, bytes_=1e6, threads=1, instances=2)
    memory = limits.floor(MEASURED, "fp32", ops=1.0, bytes_=200e6, threads=1, instances=2)

    assert one is not None and two is not None and memory is not None
    assert two.seconds == pytest.approx(one.seconds)  # two threads compute twice as much
    assert memory.seconds == pytest.approx(400e6 / 15e9)  # together they are beyond the cache
    assert memory.bound == "memory"


def test_a_throughput_s_share_is_its_rows_over_those_of_the_floor() -> None:
    found = limits.share_of_throughput(
        MEASURED, work("fp32", 0.5e9, 1e6), batch=8, threads=1, instances=2, rows_per_s=800
    )

    assert found is not None
    assert found[0].seconds == pytest.approx(0.01)  # the mean call: 2 × 0.5e9
    assert found[1] == pytest.approx(800 / (2 * 8 / 0.01))


def test_a_throughput_result_carries_the_share_of_all_its_instances() -> None:
    loads = {"strategy": [400.0, 400.0], "baseline": [100.0]}
    document: dict[str, Any] = {f"{side}_load": {"each_per_s": each} for side, each in loads.items()}
    document |= {side: {"facts": {"work": work("fp32", 0.5e9, 1e6)}, "threads_set": 1} for side in loads}
    given: dict[str, Any] = {
        "kind": "throughput",
        "batch": 8,
        "throughput_per_s": 800.0,
        "baseline_throughput_per_s": 100.0,
    }
    (found,) = limits.results([factories.latency_view(document=document, **given)], KNOWN)

    assert found.floor_s == pytest.approx(0.01)
    assert found.limit_share == pytest.approx(800 / (2 * 8 / 0.01))
    assert found.baseline_limit_share == pytest.approx(100 / (8 / 0.01))


def test_a_result_carries_floor_share_and_bound() -> None:
    (found,) = limits.results([view(work("int8", 4e8, 1e6), work("fp32", 4e8, 4e6))], KNOWN)

    assert found.floor_s == pytest.approx(0.002)
    assert found.limit_share == pytest.approx(0.2)  # of 10 ms
    assert found.bound == "compute"
    assert found.baseline_limit_share == pytest.approx(0.2)  # 4 ms of 20 ms


def test_a_result_of_a_machine_without_ceilings_or_of_an_older_version_has_no_limit() -> None:
    bare = view(None)
    elsewhere = view(work("fp32", 4e8, 1e6), hardware_key="hardware00000002")

    assert limits.results([bare, elsewhere], KNOWN) == [bare, elsewhere]
    assert bare.limit_share is None


def test_a_compared_row_is_measured_by_its_own_median_over_replicas() -> None:
    views = [view(work("fp32", 4e8, 1e6), latency_p50_s=seconds) for seconds in (0.010, 0.030)]

    (row,) = limits.comparisons(compare.compare(views, lambda _: None), views, KNOWN)

    assert row.latency_p50_s == pytest.approx(0.020)
    assert row.limit_share == pytest.approx(0.004 / 0.020)


def test_a_share_of_disturbed_ceilings_says_so() -> None:
    disturbed = builders.measured_ceilings(flags=("disturbed",))
    known = {HARDWARE: dataclasses.replace(KNOWN[HARDWARE], measurement=disturbed)}
    views = [view(work("fp32", 4e8, 1e6))]
    rows = compare.compare(views, lambda _: None)

    assert limits.DISTURBED in limits.comparisons(rows, views, known)[0].notes
    assert limits.DISTURBED not in limits.comparisons(rows, views, KNOWN)[0].notes
