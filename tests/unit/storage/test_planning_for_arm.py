"""What planning says about hosts that nobody here has: AWS Graviton, by what their /proc/cpuinfo tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from storage import records, strategies
from storage.catalogue import registry
from storage.catalogue import torch as catalogue
from tests.unit.worker import hosts
from worker import hardware

RUNTIMES = ("torch", "inductor", "onnxruntime", "openvino")
BUILT_IN = [name for name in registry.descriptions() if name.partition("/")[0] in RUNTIMES]
ENVIRONMENT = records.Environment(
    python="3.11.9", packages=dict.fromkeys(registry.PACKAGES, "1.0"), kernel="6.1.0-25-cloud-arm64"
)

NEOVERSE_V1 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 "
    "sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs paca pacg dcpodp svei8mm svebf16 i8mm bf16 dgh rng"
)
"""Features of a Graviton3's cores; part number 0xd40."""


@pytest.fixture
def graviton2(tmp_path: Path) -> records.Hardware:
    return hardware.probe({}, root=hosts.graviton2(tmp_path), affinity=(0, 1), architecture="aarch64")


@pytest.fixture
def graviton3(tmp_path: Path) -> records.Hardware:
    """The same machine with the later core."""
    root = hosts.graviton2(tmp_path)
    told = (root / "proc/cpuinfo").read_text()
    features = next(line for line in told.splitlines() if line.startswith("Features"))
    told = told.replace(features, f"Features\t: {NEOVERSE_V1}").replace("0xd0c", "0xd40")
    (root / "proc/cpuinfo").write_text(told)
    return hardware.probe({}, root=root, affinity=(0, 1), architecture="aarch64")


def reasons(host: records.Hardware, texts: list[str]) -> dict[str, str]:
    """Why the host cannot run them, of those that it cannot."""
    found = {text: strategies.unsupported(strategies.parse(text), host, ENVIRONMENT) for text in texts}
    return {text: reason for text, reason in found.items() if reason is not None}


def slow(host: records.Hardware) -> set[str]:
    """What the host would run emulated."""
    parsed = {name: strategies.parse(name) for name in BUILT_IN}
    return {name for name, strategy in parsed.items() if strategies.caution(strategy, host)}


def values() -> list[str]:
    """Every pair with every word that one of its options takes."""
    return [
        f"{name}:{option.name}={value}"
        for name in BUILT_IN
        for option in registry.describe(name).options
        for value in option.choices
    ]


def test_a_graviton3_is_known_by_its_core_and_features(graviton3: records.Hardware) -> None:
    assert (graviton3.cpu, graviton3.architecture) == ("Neoverse-V1", "aarch64")
    assert {"asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "svebf16", "svei8mm"} <= set(graviton3.isa)


def test_every_pair_but_those_of_x86_runs_on_a_graviton3_and_none_is_slow(graviton3: records.Hardware) -> None:
    assert reasons(graviton3, BUILT_IN) == {
        pair: f"{pair} exists on x86_64 only, this is aarch64" for pair in ("inductor/int8-static", "openvino/bf16")
    }
    assert slow(graviton3) == set()


def test_a_graviton2_lacks_bfloat16(graviton2: records.Hardware) -> None:
    found = reasons(graviton2, BUILT_IN)
    assert set(found) == {"inductor/int8-static", "openvino/bf16"}
    # float16 it has
    assert slow(graviton2) - {"openvino/bf16"} == {"torch/bf16", "inductor/bf16", "torch/int4-weight-only"}


def test_option_values_that_belong_to_x86_are_refused_with_the_reason(graviton3: records.Hardware) -> None:
    texts = [text for text in values() if not text.startswith("inductor/int8-static")]
    expected = {
        f"torch/{precision}:engine={engine}": f"torch/{precision}:engine={engine}: engine={engine} exists on x86_64 "
        "only, this is aarch64"
        for precision in ("int8-dynamic", "int8-static")
        for engine in ("x86", "fbgemm")
    }
    by = "inductor/int8-dynamic:by=pt2e"
    expected[by] = f"{by}: by=pt2e exists on x86_64 only, this is aarch64"
    assert reasons(graviton3, texts) == expected


def test_the_engines_that_arm_has_are_supported_there(graviton2: records.Hardware) -> None:
    texts = [f"torch/int8-dynamic:engine={engine}" for engine in ("auto", "qnnpack", "onednn")]
    assert reasons(graviton2, texts) == {}


@pytest.mark.parametrize("step", list(registry.transforms_by_name()))
def test_transforms_run_on_arm(step: str, graviton2: records.Hardware) -> None:
    assert reasons(graviton2, [f"{step}+torch/int8-dynamic"]) == {}


def test_a_transform_does_not_hide_what_its_runtime_lacks(graviton2: records.Hardware) -> None:
    text = "prune-ffn:0.3+torch/int8-static:engine=x86"
    assert "exists on x86_64 only" in reasons(graviton2, [text])[text]


def test_auto_says_in_words_that_it_takes_qnnpack_on_arm() -> None:
    assert catalogue.AUTO_ENGINES == {"x86_64": "x86", "aarch64": "qnnpack"}
    assert "auto takes x86 on x86_64, qnnpack on aarch64" in catalogue.ENGINE.help
    for architecture, engine in catalogue.AUTO_ENGINES.items():
        assert architecture in catalogue.ENGINE.needs_arch[engine]


def test_an_extra_that_an_arm_host_lacks_is_named_with_what_installs_it(graviton3: records.Hardware) -> None:
    without = {name: version for name, version in ENVIRONMENT.packages.items() if name != "torchao"}
    strategy = strategies.parse("torch/int4-weight-only")
    reason = strategies.unsupported(strategy, graviton3, replace(ENVIRONMENT, packages=without))
    assert reason == ("torch/int4-weight-only needs torchao, not installed here; pip install 'quantfleet[torchao]'")
