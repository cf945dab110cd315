from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import labels
from storage import keys, records
from tests import fleets
from tests.fleets import AVX2, AVX512, CAPS, EPYC, OLD, XEON, packages, platform


def lines(*platforms: records.Platform) -> list[tuple[str, ...]]:
    found = labels.labels(platforms)
    return [found[one.key] for one in platforms]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Intel(R) Xeon(R) Platinum 8581C CPU @ 2.30GHz", "Xeon 8581C"),
        ("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", "Xeon E5-2686 v4"),
        ("Intel(R) Xeon(R) Processor @ 2.60GHz", "Xeon"),
        ("Intel Xeon Processor (Skylake, IBRS)", "Xeon Skylake"),
        ("13th Gen Intel(R) Core(TM) i7-1370P", "Core i7-1370P"),
        ("Intel(R) N100", "N100"),
        ("AMD EPYC 7B12 64-Core Processor", "EPYC 7B12"),
        ("AMD EPYC-Rome Processor", "EPYC-Rome"),
        ("AMD EPYC Processor (with IBPB)", "EPYC"),
        ("AMD Ryzen 7 PRO 5850U with Radeon Graphics", "Ryzen 7 PRO 5850U"),
        ("Cortex-A53 + Cortex-A72", "Cortex-A53 + Cortex-A72"),
        ("Neoverse-N1", "Neoverse-N1"),
        ("AMD Processor", "AMD Processor"),  # nothing would be left
        ("unknown", "unknown CPU"),
        ("", "unknown CPU"),
    ],
)
def test_a_cpu_is_called_by_what_tells_it_from_others(name: str, short: str) -> None:
    assert labels.short_cpu(name) == short


def test_unlike_cpus_need_no_more_than_their_names() -> None:
    assert lines(EPYC, XEON, OLD) == [("EPYC 9B14",), ("Xeon 8581C",), ("Xeon E5-2686 v4",)]


def test_a_capped_machine_says_so_even_where_its_cpu_is_the_only_one() -> None:
    capped = platform(caps=CAPS, isa=AVX2)
    assert lines(capped, XEON) == [("EPYC 9B14", "capped to AVX2"), ("Xeon 8581C",)]
    assert lines(EPYC, capped) == [("EPYC 9B14",), ("EPYC 9B14", "capped to AVX2")]


def test_caps_that_leave_the_same_sets_are_told_apart_by_library() -> None:
    aten = platform(caps=("ATEN_CPU_CAPABILITY=avx2",), isa=AVX2)
    fbgemm = platform(caps=("FBGEMM_ENABLE_INSTRUCTIONS=AVX2",), isa=AVX2)
    assert lines(aten, fbgemm) == [
        ("EPYC 9B14", "capped to AVX2", "ATen=avx2"),
        ("EPYC 9B14", "capped to AVX2", "FBGEMM=AVX2"),
    ]


@pytest.mark.parametrize(
    ("changes", "here", "there"),
    [
        ({"isa": AVX512}, "AVX-512 BF16", "AVX-512"),
        ({"memory_gib": 16}, "8 GiB", "16 GiB"),
        ({"physical_cores": 2, "logical_cores": 2}, "1 core, 2 logical", "2 cores"),
        ({"quota_cores": 1.5}, "no quota", "quota 1.5 cores"),
        ({"virtualization": "kvm"}, "bare metal", "kvm"),
        ({"cache_bytes": {"l2": 2 << 20}}, "L2 1,024 KiB", "L2 2,048 KiB"),
        ({"stepping": 2}, "model 25/17/1", "model 25/17/2"),
        ({"numa_nodes": 2}, "NUMA nodes: 1", "NUMA nodes: 2"),
    ],
)
def test_one_cpu_in_unlike_machines_is_told_apart_by_what_differs(
    changes: dict[str, Any], here: str, there: str
) -> None:
    assert lines(EPYC, platform(**changes)) == [("EPYC 9B14", here), ("EPYC 9B14", there)]


@pytest.mark.parametrize(
    ("changes", "here", "there"),
    [
        (packages(torch="2.12.1"), "torch 2.13.0", "torch 2.12.1"),
        (packages(openvino="2026.4"), "no openvino", "openvino 2026.4"),
        ({"python": "3.13.1"}, "Python 3.11.9", "Python 3.13.1"),
        ({"allocator": "libjemalloc.so.2"}, "no allocator", "allocator libjemalloc.so.2"),
        ({"settings": {"OMP_PROC_BIND": "close"}}, "no OMP_PROC_BIND", "OMP_PROC_BIND close"),
        ({"kernel": "6.8"}, "kernel 6.1", "kernel 6.8"),
    ],
)
def test_one_hardware_with_several_environments_is_told_apart_by_software(
    changes: dict[str, Any], here: str, there: str
) -> None:
    assert lines(EPYC, platform(software=changes)) == [("EPYC 9B14", here), ("EPYC 9B14", there)]


def test_a_group_is_split_step_by_step_and_no_further_than_needed() -> None:
    other = platform(software={**packages(torch="2.12.1"), "kernel": "6.8"})
    larger = platform(memory_gib=64, software=packages(torch="2.12.1"))
    assert lines(EPYC, other, larger) == [
        ("EPYC 9B14", "8 GiB", "torch 2.13.0"),
        ("EPYC 9B14", "8 GiB", "torch 2.12.1"),
        ("EPYC 9B14", "64 GiB"),
    ]


def test_cpus_whose_short_names_agree_show_their_clocks() -> None:
    slow, fast = (platform(f"Intel(R) Xeon(R) Processor @ {clock}GHz") for clock in ("2.60", "3.10"))
    assert lines(slow, fast) == [("Xeon", "2.60GHz"), ("Xeon", "3.10GHz")]


HARDWARE = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.sampled_from(["AMD EPYC 9B14", "AMD EPYC 9B14 96-Core Processor", "unknown"]),
        "isa": st.sampled_from([AVX2, AVX512, (*AVX512, "f16c")]),
        "caps": st.sampled_from([CAPS, CAPS[:1]]),
        "vendor": st.just("GenuineIntel"),
        "architecture": st.just("aarch64"),
        "sockets": st.just(2),
        "memory_gib": st.sampled_from([1, 64]),
        "quota_cores": st.just(1.5),
    },
)
SOFTWARE = st.fixed_dictionaries(
    {},
    optional={
        "python": st.just("3.13.0"),
        "packages": st.sampled_from([{}, {"torch": "2.12.1"}]),
        "openmp": st.just("libiomp5.so"),
        "settings": st.sampled_from([{"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "passive"}]),
    },
)


@given(st.lists(st.tuples(HARDWARE, SOFTWARE), min_size=1, max_size=8))
def test_no_two_platforms_have_one_label(changes: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    platforms = {
        one.key: one
        for hardware, software in changes
        for one in [
            keys.platform(
                dataclasses.replace(EPYC.hardware, **hardware), dataclasses.replace(EPYC.environment, **software)
            )
        ]
    }
    found = labels.labels(platforms.values())
    assert len(set(found.values())) == len(platforms)


def test_software_differences_name_the_fact_its_values_and_who_has_them() -> None:
    environments = {"A": EPYC.environment, "B": XEON.environment, "C": fleets.OLD_TORCH.environment}
    assert labels.software_differences(environments) == [
        "torch: 2.13.0 on A, B; 2.12.1 on C",
        "kernel: 6.1 on A, B; 5.15 on C",
    ]
    assert labels.same_software(environments.values()) == ["transformers 5.23.0", "Python 3.11.9"]


def test_a_package_that_one_lacks_differs_too() -> None:
    environments = {"A": EPYC.environment, "B": platform(software=packages(openvino="2026.4")).environment}
    assert labels.software_differences(environments) == ["openvino: none on A; 2026.4 on B"]
