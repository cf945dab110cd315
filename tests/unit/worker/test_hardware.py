from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage import keys, records
from tests.unit.worker import hosts
from worker import hardware, isa

ZEN4 = {"sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}
ZEN4 |= {"avx512_bf16", "avx512_vbmi2", "sse4_2", "aes"}


def test_an_arm_host_is_named_by_its_core_and_features(tmp_path: Path) -> None:
    seen = hardware.probe({}, root=hosts.graviton2(tmp_path), affinity={0, 1}, architecture="aarch64")

    assert (seen.cpu, seen.vendor, seen.architecture) == ("Neoverse-N1", "ARM", "aarch64")
    assert (seen.family, seen.model, seen.stepping) == (8, 0xD0C, 0x31)
    assert seen.isa == ("asimd", "asimddp", "asimdhp", "fphp")
    assert (seen.physical_cores, seen.logical_cores, seen.memory_gib) == (2, 2, 8)
    assert seen.cache_bytes == {"l1d": 128 << 10, "l2": 2 << 20, "l3": 32 << 20}
    assert seen.virtualization == "amazon"


def test_an_avx2_host_has_no_avx512_and_shares_its_caches(tmp_path: Path) -> None:
    seen = hardware.probe({}, root=hosts.rome(tmp_path), affinity=range(4), architecture="x86_64")

    assert seen.cpu == "AMD EPYC 7302P 16-Core Processor"
    assert (seen.family, seen.model, seen.stepping) == (23, 49, 0)
    assert seen.isa == ("avx", "avx2", "f16c", "fma", "sse4_1")
    assert (seen.physical_cores, seen.logical_cores, seen.sockets, seen.numa_nodes) == (2, 4, 1, 2)
    assert seen.cache_bytes == {"l1d": 64 << 10, "l2": 1 << 20, "l3": 16 << 20}
    assert (seen.memory_gib, seen.quota_cores, seen.virtualization) == (63, None, None)


def test_only_the_cpus_that_the_affinity_allows_count(tmp_path: Path) -> None:
    seen = hardware.probe({}, root=hosts.rome(tmp_path), affinity={0, 2})

    assert (seen.physical_cores, seen.logical_cores, seen.numa_nodes) == (1, 2, 1)
    assert seen.cache_bytes["l2"] == 512 << 10


def test_a_quota_above_the_own_group_counts_and_the_tightest_wins(tmp_path: Path) -> None:
    root = hosts.rome(tmp_path)
    groups = {"work.slice/cpu.max": "150000 100000\n", "work.slice/bench.scope/cpu.max": "max 100000\n"}
    hosts.write(root / "sys/fs/cgroup", groups)
    assert hardware.probe({}, root=root, affinity={0}).quota_cores == 1.5

    hosts.write(root / "sys/fs/cgroup", {"work.slice/bench.scope/cpu.max": "50000 100000\n"})
    assert hardware.quota(root) == 0.5


def test_a_quota_of_cgroup_v1_is_seen(tmp_path: Path) -> None:
    root = hosts.write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/bench\n0::/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/bench/cpu.cfs_quota_us": "25000\n",
            "sys/fs/cgroup/cpu,cpuacct/bench/cpu.cfs_period_us": "50000\n",
        },
    )
    assert hardware.quota(root) == 0.5


def test_a_memory_limit_counts_as_the_machines_memory(tmp_path: Path) -> None:
    root = hosts.rome(tmp_path)
    hosts.write(root, {"sys/fs/cgroup/work.slice/bench.scope/memory.max": str(4 << 30)})
    assert hardware.probe({}, root=root, affinity={0}).memory_gib == 4


def test_clock_rates_do_not_change_the_key(tmp_path: Path) -> None:
    slow = hardware.probe({}, root=hosts.rome(tmp_path / "slow"), affinity=range(4))
    fast = hardware.probe({}, root=hosts.rome(tmp_path / "fast", mhz="3300.000"), affinity=range(4))
    assert keys.hardware_key(slow) == keys.hardware_key(fast)


def test_the_same_machine_gets_the_same_key_twice_and_through_a_document() -> None:
    first, second = hardware.probe(os.environ), hardware.probe(os.environ)
    again = records.from_document(records.Hardware, records.to_document(second))
    assert keys.hardware_key(first) == keys.hardware_key(again)
    assert first.logical_cores == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("aten", "onednn", "fbgemm", "gone"),
    [
        ("avx512", "AVX512_CORE_VNNI", "AVX512_E1", {"avx512_bf16"}),
        ("avx512", "AVX512_CORE", "AVX512", {"avx512_bf16", "avx512_vnni"}),
        ("avx2", "AVX2", "AVX2", {flag for flag in ZEN4 if flag.startswith("avx512")}),
        ("default", "SSE41", "AVX2", ZEN4 - {"sse4_1"}),
    ],
)
def test_a_stand_in_has_the_instruction_sets_of_what_it_stands_for(
    aten: str, onednn: str, fbgemm: str, gone: set[str]
) -> None:
    caps = {"ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn, "FBGEMM_ENABLE_INSTRUCTIONS": fbgemm}
    relevant = ZEN4 - {"avx512_vbmi2", "sse4_2", "aes"}
    assert set(isa.left(ZEN4, caps)) == relevant - gone


def test_stand_ins_of_one_machine_have_keys_of_their_own(tmp_path: Path) -> None:
    root = hosts.rome(tmp_path)
    settings = [
        {},
        {"ATEN_CPU_CAPABILITY": "avx2"},
        {"ATEN_CPU_CAPABILITY": "default"},
        {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    ]
    found = [keys.hardware_key(hardware.probe(environ, root=root, affinity={0})) for environ in settings]
    assert len(set(found)) == len(settings)


def test_a_value_that_the_library_ignores_hides_nothing() -> None:
    ignored = {"ATEN_CPU_CAPABILITY": "AVX2", "ONEDNN_MAX_CPU_ISA": "pentium", "OMP_NUM_THREADS": "1"}
    assert isa.left(ZEN4, ignored) == isa.left(ZEN4, {})
    assert isa.caps(ignored) == ("ATEN_CPU_CAPABILITY=AVX2", "ONEDNN_MAX_CPU_ISA=pentium")


def test_settings_hide_only_instruction_sets_that_are_known() -> None:
    known = {*isa.X86, *isa.ARM}
    assert all(set(hidden) <= known for values in isa.HIDDEN.values() for hidden in values.values())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/class/dmi/id/product_name": "m6g.metal", "sys/class/dmi/id/sys_vendor": "Amazon EC2"}, None),
        ({"sys/class/dmi/id/sys_vendor": "QEMU", ".dockerenv": ""}, "docker on qemu"),
        ({"sys/class/dmi/id/sys_vendor": "QEMU", "proc/1/cgroup": "0::/kubepods/pod1"}, "kubernetes on qemu"),
    ],
)
def test_hypervisor_and_container_are_told_apart(tmp_path: Path, files: dict[str, str], expected: str | None) -> None:
    root = hosts.write(hosts.graviton2(tmp_path), files)
    (root / "sys/class/dmi/id/product_name").write_text(files.get("sys/class/dmi/id/product_name", ""))
    assert hardware.probe({}, root=root, affinity={0}).virtualization == expected


def test_a_host_that_tells_nothing_still_has_a_fingerprint(tmp_path: Path) -> None:
    seen = hardware.probe({}, root=tmp_path, affinity={0, 1})
    assert (seen.cpu, seen.isa, seen.physical_cores, seen.memory_gib) == ("unknown", (), 2, 1)
