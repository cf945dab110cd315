"""Precision for time: machine seconds until a gain's 95 % interval is within ±2 %, paired rounds against unpaired runs.

    python -m benchmarks.precision [--model FOLDER] [--minutes 7] [--disturb]

torch/int8-dynamic against torch/fp32, one call of 32 tokens. Three ways take turns until the time is over:

- paired rounds: a real job of quantfleet, asked for ±2 %;
- unpaired processes, as one runs pyperf: a command with four fresh processes of the baseline, then one with four of the
  strategy. Welch's interval, with a process (the median of its calls) as the unit; and as pyperf compares them, with
  every value (the mean of calls for 0.1 s, three of each process) as a unit of its own;
- one process on each side, as one runs optimum-benchmark: the mean over its calls, taken as independent.

Seconds to ±2 % of the unpaired ways are computed: processes needed for that half width, at the spread and the seconds a
process that were seen. All count what a process costs, its import of torch included (quantfleet's nursery imports it
once for all jobs; its start is told apart). `held`: intervals that hold the gain that is pooled from all others.
`--disturb` keeps another process busy on one core, on and off.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import common, repeatability
from benchmarks.peers import bare, sweep
from storage import distributions, estimates, records
from worker import latency, station

LENGTH = 32
BLOCK = 4
"""Fresh processes of one side in one command."""

VALUES, VALUE_S = 3, 0.1
"""Values of each process and what each lasts: pyperf's defaults."""

CHECKPOINTS_S = (10, 20, 40, 80, 160, 320)

Tick = Callable[[], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """A gain with what its way states of it."""

    mean: float  # of the log gain
    half: float  # half width of the log gain's 95 % interval
    seconds: float  # of the machine, until it was there

    @property
    def variance(self) -> float:
        """Of the mean, as the interval tells it (normal quantile)."""
        return (self.half / 1.96) ** 2

    def holds(self, truth: float) -> bool:
        """Whether the interval holds a log gain."""
        return abs(self.mean - truth) <= self.half


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A fresh process of one side."""

    calls_s: tuple[float, ...]  # every timed call
    wall_s: float  # from its start to its end

    @property
    def centre(self) -> float:
        """Log of the median call."""
        return math.log(statistics.median(self.calls_s))

    @property
    def values(self) -> list[float]:
        """Logs of pyperf's values."""
        found: list[float] = []
        taken: list[float] = []
        for call in self.calls_s:
            taken.append(call)
            if sum(taken) >= VALUE_S:
                found.append(math.log(statistics.fmean(taken)))
                taken = []
        return found[:VALUES] or [math.log(statistics.fmean(self.calls_s))]


Block = tuple[list[Process], list[Process]]
"""Processes of the baseline, then of the strategy."""


@dataclass(slots=True)
class Seen:
    """What has been measured so far."""

    jobs: list[Stated] = field(default_factory=list)
    paths: list[list[tuple[float, float]]] = field(default_factory=list)  # of each job: (seconds, half width)
    blocks: list[Block] = field(default_factory=list)


def main() -> None:
    """Measure for the given time, and print what each way would take."""
    asked = _asked()
    print(common.machine(), flush=True)
    seen, half = Seen(), math.log1p(asked.target / 100)
    with common.place() as place:
        case, model = _case(asked), asked.model.resolve()
        began = time.monotonic()
        latency.measure(place, case, records.Budget(precision=0.5, max_seconds=0.1, min_pairs=2), _nothing, _ignore)
        prepared_s = time.monotonic() - began
        end = time.monotonic() + 60 * asked.minutes
        with repeatability.disturbing(asked.disturb):
            while time.monotonic() < end or len(seen.blocks) < 2:
                _job(place, case, asked, seen)
                seen.blocks.append(_block(model, asked.threads))
                _say(seen)
    print(f"{asked.strategy} against fp32, {model.name}, {asked.threads} thread(s), {LENGTH} tokens; "
          f"{'another process busy on and off' if asked.disturb else 'no other load'}; "
          f"nursery and preparation, once: {prepared_s:.1f} s")  # fmt: skip
    report(seen, half)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=common.ASSETS / "intents-model")
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--target", type=float, default=2.0, help="half width of the interval in percent")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of one job, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--disturb", action="store_true", help="keep another process busy, on and off")
    parser.set_defaults(strategy=sweep.STRATEGY)
    return parser.parse_args()


def _case(asked: argparse.Namespace) -> records.Case:
    return records.Case(
        kind="latency",
        model=common.models(asked.model)[0],
        strategy=f"torch/{sweep.STRATEGY}",
        baseline=f"torch/{sweep.BASELINE}",
        threads=asked.threads,
        input=records.InputSpec(batch=1, length=LENGTH, calls=1),
    )


def _job(place: station.Station, case: records.Case, asked: argparse.Namespace, seen: Seen) -> None:
    """One job of quantfleet, with the width of its interval round by round."""
    began, path = time.monotonic(), []

    def tell(progress: object) -> None:
        assert isinstance(progress, dict)
        if progress.get("gain_low") and progress["pairs"] % 2 == 0 and progress["pairs"] >= 6:
            path.append((time.monotonic() - began, math.log(progress["gain_high"] / progress["gain_low"]) / 2))

    budget = records.Budget(precision=asked.target / 100, max_seconds=asked.limit)
    found, _ = latency.measure(place, case, budget, _nothing, tell)
    assert found.gain is not None
    low, high = found.gain.low, found.gain.high
    assert low is not None and high is not None
    took = time.monotonic() - began
    seen.jobs.append(Stated(mean=math.log(found.gain.value), half=math.log(high / low) / 2, seconds=took))
    seen.paths.append(path)


def _block(model: Path, threads: int) -> Block:
    return _processes(model, threads, sweep.BASELINE), _processes(model, threads, sweep.STRATEGY)


def _processes(model: Path, threads: int, strategy: str) -> list[Process]:
    case = sweep.Case(length=LENGTH, threads=threads, strategy=strategy)
    found = []
    for _ in range(BLOCK):
        began = time.monotonic()
        # half of it is warm-up: pyperf's one value of warm-up, and some more
        samples = bare.samples_ns(Path(sys.executable), model, case, 2.5 * VALUES * VALUE_S)
        found.append(Process(calls_s=tuple(ns / 1e9 for ns in samples), wall_s=time.monotonic() - began))
    return found


def of_processes(block: Block) -> Stated:
    """Welch's interval with the process as the unit."""
    return _welch(*([one.centre for one in side] for side in block), seconds=_cost(block))


def of_values(block: Block) -> Stated:
    """The same with every value as a unit: what pyperf's comparison takes for independent."""
    return _welch(*([value for one in side for value in one.values] for side in block), seconds=_cost(block))


def of_calls(base: Process, own: Process) -> Stated:
    """One process on each side, its calls taken as independent: delta method on the logs of the means."""
    means, errors = zip(*(_mean_and_error(one.calls_s) for one in (base, own)), strict=True)
    half = 1.96 * math.hypot(*errors)
    return Stated(mean=math.log(means[0] / means[1]), half=half, seconds=base.wall_s + own.wall_s)


def _mean_and_error(calls_s: Sequence[float]) -> tuple[float, float]:
    """The mean, and its relative standard error."""
    mean = statistics.fmean(calls_s)
    return mean, statistics.stdev(calls_s) / mean / math.sqrt(len(calls_s))


def _welch(base: Sequence[float], own: Sequence[float], *, seconds: float) -> Stated:
    found = estimates.difference(estimates.of(own), estimates.of(base))
    low, high = found.interval(0.95)
    return Stated(mean=found.value, half=(high - low) / 2, seconds=seconds)


def _cost(block: Block) -> float:
    return sum(one.wall_s for side in block for one in side)


def seconds_to(half: float, variance: float, unit_s: float) -> float:
    """Machine seconds until a mean of units is within ±`half`: t interval, at least two units on each side.

    `variance`: of one unit's log gain (of unpaired ones the sum of both sides' variances), `unit_s`: its cost.
    """
    units = 2
    while width(units, variance) > half:
        units += 1
    return units * unit_s


def width(units: int, variance: float) -> float:
    """Half width of the 95 % interval of the difference of two means of `units` each."""
    return distributions.t_quantile(0.975, 2 * units - 2) * math.sqrt(variance / units)


def pooled(stated: Sequence[Stated], without: Stated | None = None) -> float:
    """The log gain from all of them but one, each with the weight of its precision."""
    others = [one for one in stated if one is not without]
    weights = [1 / max(one.variance, 1e-8) for one in others]
    return sum(w * one.mean for w, one in zip(weights, others, strict=True)) / sum(weights)


def unit_variance(sides: Sequence[Sequence[Sequence[float]]]) -> float:
    """Variance of one unit on each side: the sum of both sides' variances within a block, pooled over blocks."""
    return sum(statistics.fmean(statistics.variance(group) for group in groups) for groups in sides)


def report(seen: Seen, half: float) -> None:
    """Print the table: seconds to the target, the interval of one run, how many held."""
    honest = [of_processes(block) for block in seen.blocks]
    everyone = [*seen.jobs, *honest]
    paired_s = statistics.median(_reached(job, half) for job in seen.jobs)
    print(f"gain ×{math.exp(pooled(everyone)):.3f} from all; paired ×{math.exp(pooled(seen.jobs)):.3f}, "
          f"unpaired ×{math.exp(pooled(honest)):.3f}\n")  # fmt: skip
    print(f"{'way':42}{f'±{100 * math.expm1(half):.0f} % in':>9}{'ratio':>8}{'one run states':>24}{'held':>10}")
    pairs = [pair for block in seen.blocks for pair in zip(*block, strict=True)]
    rows = (
        ("paired rounds (quantfleet)", paired_s, seen.jobs),
        (f"{BLOCK} + {BLOCK} processes, each a unit", _processes_s(seen.blocks, half), honest),
        ("the same, each value a unit (pyperf)", _values_s(seen.blocks, half), [of_values(b) for b in seen.blocks]),
        ("1 + 1 process, each call a unit", _calls_s(pairs, half), [of_calls(*pair) for pair in pairs]),
    )
    for name, seconds, stated in rows:
        print(_line(name, seconds, seconds / paired_s, stated, everyone))
    print("\nhalf width after    " + "".join(f"{at:>7} s" for at in CHECKPOINTS_S))
    print("paired rounds       " + "".join(_cell(value) for value in _paired_curve(seen.paths)))
    print("unpaired processes  " + "".join(_cell(value) for value in _unpaired_curve(seen.blocks)))


def _reached(job: Stated, half: float) -> float:
    """Seconds of a job that was precise enough; of one that ran out of time, what it would have taken."""
    return job.seconds * max(1.0, (job.half / half) ** 2)


def _unit_s(blocks: Sequence[Block]) -> float:
    """Seconds of one process on each side."""
    return statistics.fmean(_cost(block) for block in blocks) / BLOCK


def _processes_s(blocks: Sequence[Block], half: float) -> float:
    return seconds_to(half, _process_variance(blocks), _unit_s(blocks))


def _process_variance(blocks: Sequence[Block]) -> float:
    return unit_variance([[[one.centre for one in block[side]] for block in blocks] for side in (0, 1)])


def _values_s(blocks: Sequence[Block], half: float) -> float:
    """As pyperf sees it: `VALUES` units from each process."""
    groups = [[[value for one in block[side] for value in one.values] for block in blocks] for side in (0, 1)]
    return seconds_to(half, unit_variance(groups), _unit_s(blocks) / VALUES)


def _calls_s(pairs: Sequence[tuple[Process, ...]], half: float) -> float:
    """More calls of the same two processes: import and warm-up are paid once."""
    found = []
    for base, own in pairs:
        stated, timed = of_calls(base, own), sum(base.calls_s) + sum(own.calls_s)
        found.append(stated.seconds + timed * max(0.0, (stated.half / half) ** 2 - 1))
    return statistics.median(found)


def _line(name: str, seconds: float, ratio: float, stated: Sequence[Stated], everyone: Sequence[Stated]) -> str:
    held = sum(one.holds(pooled(everyone, without=one)) for one in stated)
    typical = statistics.median(one.half for one in stated)
    took = statistics.median(one.seconds for one in stated)
    states = f"±{100 * math.expm1(typical):.1f} % after {took:.0f} s"
    return f"{name:42}{seconds:7.0f} s{f'×{ratio:.1f}':>8}{states:>24}{f'{held} of {len(stated)}':>10}"


def _paired_curve(paths: Sequence[Sequence[tuple[float, float]]]) -> Iterator[float | None]:
    """Median half width over the jobs at each checkpoint; a job that has ended keeps its last."""
    for at in CHECKPOINTS_S:
        found = [reached[-1] for path in paths if (reached := [half for seconds, half in path if seconds <= at])]
        yield statistics.median(found) if len(found) > len(paths) / 2 else None


def _unpaired_curve(blocks: Sequence[Block]) -> Iterator[float | None]:
    variance, unit_s = _process_variance(blocks), _unit_s(blocks)
    for at in CHECKPOINTS_S:
        units = int(at / unit_s)
        yield width(units, variance) if units >= 2 else None


def _cell(half: float | None) -> str:
    return f"{'–' if half is None else f'±{100 * math.expm1(half):.1f} %':>9}"


def _say(seen: Seen) -> None:
    job, block = seen.jobs[-1], of_processes(seen.blocks[-1])
    print(f"  job: ×{math.exp(job.mean):.3f} ±{100 * math.expm1(job.half):.1f} % in {job.seconds:.0f} s; "
          f"processes: ×{math.exp(block.mean):.3f} ±{100 * math.expm1(block.half):.1f} % in {block.seconds:.0f} s",
          file=sys.stderr, flush=True)  # fmt: skip


def _nothing() -> None:
    pass


def _ignore(_: object) -> None:
    pass


if __name__ == "__main__":
    main()
