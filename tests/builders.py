"""Small real records for tests: one call gives one valid record, keywords change what a test is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage import ceilings, keys, records


def platform(cpu: str = "AMD EPYC 9B14", **packages: str) -> records.Platform:
    hardware = records.Hardware(
        cpu=cpu,
        vendor="AuthenticAMD",
        family=25,
        model=17,
        stepping=1,
        architecture="x86_64",
        isa=("avx2", "avx512_bf16", "avx512_vnni"),
        physical_cores=1,
        logical_cores=2,
        cache_bytes={"l2": 1 << 20},
        memory_gib=8,
    )
    found = {"torch": "2.13.0", "transformers": "5.23.0", **packages}
    return keys.platform(hardware, records.Environment(python="3.11.9", packages=found, kernel="6.1"))


def case(kind: records.Kind = "latency", **changes: Any) -> records.Case:
    values: dict[str, Any] = {
        "kind": kind,
        "model": records.ModelRef(name="minilm", source="local", location="/models/minilm", digest="m1"),
        "strategy": "torch/int8-dynamic",
        "baseline": "torch/fp32",
    }
    if kind == "latency":
        values |= {"threads": 1, "input": records.InputSpec(batch=1, length=16)}
    else:
        values |= {"dataset": records.DatasetRef(source="local", location="/data/rows.parquet", digest="d1")}
    return records.Case(**{**values, **changes})


def planned(wanted: records.Case | None = None, platform_key: str = "", replica: int = 0) -> records.PlannedJob:
    wanted, platform_key = wanted or case(), platform_key or platform().key
    key = keys.job_key(wanted, platform_key, replica)
    return records.PlannedJob(
        key=key, case=wanted, platform_key=platform_key, replica=replica, budget=records.Budget(max_seconds=5.0)
    )


def side(strategy: str = "torch/int8-dynamic", p50_s: float = 0.004, **changes: Any) -> records.SideFacts:
    values: dict[str, Any] = {
        "strategy": strategy,
        "artifact": records.Artifact(key="a1", size_bytes=58_700_000, prepare_s=1.5, cached=False),
        "load_s": 0.8,
        "first_answer_s": 0.02,
        "resident_before_bytes": 400_000_000,
        "resident_loaded_bytes": 460_000_000,
        "resident_peak_bytes": 5_000_000_000,  # beyond 32 bits
        "threads_set": 1,
        "threads_observed": 1,
        "percentiles": (
            records.Percentile(q=0.5, value_s=p50_s, low_s=p50_s * 0.9, high_s=p50_s * 1.1),
            records.Percentile(q=0.99, value_s=None, withheld="41 samples, 662 needed"),
        ),
        "throughput_per_s": 1 / p50_s,
    }
    return records.SideFacts(**{**values, **changes})


def latency(**changes: Any) -> records.LatencyMeasurement:
    values: dict[str, Any] = {
        "gain": records.Interval(value=2.5, low=2.4, high=2.6),
        "baseline": side("torch/fp32", 0.010),
        "strategy": side(),
        "pairs": 5,
        "rounds": 50,
        "variance_between": 0.002,
        "variance_within": 0.001,
        "stopped": "precision",
        "measured_s": 12.5,
        "overhead": {"start": 1.0, "load": 4.0},
        "flags": ("disturbed",),
        "input_digest": "i1",
        "notes": ("one leg was measured again",),
    }
    return records.LatencyMeasurement(**{**values, **changes})


def accuracy(predictions: Sequence[int] = (0, 1, 2), labels: Sequence[int] = (0, 1, 1)) -> records.AccuracyMeasurement:
    return records.AccuracyMeasurement(
        strategy=side(percentiles=()),
        rows=len(labels),
        correct=sum(a == b for a, b in zip(predictions, labels, strict=True)),
        predictions=tuple(predictions),
        labels=tuple(labels),
        dataset_digest="d1",
        evaluated_s=3.0,
        overhead={},
    )


def leg(
    pair: int = 0, round: int = 0, position: int = 0, samples_ns: Sequence[int] = (10, 20), **changes: Any
) -> records.Leg:
    values: dict[str, Any] = {
        "side": "baseline" if position % 2 == 0 else "strategy",
        "items": 2,
        "started_at": 1.7e9,
        "cpu_ns": 90_000_000,
        "run_delay_ns": 1000,
        "foreign_share": 0.01,
        "steal_share": 0.0,
        "threads_burning": 1,
        "preemptions": 0,
    }
    return records.Leg(pair=pair, round=round, position=position, samples_ns=tuple(samples_ns), **{**values, **changes})


def measured_ceilings(**changes: Any) -> ceilings.CeilingsMeasurement:
    """100 GFLOP/s fp32, 1 bf16, 200 GOP/s int8 on one thread, and twice that on two; memory 10 and 15 GB/s, a cache
    of 32 MiB 50 and 80 GB/s."""
    rates: tuple[tuple[ceilings.Precision, float], ...] = (("fp32", 100e9), ("bf16", 1e9), ("int8", 200e9))
    products = [_product(precision, threads, rate * threads) for threads in (1, 2) for precision, rate in rates]
    reads = ((1, 1, 50e9), (1, 32, 50e9), (1, 256, 10e9), (2, 1, 80e9), (2, 32, 80e9), (2, 256, 15e9))
    bandwidths = [_bandwidth("read", threads, mib << 20, rate) for threads, mib, rate in reads]
    bandwidths += [_bandwidth("copy", threads, 256 << 20, 9e9) for threads in (1, 2)]
    values: dict[str, Any] = {
        "products": tuple(products),
        "bandwidths": tuple(bandwidths),
        "timer": ceilings.Timer(resolution_ns=20, call_ns=45.0),
        "noise": ceilings.Noise(kernel_s=0.001, variation=0.012, p99_ratio=1.05, runs=1900),
        "cache_seen_bytes": 32 << 20,
        "cache_note": "the largest working set that one thread reads at ×1.5 memory's rate or more",
        "measured_s": 20.0,
        "overhead": {"start": 1.0},
    }
    return ceilings.CeilingsMeasurement(**{**values, **changes})


def _product(precision: ceilings.Precision, threads: int, rate: float) -> ceilings.Product:
    return ceilings.Product(
        precision=precision,
        threads=threads,
        ops_per_s=rate,
        usual_per_s=0.9 * rate,
        size=512,
        kernel="torch.mm",
        runs=50,
    )


def _bandwidth(operation: ceilings.Operation, threads: int, set_bytes: int, rate: float) -> ceilings.Bandwidth:
    return ceilings.Bandwidth(
        operation=operation, threads=threads, bytes_per_s=rate, usual_per_s=0.9 * rate, set_bytes=set_bytes, runs=9
    )
