"""An `accuracy` job: one pass over the dataset's rows, predictions kept row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import psutil

from storage import records
from worker import cores, nursery, prepare, quiet, station
from worker.nursery import Tick
from worker.phases import MEASURING, Phases

Tell = Callable[[Mapping[str, Any]], None]


def measure(
    place: station.Station, case: records.Case, tick: Tick, tell: Tell
) -> tuple[records.AccuracyMeasurement, list[records.Leg]]:
    """Evaluate one model under one strategy on all physical cores; there are no legs."""
    assert case.dataset is not None  # noqa: S101 - an accuracy case has a dataset
    phases = Phases()
    with phases("prepare"):
        prepared = prepare.model(place, case, case.strategy, tick, tell)
    with phases("inputs"):
        rows, digest = prepare.rows(place, case, tick)
    threads = min(psutil.cpu_count(logical=False) or 1, len(place.cpus))
    with phases("start"):
        child = place.fork(station.family(case.strategy), tick)
    observer = quiet.Observer(ignore=place.own_pids())
    try:
        with phases("load"):
            request = {**prepare.opening(prepared, threads), "cpus": cores.choose(threads, place.cpus)}
            opened = child.ask("open", request, tick=tick)
        with phases("accuracy"):
            request = {"rows": str(rows), "batch": case.dataset.batch}
            before = nursery.look(observer, "predict", child)
            seen = child.ask("predict", request, tick=tick, tell=lambda m: tell(_progress(m)))
            conditions = quiet.judge(
                before, nursery.look(observer, "predict", child), cores=len(place.cpus), threads=threads
            )
    except BaseException:
        child.kill()
        raise
    finally:
        child.close()
    return _measurement(prepared, opened, seen, digest, conditions.threads_burning, phases), []


def _progress(message: Mapping[str, Any]) -> dict[str, Any]:
    return {"phase": "accuracy", "done": message["done"], "total": message["total"]}


def _measurement(
    prepared: prepare.Prepared,
    opened: Mapping[str, Any],
    seen: Mapping[str, Any],
    digest: str,
    threads_observed: int,
    phases: Phases,
) -> records.AccuracyMeasurement:
    predictions, labels = tuple(seen["predictions"]), tuple(seen["labels"])
    side = records.SideFacts(
        strategy=prepared.strategy,
        artifact=prepared.artifact,
        load_s=opened["load_s"],
        first_answer_s=None,
        resident_before_bytes=opened["resident_before_bytes"],
        resident_loaded_bytes=opened["resident_loaded_bytes"],
        resident_peak_bytes=seen["peak_bytes"],
        threads_set=opened["threads_set"],
        threads_observed=threads_observed,
        percentiles=(),
        throughput_per_s=len(labels) / seen["seconds"],
        facts=opened["facts"],
    )
    return records.AccuracyMeasurement(
        strategy=side,
        rows=len(labels),
        correct=sum(p == y for p, y in zip(predictions, labels, strict=True)),
        predictions=predictions,
        labels=labels,
        dataset_digest=digest,
        evaluated_s=seen["seconds"],
        overhead={name: s for name, s in phases.seconds().items() if name not in MEASURING},
        notes=prepare.notes(prepared),
    )
