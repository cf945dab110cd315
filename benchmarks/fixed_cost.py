"""What a latency job costs besides its measurement, phase by phase.

    python -m benchmarks.fixed_cost [--model FOLDER] [--strategies torch/int8-dynamic onnxruntime/int8-dynamic]
                                    [--threads 1] [--length 16] [--seconds 5] [--jobs 3]

Runs jobs as a worker does, from a database, with prepared models ready in the cache, one after the other in one worker.
The first column of each strategy is a job that finds no nursery of its runtime; the other one is the median of the jobs
after it. Seconds; `×12` is the number of measured processes that a phase was done for.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import common
from storage import digests, hosts, keys, lifecycle, queries, records, settings, strategies
from storage.database import Database
from worker import delivery, environment, hardware, nursery, station, supervisor

ROWS = (
    ("claim", "claim"),
    ("artifacts, found ready", "prepare"),
    ("inputs", "inputs"),
    ("nurseries: start, import", "nursery"),
    ("fork", "start"),
    ("load the model", "load"),
    ("first call", "first call"),
    ("bind, count the work, wire", "opening"),
    ("warm-up, until it is steady", "warm-up"),
    ("legs of the rounds", "legs"),
    ("wait for an idle partner", "wait"),
    ("end the processes", "close"),
    ("other: judge, estimate, tell", "other"),
    ("store the result", "deliver"),
)
"""What a row is called, and its phase, in the order in which they come."""

EACH = frozenset({"start", "load", "first call", "opening", "warm-up", "close"})
"""Phases of each measured process."""


@dataclass(slots=True)
class Trace:
    """Seconds spent in some functions, and when the first warm-up began."""

    seconds: dict[str, float] = field(default_factory=dict)
    warmed_at: float | None = None

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time added up under a name."""

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

        return call

    def started(self, start: Callable[..., None]) -> Callable[..., None]:
        """`nursery.Nursery._start`, timed by its family."""

        def call(one: nursery.Nursery, tick: nursery.Tick) -> None:
            self.timed(f"nursery {one.family}", start)(one, tick)

        return call

    def watched(self, begin: Callable[..., None]) -> Callable[..., None]:
        """`nursery.Child.begin`, watched for the first warm-up."""

        def call(child: nursery.Child, op: str, request: Mapping[str, Any] | None = None) -> None:
            if op == "warm" and self.warmed_at is None:
                self.warmed_at = time.monotonic()
            begin(child, op, request)

        return call


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """One job's seconds by phase."""

    phases: Mapping[str, float]
    wall: float
    warmed: float  # from the wake-up to the first warm-up's first call
    processes: int  # measured processes
    rounds: int


def main() -> None:
    """Run the jobs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a model; the demo's by default")
    parser.add_argument("--strategies", nargs="+", default=["torch/int8-dynamic", "onnxruntime/int8-dynamic"])
    parser.add_argument("--baseline", help="of the same runtime, in fp32, by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0, help="a job's max_seconds")
    parser.add_argument("--precision", type=float, default=0.03)
    parser.add_argument("--jobs", type=int, default=3, help="jobs of each strategy")
    asked = parser.parse_args()
    print(common.machine())
    with common.scratch() as folder:
        columns = {
            strategy: _strategy(asked, folder / f"{number}.db", strategy)
            for number, strategy in enumerate(asked.strategies)
        }
    _table(columns)


def _strategy(asked: argparse.Namespace, file: Path, strategy: str) -> list[Cost]:
    """The costs of a strategy's jobs in a worker of their own."""
    platform = keys.platform(hardware.probe(os.environ), environment.probe())
    model = common.models(asked.model)[0]
    case = records.Case(
        kind="latency",
        model=replace(model, digest=digests.model_digest(Path(model.location))),
        strategy=strategy,
        baseline=asked.baseline or f"{station.family(strategy)}/fp32",
        threads=asked.threads,
        input=records.InputSpec(batch=1, length=asked.length),
    )
    budget = records.Budget(precision=asked.precision, max_seconds=asked.seconds)
    with Database.create_or_open(f"sqlite:///{file}") as database:
        hosts.register(database, name="here", platform=platform)
        with _worker(platform) as place:  # whatever is not in the cache yet is made by a job that does not count
            _run(place, database, _submit(database, case, budget, platform, replica=0))
        with _worker(platform) as place:
            return [
                _run(place, database, _submit(database, case, budget, platform, replica=number))
                for number in range(1, asked.jobs + 1)
            ]


@contextmanager
def _worker(platform: records.Platform) -> Iterator[station.Station]:
    place = station.Station(settings.load(host="here"), platform)
    try:
        yield place
    finally:
        place.close()


def _submit(
    database: Database, case: records.Case, budget: records.Budget, platform: records.Platform, replica: int
) -> str:
    key = keys.job_key(case, platform.key, replica)
    job = records.PlannedJob(key=key, case=case, platform_key=platform.key, replica=replica, budget=budget)
    text = lifecycle.StudyText(name="fixed-cost", text="", document={})
    return lifecycle.submit(database, study=text, jobs=[job]).new[0]


def _run(place: station.Station, database: Database, job_id: str) -> Cost:
    trace = Trace()
    with (
        mock.patch.object(lifecycle, "claim", trace.timed("claim", lifecycle.claim)),
        mock.patch.object(delivery, "deliver", trace.timed("deliver", delivery.deliver)),
        mock.patch.object(nursery.Nursery, "_start", trace.started(nursery.Nursery._start)),
        mock.patch.object(nursery.Child, "begin", trace.watched(nursery.Child.begin)),
    ):
        began = time.monotonic()
        state = supervisor.run_job(place, database, job_id)
        wall = time.monotonic() - began
    (view,) = [view for view in queries.results(database) if view.job_id == job_id]
    if state != "done" or trace.warmed_at is None:
        sys.exit(f"the job did not end with a gain: {state}; {view.message}")
    return _cost(view.document, trace, wall, trace.warmed_at - began)


def _cost(document: Mapping[str, Any], trace: Trace, wall: float, warmed: float) -> Cost:
    processes, sides = 2 * document["pairs"], (document["baseline"], document["strategy"])
    phases = {**document["overhead"], **document["measuring"], **trace.seconds}
    loads = processes / 2 * sum(side["load_s"] for side in sides)
    firsts = processes / 2 * sum(side["first_answer_s"] for side in sides)
    phases |= {"opening": phases["load"] - loads - firsts, "load": loads, "first call": firsts}
    starts = {name.split()[1]: seconds for name, seconds in trace.seconds.items() if name.startswith("nursery ")}
    for family, seconds in starts.items():  # each was started by its first child
        phases["prepare" if family == strategies.PREPARER else "start"] -= seconds
    phases["nursery"] = sum(starts.values())
    return Cost(phases=phases, wall=wall, warmed=warmed, processes=processes, rounds=document["rounds"])


def _table(columns: Mapping[str, Sequence[Cost]]) -> None:
    shown = {strategy: (costs[0], _middle(costs[1:])) for strategy, costs in columns.items() if len(costs) > 1}
    print(f"{'':32}" + "".join(f"{strategy:>28}" for strategy in shown))
    print(f"{'seconds of a job':32}" + "".join(f"{'the first':>14}{'the next':>14}" for _ in shown))
    every = [cost for pair in shown.values() for cost in pair]
    for label, name in ROWS:
        cells = [_cell(cost.phases.get(name, 0.0), cost.processes if name in EACH else 0) for cost in every]
        print(f"  {label:30}" + "".join(f"{cell:>14}" for cell in cells))
    covered = [cost.wall - sum(cost.phases.get(name, 0.0) for _, name in ROWS) for cost in every]
    print(f"  {'not covered':30}" + "".join(f"{seconds:14.2f}" for seconds in covered))
    print(f"{'all':32}" + "".join(f"{cost.wall:14.2f}" for cost in every))
    print(f"{'until the first warm-up call':32}" + "".join(f"{cost.warmed:14.2f}" for cost in every))
    print(f"{'pairs, rounds':32}" + "".join(f"{f'{cost.processes // 2}, {cost.rounds}':>14}" for cost in every))


def _cell(seconds: float, times: int) -> str:
    return f"{seconds:.2f} ×{times}" if times else f"{seconds:.2f}    "


def _middle(costs: Sequence[Cost]) -> Cost:
    """The medians of several jobs."""
    names = {name for cost in costs for name in cost.phases}
    return Cost(
        phases={name: statistics.median(cost.phases.get(name, 0.0) for cost in costs) for name in names},
        wall=statistics.median(cost.wall for cost in costs),
        warmed=statistics.median(cost.warmed for cost in costs),
        processes=round(statistics.median(cost.processes for cost in costs)),
        rounds=round(statistics.median(cost.rounds for cost in costs)),
    )


if __name__ == "__main__":
    main()
