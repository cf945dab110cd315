"""Truth: the median that quantfleet reports against a bare loop over the same model and input.

    python -m benchmarks.truth [--model FOLDER] [--processes 12] [--seconds 1]

For two models × threads 1 and 2: a job of two pairs and two bare loops, each in a fresh process of its own, in turn, so
that both see the same drift of the machine; as many fresh processes on each side.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

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
    files, _ = prepare.inputs(place, case, lambda: None)
    call = {name: ids.tolist() for name, ids in load_calls(Path(files["baseline"]))[0].items()}
    ours: list[list[int]] = []
    bare: list[list[int]] = []
    for number in range(0, processes, 2):
        # neither side may always come second: what a process frees, the next one gets
        if number % 4:
            ours += _ours(place, case, seconds)
        bare += [_bare(place, case, seconds, call), _bare(place, case, seconds, call)]
        if not number % 4:
            ours += _ours(place, case, seconds)
    return _compared(model.name, threads, ours, bare)


def _ours(place: station.Station, case: records.Case, seconds: float) -> list[list[int]]:
    """The baseline's counted samples of a job of two pairs, pair by pair: what its reported median is taken over."""
    budget = records.Budget(precision=1e-9, max_seconds=2 * seconds, min_pairs=2)
    _, legs = latency.measure(place, case, budget, lambda: None, lambda _: None)
    good = [leg for leg in legs if leg.side == "baseline" and not leg.disturbed]
    return [[ns for leg in good if leg.pair == pair for ns in leg.samples_ns] for pair in (0, 1)]


def _bare(place: station.Station, case: records.Case, seconds: float, call: object) -> list[int]:
    model, threads = case.model, case.threads or 1
    where = f"random:{model.location}" if model.source == "random" else model.location
    cpus = ",".join(map(str, cores.choose(threads, place.cpus)))
    line = [sys.executable, str(Path(__file__).parent / "bare_loop.py"), where, str(threads), str(seconds), cpus]
    done = subprocess.run(line, input=json.dumps(call), capture_output=True, text=True, check=True)
    samples: list[int] = json.loads(done.stdout.splitlines()[-1])
    return samples


def _compared(name: str, threads: int, ours: list[list[int]], bare: list[list[int]]) -> str:
    reported, looped = (float(np.median([ns for one in side for ns in one])) / 1e6 for side in (ours, bare))
    logs = [math.log(statistics.median(a) / statistics.median(b)) for a, b in zip(ours, bare, strict=True) if a]
    half = t_quantile(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    mean = statistics.fmean(logs)
    return (
        f"{name:18} {threads:7d} {reported:9.3f} ms {looped:6.3f} ms  {reported / looped:6.3f}  "
        f"[{math.exp(mean - half):.3f}, {math.exp(mean + half):.3f}]"
    )


if __name__ == "__main__":
    main()
