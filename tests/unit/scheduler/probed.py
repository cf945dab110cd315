"""What the worker says of a machine, without asking one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from scheduler import worker_process
from storage import records

HASWELL = records.Hardware(
    cpu="Intel(R) Xeon(R) CPU E5-2680 v3 @ 2.50GHz",
    vendor="GenuineIntel",
    family=6,
    model=63,
    stepping=2,
    architecture="x86_64",
    isa=("avx", "avx2", "f16c", "fma", "sse4_1"),
    caps=(),
    physical_cores=12,
    logical_cores=24,
    cache_bytes={"l1d": 384 << 10, "l3": 30 << 20},
    memory_gib=64,
)
TORCH_ONLY = records.Environment(
    python="3.11.7", packages={"torch": "2.13.0", "transformers": "5.23.0"}, kernel="6.1", settings={"OMP_X": "[red]"}
)


def probed(hardware: records.Hardware = HASWELL, environment: records.Environment = TORCH_ONLY) -> dict[str, Any]:
    """The worker's answer to `probe`."""
    documents = {"hardware": records.to_document(hardware), "environment": records.to_document(environment)}
    return {**documents, "hardware_key": "h" * 16, "environment_key": "e" * 16, "platform_key": "p" * 16}


def invoke(
    monkeypatch: pytest.MonkeyPatch, app: typer.Typer, answer: Mapping[str, Any], *words: str, columns: int = 80
) -> tuple[Result, list[tuple[str, Mapping[str, Any]]]]:
    """What a command does where the worker gives that answer, and what it asked the worker."""
    asked: list[tuple[str, Mapping[str, Any]]] = []

    def ask(command: str, options: Mapping[str, Any], on_event: object = None) -> Mapping[str, Any]:
        asked.append((command, options))
        return answer

    monkeypatch.setattr(worker_process, "ask", ask)
    monkeypatch.setenv("COLUMNS", str(columns))
    return CliRunner().invoke(app, list(words)), asked
