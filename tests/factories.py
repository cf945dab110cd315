"""Small makers of records and views for tests; every field can be given, the rest is plausible."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from storage.views import Predictions, ResultView

_numbers = itertools.count(1)


def percentiles(withheld: Mapping[float, str] | None = None) -> list[dict[str, Any]]:
    """The percentiles of one side as its document holds them."""
    reasons = withheld or {}
    return [{"q": q, "value_s": None if q in reasons else 0.01, "withheld": reasons.get(q)} for q in (0.5, 0.9, 0.95)]


def latency_view(*, withheld: Mapping[float, str] | None = None, **given: Any) -> ResultView:
    """A finished latency job: gain ×2.00 [1.90, 2.11] of 5 pairs, 10 ms against 20 ms."""
    document = {"strategy": {"percentiles": percentiles(withheld)}, "baseline": {"percentiles": percentiles()}}
    fields: dict[str, Any] = {
        **_common("latency"),
        "threads": 1,
        "batch": 1,
        "length": 16,
        "padding": "longest",
        "input": "b1×l16",
        "gain": 2.0,
        "gain_low": 1.9,
        "gain_high": 2.105,
        "pairs": 5,
        "rounds": 25,
        "latency_p50_s": 0.010,
        "latency_p90_s": 0.011,
        "latency_p95_s": 0.0115,
        "baseline_latency_p50_s": 0.020,
        "baseline_latency_p90_s": 0.022,
        "baseline_latency_p95_s": 0.023,
        "throughput_per_s": 100.0,
        "baseline_throughput_per_s": 50.0,
        "artifact_bytes": 58_700_000,
        "baseline_artifact_bytes": 91_100_000,
        "resident_peak_bytes": 400_000_000,
        "baseline_resident_peak_bytes": 450_000_000,
        "threads_observed": 1,
        "input_digest": "input-a",
        "document": document,
    }
    return ResultView(**{**fields, **given})


def accuracy_view(**given: Any) -> ResultView:
    """A finished accuracy job: 90 of 100 rows right."""
    fields: dict[str, Any] = {
        **_common("accuracy"),
        "accuracy": 0.9,
        "correct": 90,
        "rows": 100,
        "dataset_digest": "data-a",
        "artifact_bytes": 58_700_000,
        "resident_peak_bytes": 390_000_000,
        "document": {"strategy": {}},
    }
    return ResultView(**{**fields, **given})


def failed_view(state: str = "unsupported", message: str = "this CPU lacks avx2", **given: Any) -> ResultView:
    """A latency job that ended without a number."""
    numbers = dict.fromkeys(_METRICS)
    return latency_view(**{**numbers, "state": state, "message": message, "document": {}, **given})


def answers(correct: Sequence[bool]) -> Predictions:
    """Predictions that are right where told so; the right class is always 1."""
    return Predictions(predictions=tuple(int(right) for right in correct), labels=(1,) * len(correct))


_METRICS = (
    *(f"{side}latency_p{q}_s" for side in ("", "baseline_") for q in (50, 90, 95)),
    *(f"{side}{name}" for side in ("", "baseline_") for name in ("throughput_per_s", "artifact_bytes")),
    *("gain", "gain_low", "gain_high", "pairs", "rounds", "resident_peak_bytes", "baseline_resident_peak_bytes"),
    *("threads_observed", "input_digest"),
)


def _common(kind: str) -> dict[str, Any]:
    number = next(_numbers)
    return {
        "job_id": f"{number:032x}",
        "kind": kind,
        "state": "done",
        "model": "minilm",
        "model_digest": "model-a",
        "strategy": "torch/int8-dynamic",
        "baseline": "torch/fp32",
        "threads": None,
        "batch": None,
        "length": None,
        "padding": None,
        "input": None,
        "replica": 0,
        "host": "here",
        "cpu": "AMD EPYC 9R14",
        "hardware_key": "hardware00000001",
        "environment_key": "software00000001",
        "platform_key": "platform00000001",
        "finished_at": 1_700_000_000.0 + number,
    }
