"""A `prepare` job: an artifact made before anything is measured with it, and opened once to see that it loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psutil

from storage import records
from worker import cores, prepare, station
from worker.nursery import Tick
from worker.phases import Phases


def measure(
    place: station.Station, case: records.Case, tick: Tick, tell: prepare.Tell
) -> tuple[records.PrepareMeasurement, list[records.Leg]]:
    """Prepare one model under one strategy; there are no legs."""
    phases = Phases()
    with phases("prepare"):
        prepared = prepare.model(place, case, case.strategy, tick, tell)
    with phases("load"):
        opened, peak = _opened(place, prepared, tick)
    seconds = phases.seconds()
    side = records.SideFacts(
        strategy=prepared.strategy,
        artifact=prepared.artifact,
        load_s=opened["load_s"],
        first_answer_s=None,
        resident_before_bytes=opened["resident_before_bytes"],
        resident_loaded_bytes=opened["resident_loaded_bytes"],
        resident_peak_bytes=peak,
        threads_set=opened["threads_set"],
        threads_observed=0,
        percentiles=(),
        throughput_per_s=None,
        facts=opened["facts"],
    )
    measured = records.PrepareMeasurement(
        strategy=side,
        prepared_s=seconds.get("prepare", 0.0),
        overhead={name: s for name, s in seconds.items() if name != "prepare"},
        notes=prepare.notes(prepared),
    )
    return measured, []


def _opened(place: station.Station, prepared: prepare.Prepared, tick: Tick) -> tuple[Mapping[str, Any], int]:
    threads = min(psutil.cpu_count(logical=False) or 1, len(place.cpus))
    request = {**prepare.opening(prepared, threads), "cpus": cores.choose(threads, place.cpus)}
    with place.child(station.family(prepared.strategy), tick) as child:
        opened = child.ask("open", request, tick=tick)
    return opened, opened["resident_loaded_bytes"]
