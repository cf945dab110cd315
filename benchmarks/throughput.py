"""Is the rate right? A throughput job's rate against bare loops in as many processes, in turn.

    python -m benchmarks.throughput [MODEL_FOLDER] [--processes 6]

The bare loops (`bare_loop.py`) are started side by side, know nothing of quantfleet, and each is bound to the CPUs that
an instance has. Prints rows per second of both, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import common
from storage import records
from worker import cores, prepare, station, throughput
from worker.engine.inputs import load_calls

LENGTH = 16
SECONDS = 3.0
BUDGET = records.Budget(precision=1e-6, max_seconds=10.0, min_pairs=2)


def main() -> None:
    """Measure on one instance and on as many as fill the cores, one thread each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="folder of a model; the demo's by default")
    parser.add_argument("--processes", type=int, default=6, help="fresh processes (for each instance) on either side")
    given = parser.parse_args()
    print(common.machine())
    with common.place() as place:
        model = common.models(given.model)[0]
        for instances in dict.fromkeys((1, len(place.cpus))):
            print(_row(place, model, instances, given.processes), flush=True)


def _row(place: station.Station, model: records.ModelRef, instances: int, processes: int) -> str:
    case = records.Case(
        kind="throughput",
        model=model,
        strategy="torch/fp32",
        baseline="torch/fp32",
        threads=1,
        instances=instances,
        input=records.InputSpec(batch=1, length=LENGTH, calls=1),
    )
    files, _ = prepare.inputs(place, case, lambda: None)
    call = {name: ids.tolist() for name, ids in load_calls(Path(files["baseline"]))[0].items()}
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(0, processes, 2):
        bare.append(_bare(place, case, instances, call))
        found, _ = throughput.measure(place, case, BUDGET, lambda: None, lambda _: None)
        ours += [found.baseline_load.rate_per_s, found.strategy_load.rate_per_s]
        bare.append(_bare(place, case, instances, call))
    ratio = statistics.fmean(map(math.log, ours)) - statistics.fmean(map(math.log, bare))
    return (
        f"{model.name}, {instances} × 1 thread: {statistics.median(ours):.1f} rows/s by a job, "
        f"{statistics.median(bare):.1f} by bare loops: ×{math.exp(ratio):.3f}"
    )


def _bare(
    place: station.Station, case: records.Case, instances: int, call: Mapping[str, Sequence[Sequence[int]]]
) -> float:
    """Rows per second of bare loops side by side, one for each instance."""
    where = case.model.location if case.model.source == "local" else f"random:{case.model.location}"
    script = str(Path(__file__).with_name("bare_loop.py"))
    running = []
    for cpus in cores.layout(instances, 1, place.cpus):
        line = [sys.executable, script, where, "1", str(SECONDS), ",".join(map(str, cpus))]
        running.append(subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in running:
        assert process.stdin is not None
        process.stdin.write(json.dumps(call))
        process.stdin.close()
        process.stdin = None
    answers = [process.communicate()[0] for process in running]
    starts = [json.loads(answer.splitlines()[-2]) for answer in answers]
    # loops do not begin at quite the same time: their middle halves overlap; what lies between calls counts as well
    middles = [times[len(times) // 4 : -len(times) // 4] for times in starts]
    return math.fsum(1e9 * (len(times) - 1) / (times[-1] - times[0]) for times in middles)


if __name__ == "__main__":
    main()
