"""Truth: the median that quantfleet reports against a bare loop over the same model and input.

    python -m benchmarks.truth [--model FOLDER] [--processes 12] [--seconds 1]

For two models × threads 1 and 2: quantfleet measures fp32 (its baseline side) in fresh processes, and after each of
its pairs a bare loop runs in a fresh process of its own, so that both see the same drift of the machine.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from storage import records
from storage.statistics import t_quantile
from worker import cores, latency, prepare, station
from worker.child import load_calls

LENGTH = 32


def main() -> None:
    """Print a row for each model and thread count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--processes", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1.0)
    asked = parser.parse_args()
    print(common.machine())
    print(f"{asked.processes} fresh processes on each side, batch 1, length {LENGTH}, float32")
    print("model              threads   quantfleet      bare   ratio  [95 % of the processes' mean ratio]")
    with common.place() as place:
        for model in common.models(asked.model):
            for threads in (1, 2):
                print(_row(place, model, threads, asked.processes, asked.seconds), flush=True)


def _row(place: station.Station, model: records.ModelRef, threads: int, processes: int, seconds: float) -> str:
    case = records.Case(
        kind="latency",
        model=model,
        strategy="torch/fp32",
        baseline="torch/fp32",
        threads=threads,
        input=records.InputSpec(batch=1, length=LENGTH, calls=1),
    )
    path, _ = prepare.inputs(place, case, lambda: None)
    call = {name: ids.tolist() for name, ids in load_calls(path)[0].items()}
    bare: list[list[int]] = []

    def after_round(progress: Mapping[str, Any]) -> None:
        if progress["pairs"] > len(bare):  # once for each pair; its two processes sleep meanwhile
            bare.append(_bare(place, model, threads, seconds, call))

    budget = records.Budget(precision=1e-9, max_seconds=0.0, min_pairs=processes)
    measured, legs = latency.measure(place, case, budget, lambda: None, after_round)
    return _compared(model.name, threads, measured, legs, bare)


def _bare(place: station.Station, model: records.ModelRef, threads: int, seconds: float, call: object) -> list[int]:
    where = f"random:{model.location}" if model.source == "random" else model.location
    cpus = ",".join(map(str, cores.choose(threads, place.cpus)))
    line = [sys.executable, str(Path(__file__).parent / "bare_loop.py"), where, str(threads), str(seconds), cpus]
    done = subprocess.run(line, input=json.dumps(call), capture_output=True, text=True, check=True)
    samples: list[int] = json.loads(done.stdout)
    return samples


def _compared(
    name: str,
    threads: int,
    measured: records.LatencyMeasurement,
    legs: list[records.Leg],
    bare: list[list[int]],
) -> str:
    reported = measured.baseline.percentiles[0].value_s or math.nan
    looped = float(np.median([ns for process in bare for ns in process])) / 1e9
    logs = []
    for pair, process in enumerate(bare):
        ours = [ns for leg in legs if leg.pair == pair and leg.side == "baseline" for ns in leg.samples_ns]
        logs.append(math.log(statistics.median(ours) / statistics.median(process)))
    half = t_quantile(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    mean = statistics.fmean(logs)
    return (
        f"{name:18} {threads:7d} {1e3 * reported:9.3f} ms {1e3 * looped:6.3f} ms  {reported / looped:6.3f}  "
        f"[{math.exp(mean - half):.3f}, {math.exp(mean + half):.3f}]"
    )


if __name__ == "__main__":
    main()
