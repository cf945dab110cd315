"""Why gains differ between platforms: facts from stored results, inferences apart from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from scheduler import compare, limits, reasons
from scheduler.across import across
from scheduler.cli import across_reasons
from storage import records
from storage.views import CeilingsView, ResultView
from tests import builders
from tests.fleets import AVX512, EPYC, OLD, XEON, latency, platform

BF16 = "torch/bf16"


def told(
    views: list[ResultView], known: limits.Known | None = None, *more: records.Platform
) -> list[reasons.Difference]:
    rows = sorted(compare.compare(views, lambda _job: None), key=compare.case_order)
    return reasons.explain(across(rows, [EPYC, XEON, OLD, *more]), views, known or {})


def with_facts(view: ResultView, strategy: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> ResultView:
    document = {**view.document}
    for side, facts in (("strategy", strategy), ("baseline", baseline or {})):
        document[side] = {**document.get(side, {}), "facts": facts}
    return dataclasses.replace(view, document=document)


def ceilings(where: records.Platform, **changes: Any) -> CeilingsView:
    return CeilingsView(
        job_id="c",
        hardware_key=where.hardware_key,
        platform_key=where.key,
        host="here",
        finished_at=1.0,
        measurement=builders.measured_ceilings(**changes),
    )


def test_only_gains_beyond_both_intervals_are_explained() -> None:
    assert told([latency(EPYC, 2.0), latency(XEON, 2.1)]) == []
    (found,) = told([latency(EPYC, 2.0), latency(XEON, 3.0)])
    assert (found.high, found.low, found.gain_high, found.gain_low) == ("Xeon 8581C", "EPYC 9B14", 3.0, 2.0)


def test_kernels_that_ran_are_facts_where_both_hosts_tell_them() -> None:
    here = with_facts(latency(EPYC, 2.0), {"kernels": {"brgemm_avx2": 38}, "engine": "x86", "load": 1}, {"engine": "x"})
    there = with_facts(latency(XEON, 3.0), {"kernels": {"brgemm_avx512_vnni": 38}, "engine": "x86", "load": 2})
    (found,) = told([here, there])

    kernels = [fact for fact in found.facts if fact.startswith("kernels of the strategy")]
    assert kernels == [
        'kernels of the strategy: {"brgemm_avx512_vnni": 38} on Xeon 8581C, {"brgemm_avx2": 38} on EPYC 9B14'
    ]
    assert not [fact for fact in found.facts if "engine" in fact or "load" in fact]


def test_instruction_sets_that_only_one_has_are_facts_and_what_a_strategy_lacks_is_inferred() -> None:
    new = platform("new CPU", isa=(*AVX512, "avx512_bf16"))
    (found,) = told([latency(OLD, 0.3, strategy=BF16), latency(new, 1.5, strategy=BF16)], None, new)

    assert [fact for fact in found.facts if "instruction sets" in fact] == [
        "instruction sets of new alone: avx512_bf16, avx512bw, avx512f"
    ]
    assert any("torch/bf16 runs emulated" in one and one.startswith("on Xeon E5") for one in found.inferences)


def test_whose_times_make_the_difference_is_inferred() -> None:
    slow_baseline = latency(EPYC, 4.0, baseline_latency_p50_s=0.040, latency_p50_s=0.010)
    plain = latency(XEON, 2.0, baseline_latency_p50_s=0.020, latency_p50_s=0.010)
    (found,) = told([slow_baseline, plain])
    assert "mostly the baseline's doing: it is ×2.00 slower on EPYC 9B14" in found.inferences

    slow_strategy = latency(XEON, 2.0, baseline_latency_p50_s=0.040, latency_p50_s=0.020)
    (found,) = told([slow_baseline, slow_strategy])
    assert "mostly the strategy's doing: it is ×2.00 slower on Xeon 8581C" in found.inferences


def test_ceilings_are_facts_and_their_ratio_is_what_a_gain_would_follow() -> None:
    strong = builders.measured_ceilings()
    weak = tuple(
        dataclasses.replace(one, ops_per_s=one.ops_per_s / 2) if one.precision == "int8" else one
        for one in strong.products
    )
    known = {EPYC.hardware_key: ceilings(EPYC), XEON.hardware_key: ceilings(XEON, products=weak)}
    (found,) = told([latency(EPYC, 3.0), latency(XEON, 1.5)], known)

    assert "int8 products at most, 1 thread: 200 GOP/s on EPYC 9B14, 100 GOP/s on Xeon 8581C" in found.facts
    assert (
        "int8 products are faster than fp32 ones by ×2.00 on EPYC 9B14, ×1.00 on Xeon 8581C: gains follow that"
        in found.inferences
    )


def test_a_model_that_fits_into_one_cache_alone_is_inferred_from_sizes() -> None:
    large = platform("large cache", cache_bytes={"l3": 256 << 20})
    small = platform("small cache", cache_bytes={"l3": 8 << 20})
    views = [latency(large, 1.2), latency(small, 2.4)]
    (found,) = told(views, None, large, small)

    assert "last-level cache: 8.39 MB on small cache, 268 MB on large cache" in found.facts
    assert "the baseline's 91.1 MB fit into the last-level cache on large cache alone" in found.inferences


def test_the_largest_differences_come_first_and_not_too_many() -> None:
    views = [
        latency(where, gain, input=f"b1×l{length}", length=length)
        for length in range(1, 15)
        for where, gain in ((EPYC, 2.0), (XEON, 2.0 + length))
    ]
    found = told(views)

    assert len(found) == reasons.MOST
    assert [one.gain_high for one in found] == sorted((one.gain_high for one in found), reverse=True)


def test_what_is_printed_marks_what_is_inferred() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(across_reasons.render(told([latency(EPYC, 2.0), latency(XEON, 3.0)]), several=True))
        console.print(across_reasons.render([], several=True))
        console.print(across_reasons.render([], several=False))
    text = capture.get()

    assert "×3.00 on Xeon 8581C, ×2.00 on EPYC 9B14" in text
    assert "→ inferred" in text
    assert "no gain differs" in text
    assert "one platform only" in text


def test_what_ran_otherwise_between_two_results_of_one_case_is_told_where_both_tell_it() -> None:
    then = with_facts(latency(EPYC), {"kernels": {"brgemm": 38}, "engine": "x86"}, {"vectors": "avx2"})
    now = with_facts(latency(EPYC), {"kernels": {"gemm_ref": 38}, "engine": "x86", "ran": "x"}, {"vectors": "avx512"})
    assert reasons.ran_otherwise(then, now) == [
        'kernels of the strategy: {"brgemm": 38} → {"gemm_ref": 38}',
        "vectors of the baseline: avx2 → avx512",
    ]
