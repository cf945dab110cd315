from __future__ import annotations

from scheduler import alike
from tests.unit.scheduler.fleet_hosts import host

HOSTS = [
    host("a"),
    host("twin"),
    host("b", packages={"torch": "2.12.1"}),
    host("c", packages={"torch": "2.12.1", "onnxruntime": "1.24"}),
    host("other", cpu="another CPU", packages={"torch": "2.11"}),
]


def named(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = next(one for one in HOSTS if one.name == name)
    return alike.shares_with(found, HOSTS), alike.differs_from(found, HOSTS)


def test_hosts_of_one_platform_share_it() -> None:
    assert named("a")[0] == ("twin",)
    assert named("b")[0] == ()


def test_hosts_of_one_hardware_with_other_software_are_told_in_what() -> None:
    assert named("a")[1] == ("torch 2.13.0 here, 2.12.1 on b, c", "onnxruntime none here, 1.24 on c")
    assert named("b")[1] == ("torch 2.12.1 here, 2.13.0 on a, twin", "onnxruntime none here, 1.24 on c")


def test_software_of_another_hardware_is_no_difference() -> None:
    assert named("other") == ((), ())


def test_instruction_sets_are_told_by_families_without_what_they_imply() -> None:
    x86 = ("amx_int8", "amx_tile", "avx", "avx2", "avx512_vnni", "avx512f", "avx_vnni", "f16c", "fma", "sse4_1")
    assert alike.isa_summary(x86) == ("amx (int8 tile)", "avx2", "avx512 (vnni f)", "avx (vnni)")
    assert alike.isa_summary(("avx", "sse4_1")) == ("avx", "sse4_1")
    assert alike.isa_summary(("asimd", "i8mm", "sve", "sve2", "svebf16")) == ("asimd", "i8mm", "sve (2 bf16)")
