"""Studies, model folders and platforms for the tests of planning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scheduler import study
from storage import keys, records

PROJECT = Path(__file__).resolve().parents[3]

MINIMAL = "name: s\nmodels:\n  m: {random: bert}\nstrategies: [torch/fp32]\n"
"""The smallest study."""


def write(folder: Path, text: str, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str, **given: Any) -> study.Study:
    return study.load(write(folder, text), **given)


def model_folder(folder: Path, config: Mapping[str, Any] | None = None) -> Path:
    """A classifier's folder with a tiny safetensors file that is well formed."""
    folder.mkdir(parents=True)
    default = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(default if config is None else config))
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    return folder


def hardware(**changes: Any) -> records.Hardware:
    facts: dict[str, Any] = {
        "cpu": "test CPU",
        "vendor": "test",
        "family": 25,
        "model": 1,
        "stepping": 0,
        "architecture": "x86_64",
        "isa": ("avx2", "avx512_vnni", "avx512_bf16"),
        "physical_cores": 4,
        "logical_cores": 8,
        "memory_gib": 16,
    }
    return records.Hardware(**{**facts, **changes})


def platform(*, without: tuple[str, ...] = (), **changes: Any) -> records.Platform:
    names = [name for name in ("torch", "transformers", "onnx", "onnxruntime", "onnxscript") if name not in without]
    environment = records.Environment(python="3.11", packages=dict.fromkeys(names, "1.0"), kernel="6.1")
    return keys.platform(hardware(**changes), environment)
