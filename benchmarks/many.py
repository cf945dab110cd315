"""A database of many results, as a fleet's grows: platforms × nightly studies × cases × replicas.

Shapes are those of real databases (`examples/strategies.yaml` measured on two machines): a latency has 44 legs of 12
samples and a document of 4 kB, an accuracy 3,100 predictions. Rows are made by the program's own functions; documents,
legs and predictions are drawn from a pool, numbers, keys and times are each result's own. Rows go in by `executemany`
and `COPY` (`benchmarks/sinks.py`) with every index there, samples in the order of their keys.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sqlalchemy as sa

from benchmarks.sinks import Sink, sink
from storage import keys, plain, records, rows, tables
from tests import builders

MODELS = ("minilm", "distilbert")
STRATEGIES = {
    "torch/fp32": 1.0,
    "torch/bf16": 1.4,
    "torch/int8-dynamic": 2.0,
    "inductor/fp32": 1.2,
    "inductor/int8-dynamic": 2.2,
    "onnxruntime/fp32": 1.5,
    "onnxruntime/int8-dynamic": 3.1,
    "onnxruntime/int8-static": 3.4,
    "openvino/fp32": 1.7,
    "openvino/int8-static": 3.6,
}
"""Strategy → its gain, about."""

BASELINE = "torch/fp32"
CALLS = ((1, 16), (8, 64))
THREADS = (1, 2)
CASES = len(MODELS) * len(STRATEGIES) * (len(CALLS) * len(THREADS) + 1)
"""Latencies, and an accuracy for each strategy: 100."""

ROUNDS, ROWS, CLASSES = 11, 3100, 151
POOL = 8
"""Documents, legs and predictions of each strategy that results share."""

DAY_S = 86_400.0
BEGAN = 1_760_000_000.0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many of what."""

    platforms: int = 40
    studies: int = 125
    replicas: int = 2

    @property
    def results(self) -> int:
        """How many results that makes, calibrations apart."""
        return self.platforms * self.studies * CASES * self.replicas

    @classmethod
    def of(cls, results: int) -> Shape:
        """About so many results: as many studies as that takes, of fewer platforms where one has too many."""
        whole = cls()
        per_study = whole.platforms * CASES * whole.replicas
        if results >= per_study:
            return replace(whole, studies=results // per_study)
        return replace(whole, studies=1, platforms=max(1, results // (CASES * whole.replicas)))

    def text(self) -> str:
        """In words."""
        return (
            f"{self.results:,} results: {self.platforms} platforms × {self.studies} studies × {CASES} cases "
            f"({len(MODELS)} models × {len(STRATEGIES)} strategies × "
            f"({len(CALLS) * len(THREADS)} latencies + accuracy)) × {self.replicas} replicas"
        )


def study_name(number: int) -> str:
    """`nightly-001`: each night's study has a name of its own, by which it is compared with others."""
    return f"nightly-{number + 1:03d}"


def fill(address: str, shape: Shape, *, samples: bool = True, tell: Callable[[str], None] = lambda text: None) -> None:
    """Fill an empty database of today's schema."""
    filler = _Filler(shape, sink(address))
    began = time.monotonic()
    filler.places()
    for study in range(shape.studies):
        filler.study(study)
        if study % 10 == 9:
            tell(f"{study + 1} of {shape.studies} studies after {time.monotonic() - began:.0f} s")
    if samples:
        tell(f"{len(filler.legs):,} results' samples after {time.monotonic() - began:.0f} s")
        filler.samples()
    filler.sink.close()
    tell(f"filled in {time.monotonic() - began:.0f} s")


class _Filler:
    def __init__(self, shape: Shape, sink: Sink) -> None:
        self.shape, self.sink = shape, sink
        self.legs: list[tuple[str, int]] = []  # job ids of latencies, and which legs of the pool they have
        self._random = random.Random(7)
        self._platforms = [_platform(number) for number in range(shape.platforms)]
        self._cases = list(_cases())
        self._speed = [[self._random.gauss(0.0, 0.15) for _ in self._platforms] for _ in self._cases]
        self._pool = _Pool(self._cases)

    def places(self) -> None:
        """Machines, models, and the ceilings of each machine."""
        unique = {one.hardware_key: rows.hardware(one) for one in self._platforms}
        self._add(tables.hardware, unique.values())
        software = {one.environment_key: rows.environment(one) for one in self._platforms}
        self._add(tables.environment, software.values())
        names = ("key", "hardware_key", "environment_key")
        self._add(tables.platform, ({name: getattr(one, name) for name in names} for one in self._platforms))
        seen = {"labels": {}, "first_seen_at": BEGAN, "last_seen_at": BEGAN + DAY_S}
        hosts = ({"name": _host(n), "platform_key": one.key, **seen} for n, one in enumerate(self._platforms))
        self._add(tables.host, hosts)
        models = {row["key"]: row for row in (rows.model(case.model) for case in (*self._cases, _CEILINGS))}
        self._add(tables.model, models.values())
        for number, one in enumerate(self._platforms):
            measured = rows.result(builders.measured_ceilings(), _CEILINGS.model)
            job_id = self._id()
            self._add(tables.job, [self._job(job_id, _CEILINGS, number, 0, BEGAN, 0)])
            self._add(tables.result, [self._result(job_id, one, number, BEGAN, measured)])

    def study(self, number: int) -> None:
        """One night: every case on every platform, each replica a job."""
        study_id, began = self._id(), BEGAN + number * DAY_S
        text = f"name: {study_name(number)}\n"
        own = {"id": study_id, "name": study_name(number), "digest": keys.digest(text), "text": text}
        self._add(tables.study, [own | {"submitted_at": began}])
        planned = [
            (self._id(), place, case, replica)
            for place in range(self.shape.platforms)
            for case in range(len(self._cases))
            for replica in range(self.shape.replicas)
        ]
        first = number * self.shape.replicas
        when = {job_id: began + 10.0 * position for position, (job_id, *_) in enumerate(planned)}
        self._add(
            tables.job,
            (
                self._job(job_id, self._cases[case], place, first + replica, when[job_id], position)
                for position, (job_id, place, case, replica) in enumerate(planned)
            ),
        )
        self._add(tables.study_job, ({"study_id": study_id, "job_id": job_id} for job_id, *_ in planned))
        self._add(tables.attempt, (self._attempt(job_id, place, when[job_id]) for job_id, place, *_ in planned))
        self._add(
            tables.result,
            (
                self._result(job_id, self._platforms[place], place, when[job_id], self._measured(case, place))
                for job_id, place, case, _ in planned
            ),
        )
        self._add(tables.prediction, self._predictions(planned))
        for job_id, _, case, _ in planned:
            if self._cases[case].kind == "latency":
                self.legs.append((job_id, self._random.randrange(POOL)))

    def samples(self) -> None:
        """The legs of every latency, by the keys of their jobs."""
        self.legs.sort()
        self.sink.add_legs((job_id, self._pool.legs[which]) for job_id, which in self.legs)

    def _add(self, table: sa.Table, found: Iterable[rows.Row]) -> None:
        self.sink.add(table, (_values(table, row) for row in found))

    def _id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _job(self, job_id: str, case: records.Case, place: int, replica: int, when: float, position: int) -> rows.Row:
        where = {"platform_key": self._platforms[place].key, "replica": replica, "position": position}
        ended = {"created_at": when, "not_before_at": when, "published_at": when, "claimed_at": when}
        state = {"state": "done", "token": 1, "attempts": 1, "host": _host(place), "finished_at": when + 9.0}
        progress = {"phase": "measure", "pairs": 6, "rounds": ROUNDS, "precision": 0.028}
        return (
            self._pool.job(case) | where | ended | state | {"id": job_id, "key": self._id()[:16], "progress": progress}
        )

    def _attempt(self, job_id: str, place: int, when: float) -> rows.Row:
        who = {"job_id": job_id, "token": 1, "number": 1, "host": _host(place), "state": "done"}
        return who | {"platform_key": self._platforms[place].key, "started_at": when, "ended_at": when + 9.0}

    def _result(self, job_id: str, platform: records.Platform, place: int, when: float, measured: rows.Row) -> rows.Row:
        who = {"job_id": job_id, "token": 1, "host": _host(place), "platform_key": platform.key}
        return measured | who | {"finished_at": when + 9.0}

    def _measured(self, case: int, place: int) -> rows.Row:
        """A pooled result with numbers of its own."""
        found = self._pool.result(case, self._random.randrange(POOL))
        if self._cases[case].kind == "accuracy":
            return found
        even = self._cases[case].strategy == BASELINE
        own = 0.0 if even else math.log(STRATEGIES[self._cases[case].strategy]) + self._speed[case][place]
        gain, half = math.exp(own + self._random.gauss(0.0, 0.015)), math.exp(self._random.uniform(0.01, 0.04))
        slow = found["baseline_latency_p50_s"] * (1 + 0.05 * place)
        times = {f"latency_p{q}_s": slow / gain * more for q, more in ((50, 1.0), (90, 1.04), (95, 1.08))}
        others = {f"baseline_latency_p{q}_s": slow * more for q, more in ((50, 1.0), (90, 1.04), (95, 1.08))}
        flags = self._random.choices(([], ["disturbed"], ["wide"]), (0.92, 0.04, 0.04))[0]
        return (
            found | times | others | {"gain": gain, "gain_low": gain / half, "gain_high": gain * half, "flags": flags}
        )

    def _predictions(self, planned: Iterable[tuple[str, int, int, int]]) -> Iterator[rows.Row]:
        for job_id, _, case, _ in planned:
            if self._cases[case].kind == "accuracy":
                yield self._pool.predictions[self._random.randrange(POOL)] | {"job_id": job_id}


class _Pool:
    """What results share: documents, legs and predictions."""

    def __init__(self, cases: Sequence[records.Case]) -> None:
        source = np.random.default_rng(7)
        self.legs = [[_leg_values(row) for row in rows.samples("", _legs(source))] for _ in range(POOL)]
        labels = np.sort(source.integers(0, CLASSES, ROWS))
        self.predictions = [_prediction(source, labels) for _ in range(POOL)]
        self._cases = cases
        self._results: dict[tuple[int, int], rows.Row] = {}
        self._jobs: dict[int, rows.Row] = {}

    def job(self, case: records.Case) -> rows.Row:
        """A case's row of `job`."""
        if id(case) not in self._jobs:
            planned = records.PlannedJob(key="", case=case, platform_key="", replica=0, budget=records.Budget())
            self._jobs[id(case)] = rows.job("", planned, 0)
        return self._jobs[id(case)]

    def result(self, case: int, which: int) -> rows.Row:
        """A case's row of `result`."""
        if (case, which) not in self._results:
            self._results[case, which] = rows.result(_measurement(self._cases[case], which), self._cases[case].model)
        return self._results[case, which]


_CEILINGS = records.Case(
    kind="ceilings",
    model=records.ModelRef(name="machine", source="none", location="machine"),
    strategy="",
    baseline="",
)


def _platform(number: int) -> records.Platform:
    """Half as many machines as platforms: each with an older and a newer software."""
    cpu, torch = f"AMD EPYC {7001 + number // 2} Processor", ("2.12.0", "2.13.0")[number % 2]
    return builders.platform(cpu=cpu, torch=torch, onnxruntime="1.32.0", openvino="2026.2.0")


def _host(number: int) -> str:
    return f"host-{number + 1:02d}"


def _cases() -> Iterator[records.Case]:
    for name in MODELS:
        model = records.ModelRef(name=name, source="local", location=f"/models/{name}", digest=keys.digest(name))
        for strategy in STRATEGIES:
            common: dict[str, Any] = {"model": model, "strategy": strategy, "baseline": BASELINE}
            for batch, length in CALLS:
                call = records.InputSpec(batch=batch, length=length)
                yield from (records.Case(kind="latency", threads=n, input=call, **common) for n in THREADS)
            rows_ = records.DatasetRef(source="local", location="/data/rows.parquet", digest="d1")
            yield records.Case(kind="accuracy", dataset=rows_, **common)


NODES = (
    *("Reshape", "Transpose", "DynamicQuantizeMatMul", "Slice", "MatMulIntegerToFloat", "Concat", "Gather", "Shape"),
    *(
        "SkipLayerNormalization",
        "Add",
        "Unsqueeze",
        "Where",
        "DynamicQuantizeLinear",
        "FusedMatMul",
        "Softmax",
        "IsNaN",
    ),
    *("MatMul", "Gelu", "DequantizeLinear", "Squeeze", "Range", "Expand", "And", "LayerNormalization", "Max", "Cast"),
)
"""Operators that ONNX Runtime's graph of a small BERT has: the largest part of a document."""


def _side(strategy: str, p50_s: float, which: int) -> records.SideFacts:
    nodes = {name: 1 + (number * 7 + which) % 36 for number, name in enumerate(NODES)}
    facts: dict[str, Any] = {
        "architecture": "BertForSequenceClassification",
        "classes": CLASSES,
        "parameters": 22_771_351,
    }
    facts |= {"nodes": nodes} if strategy.startswith("onnx") else {"linear_types": {"torch.nn.Linear[float32]": 38}}
    demand = {"attention_width": 2304, "classes": CLASSES, "embedded": 384, "per_call": 0, "per_row": 205_440}
    demand |= {"per_token": 10_616_832, "weights": 10_822_272}
    artifact = records.Artifact(
        key=keys.digest(strategy), size_bytes=91_097_388 // (1 + len(strategy) % 4), prepare_s=0.9, cached=True,
        facts=facts | {"demand": demand},
    )  # fmt: skip
    work = {"arithmetic": "fp32", "ops": 342_508_800, "bytes": 43_314_396, "ops_mean": 342_508_800.0}
    work |= {"bytes_mean": 43_314_396.0, "weight_bytes": 43_289_088, "weight_bits": 32, "calls": 1}
    return builders.side(
        strategy, p50_s, artifact=artifact,
        percentiles=(
            records.Percentile(q=0.5, value_s=p50_s, low_s=0.99 * p50_s, high_s=1.01 * p50_s),
            records.Percentile(q=0.9, value_s=1.04 * p50_s, low_s=1.02 * p50_s, high_s=1.06 * p50_s),
            records.Percentile(q=0.95, value_s=1.08 * p50_s, low_s=1.05 * p50_s, high_s=1.12 * p50_s),
            records.Percentile(q=0.99, value_s=None, withheld=f"{200 + which} samples, 662 needed"),
        ),
        facts={"attention": "sdpa", "cpu_capability": "AVX512", **facts, "work": work},
    )  # fmt: skip


def _measurement(case: records.Case, which: int) -> Any:
    if case.kind == "accuracy":
        own = _side(case.strategy, 0.01, which)
        right = round(ROWS * (0.953 - 0.001 * which))
        return records.AccuracyMeasurement(
            strategy=replace(own, percentiles=()), rows=ROWS, correct=right, predictions=(), labels=(),
            dataset_digest="d1", evaluated_s=36.0, overhead={"prepare": 1.0, "load": 0.1},
        )  # fmt: skip
    batch, slow = case.input.batch if case.input else 1, 0.012
    return builders.latency(
        baseline=_side(BASELINE, slow * batch, which),
        strategy=_side(case.strategy, slow * batch / STRATEGIES[case.strategy], which),
        pairs=6, rounds=ROUNDS, flags=(), notes=("measured again: 2 disturbed rounds",),
        overhead={"other": 0.04, "prepare": 0.1, "inputs": 0.07, "start": 0.08, "load": 1.3, "wait": 0.1, "close": 0.2},
    )  # fmt: skip


def _legs(source: np.random.Generator) -> list[records.Leg]:
    """Rounds A B B A over six pairs, 12 calls a leg: noise of a few per cent, now and then an interruption."""
    found = []
    for number in range(ROUNDS):
        for position in range(4):
            ns = 1.2e7 if position in (0, 3) else 4e6
            times = ns * np.exp(source.normal(0, 0.02, 12)) * np.where(source.random(12) < 0.02, 1.5, 1.0)
            leg = builders.leg(
                pair=number % 6, round=number // 6, position=position, samples_ns=times.astype(np.int64).tolist(),
                side="baseline" if position in (0, 3) else "strategy", items=1, started_at=BEGAN + number,
            )  # fmt: skip
            found.append(leg)
    return found


def _leg_values(row: rows.Row) -> tuple[Any, ...]:
    return _values(tables.sample, row)[1:]


def _prediction(source: np.random.Generator, labels: Any) -> rows.Row:
    answers = np.where(source.random(ROWS) < 0.046, source.integers(0, CLASSES, ROWS), labels)
    packed = {"predictions": plain.pack(answers.tolist(), "<i4"), "labels": plain.pack(labels.tolist(), "<i4")}
    return {"rows": ROWS, **packed}


_DEFAULTS = {"crashes": 0, "errors": 0, "cancelling": 0, "instance": 0, "repeats": 1}


def _values(table: sa.Table, row: rows.Row) -> tuple[Any, ...]:
    """A row's values in the order of the columns, documents as text."""
    return tuple(_value(column, row.get(column.name, _DEFAULTS.get(column.name))) for column in table.c)


def _value(column: sa.Column[Any], value: Any) -> Any:
    if isinstance(column.type, sa.JSON) and value is not None:
        return _text(value)
    return value


_texts: dict[int, tuple[Any, str]] = {}


def _text(value: Any) -> str:
    """JSON of a document, made once for a document that many rows share."""
    known = _texts.get(id(value))
    if known is None or known[0] is not value:
        known = (value, plain.dumps(value))
        if len(_texts) < 20_000:
            _texts[id(value)] = known
    return known[1]
