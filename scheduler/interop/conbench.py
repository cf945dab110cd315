"""Results in the format of conbench's API (`POST /api/benchmark-results/`), a list of them (pure).

A result's `data` has one number for each pair of fresh processes: the strategy's seconds of a call. Its name and tags
are the case, its machine is named by the hardware key, which decides comparability there as here. What conbench has no
field for (the gain, the baseline, versions) stands in `info`; a job without a number is a result with an `error`.
Integers of the machine that nobody knows are 0: conbench requires them.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from storage import foreign, keys, records
from storage import statistics as estimates
from storage.views import ResultView

Legs = Callable[[str], Sequence[records.Leg]]

RATED = frozenset({"throughput", "server"})
"""Kinds whose number is a rate, in conbench's unit `i/s`."""


def results(
    views: Iterable[ResultView],
    platforms: Mapping[str, records.Platform],
    legs: Legs,
    *,
    repository: str,
    commit: str | None = None,
) -> list[dict[str, Any]]:
    """One result for each job on a known platform."""
    github = {"repository": repository.rstrip("/"), **({} if commit is None else {"commit": commit})}
    placed = [(view, platforms[view.platform_key]) for view in views if view.platform_key in platforms]
    return [_result(view, platform, legs, github) for view, platform in placed]


def _result(view: ResultView, platform: records.Platform, legs: Legs, github: Mapping[str, str]) -> dict[str, Any]:
    own = [leg for leg in legs(view.job_id) if leg.side == "strategy"] if view.state == "done" else []
    started = min((leg.started_at for leg in own if leg.started_at > 0), default=view.finished_at or 0.0)
    # conbench takes what shares a run_id for one run on one hardware and commit
    run = keys.digest({"platform": platform.key, "github": dict(github)})
    return {
        "run_id": run,
        "run_tags": {"name": f"quantfleet on {platform.hardware.cpu}", "environment_key": platform.environment_key},
        "run_reason": "quantfleet",
        "batch_id": f"{run}-{view.kind}",
        "timestamp": datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat().replace("+00:00", "Z"),
        **_outcome(view, own),
        "tags": _tags(view),
        "context": _context(view),
        "info": _info(view, platform),
        "machine_info": _machine(platform),
        "github": dict(github),
    }


def _outcome(view: ResultView, legs: Sequence[records.Leg]) -> dict[str, Any]:
    """`stats`, or `error` for a job without a number."""
    if view.state != "done":
        return {"error": {"state": view.state, "message": view.message or "no reason was stored"}}
    data, unit = _data(view, legs)
    if not data:
        return {"error": {"state": view.state, "message": "; ".join(view.notes) or "no number was stored"}}
    stats: dict[str, Any] = {"data": data, "unit": unit, "iterations": max(1, _calls(legs))}
    return {"stats": stats | ({"times": data, "time_unit": "s"} if unit == "s" else {})}


def _data(view: ResultView, legs: Sequence[records.Leg]) -> tuple[list[float], str]:
    if view.kind in RATED:
        return ([] if view.throughput_per_s is None else [view.throughput_per_s]), "i/s"
    pairs: dict[int, list[float]] = {}
    for leg in (one for one in legs if len(one.samples_ns) >= one.items):
        seconds = estimates.leg_time_ns(leg.samples_ns, leg.items) * 1e-9 / leg.repeats
        pairs.setdefault(leg.pair, []).append(seconds)
    if pairs:
        return [statistics.median(found) for _, found in sorted(pairs.items())], "s"
    return ([] if view.latency_p50_s is None else [view.latency_p50_s]), "s"


def _calls(legs: Sequence[records.Leg]) -> int:
    """Calls that one number of `data` stands for, on average."""
    pairs = {leg.pair for leg in legs}
    return round(sum(len(leg.samples_ns) * leg.repeats for leg in legs) / len(pairs)) if pairs else 1


def _tags(view: ResultView) -> dict[str, str]:
    """The case; conbench leaves out what is empty."""
    found = {
        "name": f"quantfleet-{view.kind}",
        "model": view.model,
        "strategy": view.strategy,
        "baseline": view.baseline,
        "threads": view.threads,
        "input": view.input,
        "origin": foreign.FLAG if foreign.FLAG in view.flags else None,
    }
    return _texts(found)


def _context(view: ResultView) -> dict[str, str]:
    """What must be the same for two results to be of one series, beyond the case."""
    return {
        "benchmark_language": "Python",
        "quantfleet_protocol": str(records.PROTOCOL_VERSION),
        **_texts({"model_digest": view.model_digest, "input_digest": view.input_digest}),
    }


def _info(view: ResultView, platform: records.Platform) -> dict[str, str]:
    environment = platform.environment
    found = {
        **{f"{name}_version": version for name, version in environment.packages.items()},
        "benchmark_language_version": f"Python {environment.python}",
        "origin": foreign.told_by(platform),
        "job_id": view.job_id,
        "host": view.host,
        "gain": view.gain,
        "gain_low": view.gain_low,
        "gain_high": view.gain_high,
        "pairs": view.pairs,
        "latency_p50_s": view.latency_p50_s,
        "latency_p90_s": view.latency_p90_s,
        "baseline_latency_p50_s": view.baseline_latency_p50_s,
        "artifact_bytes": view.artifact_bytes,
        "resident_peak_bytes": view.resident_peak_bytes,
        "flags": " ".join(view.flags),
        "notes": "; ".join(view.notes),
    }
    return _texts(found)


def _texts(found: Mapping[str, Any]) -> dict[str, str]:
    """As texts, without what is unknown: conbench stores a flat mapping of texts."""
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def _machine(platform: records.Platform) -> dict[str, Any]:
    hardware, kernel = platform.hardware, platform.environment.kernel
    caches = {f"cpu_{level}_cache_bytes": hardware.cache_bytes.get(level, 0) for level in ("l1d", "l1i", "l2", "l3")}
    return {
        "name": platform.hardware_key,
        "architecture_name": hardware.architecture,
        "kernel_name": kernel,
        "os_name": "Linux",
        "os_version": kernel,
        "cpu_model_name": hardware.cpu,
        **caches,
        "cpu_core_count": hardware.physical_cores,
        "cpu_thread_count": hardware.logical_cores,
        "cpu_frequency_max_hz": 0,
        "memory_bytes": hardware.memory_gib << 30,
        "gpu_count": 0,
        "gpu_product_names": [],
    }
