"""Made-up platforms and results of them, for tests that compare hardware."""

from __future__ import annotations

import dataclasses
from typing import Any

from storage import keys, records
from storage.views import ResultView
from tests import builders
from tests.factories import accuracy_view, failed_view, latency_view

AVX2 = ("avx", "avx2", "fma")
AVX512 = (*AVX2, "avx512bw", "avx512f")
CAPS = ("ATEN_CPU_CAPABILITY=avx2", "ONEDNN_MAX_CPU_ISA=AVX2")


def platform(
    cpu: str = "AMD EPYC 9B14", *, software: dict[str, Any] | None = None, **hardware: Any
) -> records.Platform:
    """A platform of one's own: `hardware` replaces fields of records.Hardware, `software` of records.Environment."""
    plain = builders.platform(cpu)
    return keys.platform(
        dataclasses.replace(plain.hardware, **hardware), dataclasses.replace(plain.environment, **(software or {}))
    )


def packages(**changes: str) -> dict[str, Any]:
    """The usual packages with other versions, for `software`."""
    return {"packages": {**builders.platform().environment.packages, **changes}}


EPYC = platform()
XEON = platform("Intel(R) Xeon(R) Platinum 8581C CPU @ 2.30GHz", memory_gib=64, isa=(*AVX512, "amx_int8"))
OLD = platform("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", isa=AVX2)
OLD_TORCH = platform(
    "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", isa=AVX2, software={**packages(torch="2.12.1"), "kernel": "5.15"}
)


def on(where: records.Platform, host: str | None) -> dict[str, Any]:
    """The fields of a view that say where it was measured."""
    return {
        "cpu": where.hardware.cpu,
        "hardware_key": where.hardware_key,
        "environment_key": where.environment_key,
        "platform_key": where.key,
        "host": host,
    }


def latency(where: records.Platform, gain: float = 2.0, *, host: str = "one", **given: Any) -> ResultView:
    """A gain with an interval of ±5 %."""
    return latency_view(**{**on(where, host), "gain": gain, "gain_low": gain * 0.95, "gain_high": gain * 1.05, **given})


def failed(where: records.Platform, *, host: str | None = "one", **given: Any) -> ResultView:
    """A case that has no number, and why."""
    return failed_view(**{**on(where, host), **given})


def accuracy(where: records.Platform, correct: int = 90, *, host: str = "one", **given: Any) -> ResultView:
    """So many of 100 rows right."""
    return accuracy_view(**{**on(where, host), "correct": correct, "accuracy": correct / 100, **given})
