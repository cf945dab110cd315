"""The result of each kind of job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage import records
from storage.ceilings import CeilingsMeasurement
from storage.noop import NoopMeasurement

Measurement = (
    records.LatencyMeasurement
    | records.AccuracyMeasurement
    | records.PrepareMeasurement
    | CeilingsMeasurement
    | NoopMeasurement
)
"""What comes of a job; throughput, server and tensor jobs give kinds of latency measurements."""

BY_KIND: Mapping[str, type[Any]] = {
    "latency": records.LatencyMeasurement,
    "throughput": records.ThroughputMeasurement,
    "server": records.ServerMeasurement,
    "tensor": records.TensorMeasurement,
    "accuracy": records.AccuracyMeasurement,
    "prepare": records.PrepareMeasurement,
    "ceilings": CeilingsMeasurement,
    "noop": NoopMeasurement,
}
