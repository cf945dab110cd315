"""Records as rows of the tables; pure, nothing here talks to a database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from storage import ceilings, keys, noop, plain, records, tables
from storage.measurements import Measurement

Row = dict[str, Any]

_VERSIONS = ("torch", "transformers", "onnxruntime")

_WITHOUT_SIDES = (ceilings.CeilingsMeasurement, noop.NoopMeasurement)
"""Measurements about no strategy."""


def model(ref: records.ModelRef) -> Row:
    """A row of `model`."""
    return {
        "key": keys.digest(keys.model_identity(ref)),
        "name": ref.name,
        "source": ref.source,
        "location": ref.location,
        "revision": ref.revision,
        "digest": ref.digest,
        "document": records.to_document(ref),
    }


def hardware(platform: records.Platform) -> Row:
    """A row of `hardware`."""
    what = platform.hardware
    names = ("cpu", "architecture", "physical_cores", "logical_cores", "memory_gib", "virtualization")
    return {
        "key": platform.hardware_key,
        **{name: getattr(what, name) for name in names},
        "isa": " ".join(what.isa),
        "caps": " ".join(what.caps),
        "document": records.to_document(what),
    }


def environment(platform: records.Platform) -> Row:
    """A row of `environment`."""
    what = platform.environment
    return {
        "key": platform.environment_key,
        "python": what.python,
        "kernel": what.kernel,
        **{package: what.packages.get(package) for package in _VERSIONS},
        "document": records.to_document(what),
    }


def job(job_id: str, planned: records.PlannedJob, position: int) -> Row:
    """A row of `job` as planned; the caller adds the times."""
    return JobRows().row(job_id, planned, position)


class JobRows:
    """Rows of `job`, one after the other; what many jobs share is worked out once."""

    def __init__(self) -> None:
        self._models: dict[int, tuple[records.ModelRef, str]] = {}  # held, so that no other gets its id
        self._budgets: dict[records.Budget, Row] = {}

    def row(self, job_id: str, planned: records.PlannedJob, position: int) -> Row:
        """A row as planned; the caller adds the times."""
        case, spec = planned.case, planned.case.input
        return {
            "id": job_id,
            "key": planned.key,
            "kind": case.kind,
            "model_key": self._model_key(case.model),
            "model": case.model.name,
            "strategy": case.strategy,
            "baseline": case.baseline,
            "threads": case.threads,
            "batch": None if spec is None else spec.batch,
            "length": spec.length if spec is not None and isinstance(spec.length, int) else None,
            "padding": None if spec is None else spec.padding,
            "instances": case.instances,
            "input": case.label,
            "case_document": records.to_document(case),
            "budget_document": self._budget(planned.budget),
            "platform_key": planned.platform_key,
            "wanted_host": planned.wanted_host,
            "replica": planned.replica,
            "position": position,
            "state": "queued",
        }

    def _model_key(self, ref: records.ModelRef) -> str:
        if id(ref) not in self._models:
            self._models[id(ref)] = ref, keys.digest(keys.model_identity(ref))
        return self._models[id(ref)][1]

    def _budget(self, budget: records.Budget) -> Row:
        if budget not in self._budgets:
            self._budgets[budget] = records.to_document(budget)
        return self._budgets[budget]


def document(measurement: Measurement) -> Row:
    """The whole measurement as JSON, without the rows of predictions: they have their own table."""
    whole = records.to_document(measurement)
    return {k: v for k, v in whole.items() if k not in ("predictions", "labels")}


def result(measurement: Measurement, model_ref: records.ModelRef) -> Row:
    """A row of `result`: the frequent numbers as columns, the rest as a document; the caller adds who and when."""
    return {
        **dict.fromkeys(tables.METRIC_COLUMNS),
        **_numbers(measurement),
        "model_digest": _model_digest(measurement) or model_ref.digest,
        "flags": list(measurement.flags),
        "notes": list(measurement.notes),
        "document": document(measurement),
    }


def side(facts: records.SideFacts, prefix: str = "") -> Row:
    """The columns of one side; a withheld percentile is NULL, its reason stays in the document."""
    percentiles = {f"latency_p{round(100 * p.q)}_s": p.value_s for p in facts.percentiles}
    values: Row = {}
    for name in tables.SIDE_COLUMNS:
        holder = facts.artifact if name == "prepare_s" else facts
        values[name] = percentiles.get(name) if name.startswith("latency_") else getattr(holder, name, None)
    values["artifact_bytes"] = facts.artifact.size_bytes
    return {prefix + name: value for name, value in values.items()}


def sample(job_id: str, number: int, leg: records.Leg) -> Row:
    """A row of `sample`: one leg."""
    names = ("pair", "round", "position", "side", "items", "started_at", "cpu_ns", "run_delay_ns")
    more = ("foreign_share", "steal_share", "threads_burning", "preemptions", "instance", "repeats", "joules")
    return {
        "job_id": job_id,
        "number": number,
        **{name: getattr(leg, name) for name in names + more},
        "count": len(leg.samples_ns),
        "samples": plain.pack(leg.samples_ns, "<i8"),
        "disturbed": list(leg.disturbed),
    }


def samples(job_id: str, legs: Sequence[records.Leg]) -> list[Row]:
    """The rows of `sample` in the order of the legs."""
    return [sample(job_id, number, leg) for number, leg in enumerate(legs)]


def prediction(job_id: str, measurement: records.AccuracyMeasurement) -> Row:
    """The row of `prediction`."""
    return {
        "job_id": job_id,
        "rows": len(measurement.predictions),
        "predictions": plain.pack(measurement.predictions, "<i4"),
        "labels": plain.pack(measurement.labels, "<i4"),
    }


def unique_jobs(jobs: Iterable[records.PlannedJob]) -> list[records.PlannedJob]:
    """The jobs with each key once, in their order."""
    return list({planned.key: planned for planned in jobs}.values())


def _model_digest(measurement: Measurement) -> str | None:
    if isinstance(measurement, _WITHOUT_SIDES):
        return None
    found: str | None = {**measurement.strategy.artifact.facts, **measurement.strategy.facts}.get("model_digest")
    return found


def _numbers(measurement: Measurement) -> Row:
    if isinstance(measurement, _WITHOUT_SIDES):
        return {"measured_s": measurement.measured_s}
    own = side(measurement.strategy)
    if isinstance(measurement, records.LatencyMeasurement):
        return own | _latency(measurement)
    if isinstance(measurement, records.PrepareMeasurement):
        return own | {"measured_s": measurement.prepared_s}
    return own | _accuracy(measurement)


def _latency(measurement: records.LatencyMeasurement) -> Row:
    gain = measurement.gain
    names = ("pairs", "rounds", "variance_between", "variance_within", "stopped", "measured_s", "input_digest")
    return {
        "gain": None if gain is None else gain.value,
        "gain_low": None if gain is None else gain.low,
        "gain_high": None if gain is None else gain.high,
        **side(measurement.baseline, "baseline_"),
        **{name: getattr(measurement, name) for name in names},
    }


def _accuracy(measurement: records.AccuracyMeasurement) -> Row:
    return {
        "accuracy": measurement.correct / measurement.rows if measurement.rows else None,
        "correct": measurement.correct,
        "rows": measurement.rows,
        "dataset_digest": measurement.dataset_digest,
        "measured_s": measurement.evaluated_s,
    }
