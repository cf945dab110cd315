"""A weight as `quantfleet model inspect --layer … --json` prints it, and as a report reads it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from scheduler.report import weights


def document(**changes: Any) -> dict[str, Any]:
    scheme = {
        "granularity": "tensor",
        "percentile": 100.0,
        "dtype": "int8",
        "scale": [0.01, 0.01],
        "zero_point": [0, 0],
        "max_error": 0.005,
        "rms_error": 0.002,
        "sqnr_db": 27.1,
        "clipped": 0.001,
        "levels": 99,
        "integers": {"first": -128, "counts": [1] * 256},
        "errors": {"counts": [1, 2, 3], "beyond": 0},
    }
    return {
        "schema": 1,
        "layer": "classifier",
        "type": "Linear",
        "shape": [4, 8],
        "min": -1.0,
        "max": 0.5,
        "mean": 0.0,
        "std": 0.1,
        "values": {"edges": [-1.0, 0.0, 0.5], "counts": [20, 12]},
        "error_edges": [-0.01, -0.005, 0.005, 0.01],
        "schemes": [{"name": name, **scheme} for name in ("article", "symmetric", "per channel")],
        **changes,
    }


def outlined(**changes: Any) -> dict[str, Any]:
    """A weight as a tensor job stores it."""
    whole = document()
    kept = {name: whole["schemes"][0][name] for name in ("percentile", "max_error", "sqnr_db", "clipped", "levels")}
    kept["errors"] = {"counts": [5, 6]}
    pairs = {"first": -128, "step": 2, "counts": [7, 9]}
    return {
        **{name: whole[name] for name in ("layer", "type", "shape", "min", "max", "std")},
        "values": {"edges": [-1.0, 0.5], "counts": [1, 2, 3]},
        "error_edges": [-0.01, 0.01],
        "schemes": [
            {"name": "symmetric", **kept, "integers": pairs},
            {"name": "per channel", **kept, "integers": None},
        ],
        **changes,
    }


def _read() -> weights.Weight:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weight.json"
        path.write_text(json.dumps(document()))
        return weights.read(path)


WEIGHT = _read()
