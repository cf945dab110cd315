"""What the runs of a `server` job say: each side's service, what is claimed of it, and what is not."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from storage import metrics, records
from storage.statistics import samples_needed
from worker import crews, gains, prepare, rounds, search, serving

BUSY = 0.8
"""An overloaded server whose instances were at work for less than this share of the time had another limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run on one side."""

    pair: int
    rate_per_s: float
    served: serving.Served
    leg: records.Leg
    dispatch_s: float  # what a call cost beyond the instance's own time

    @property
    def overloaded(self) -> bool:
        """Whether no latency can be told: the backlog grew, or the run was given up before all were answered."""
        return self.served.overloaded or bool(np.isnan(self.served.answered_s).any())


@dataclass(slots=True)
class Job:
    """What the whole job shares, and what has been seen so far."""

    run: crews.Run
    spec: records.ServingSpec
    inputs: prepare.Inputs
    budget: records.Budget
    tell: gains.Tell
    began: float = field(default_factory=time.monotonic)
    tally: gains.Tally = field(default_factory=gains.Tally)
    runs: dict[records.Side, list[Run]] = field(default_factory=lambda: {side: [] for side in rounds.SIDES})
    found: dict[records.Side, list[search.Found]] = field(default_factory=lambda: {side: [] for side in rounds.SIDES})
    call_s: dict[records.Side, list[float]] = field(default_factory=dict)  # of one call, by requests in it, from 1

    @property
    def rules(self) -> serving.Rules:
        """How requests are served."""
        return serving.Rules(max_batch=self.spec.max_batch, max_wait_s=self.spec.max_wait_s, cache=self.spec.cache)

    @property
    def elapsed_s(self) -> float:
        """Time since measuring began."""
        return time.monotonic() - self.began

    def counted(self, side: records.Side) -> list[Run]:
        """The runs that a side's numbers are of: all of them, or in a search those at the rates that it found."""
        if self.spec.rate_per_s is not None:
            return self.runs[side]
        best = {pair: one.holds.rate_per_s for pair, one in enumerate(self.found[side]) if one.holds is not None}
        return [run for run in self.runs[side] if best.get(run.pair) == run.rate_per_s]


def requests_needed(spec: records.ServingSpec, rate: float = 0.0) -> int:
    """Requests in a run of a search at a rate: enough for the percentile, and for as long as it takes to see a backlog.

    Those that count hold what LoadGen asks of the percentile. A rate that is above the capacity by the search's width
    w adds w seconds of delay each second, which reaches the bound after bound ÷ w: a shorter run would call it fine.
    """
    of_percentile = math.ceil(samples_needed(spec.quantile or 0.0) / (1 - serving.SETTLING)) + 1
    of_time = math.ceil(rate * (spec.bound_s or 0.0) / search.WIDTH)
    return max(of_percentile, of_time)


def measurement(job: Job, case: records.Case, prepared: prepare.Sides, digest: str) -> records.ServerMeasurement:
    """The result of the job's runs; `digest`: of the inputs."""
    tally, instances = job.tally, len(job.run.cpus["strategy"])
    services = {side: _service(job, side) for side in rounds.SIDES}
    problems = {side: _problem(job, side, services[side]) for side in rounds.SIDES}
    tally.counted_legs = [run.leg for side in rounds.SIDES for run in job.counted(side)]
    sides = [_side(job, case, prepared[side], side, services[side], problems[side]) for side in rounds.SIDES]
    valued = not any(problems.values()) and all(math.isfinite(one.log_gain) for one in tally.counted)
    if not valued:
        tally.counted = [dataclasses.replace(one, log_gain=0.0) for one in tally.counted]
    wanted = job.budget if valued else dataclasses.replace(job.budget, precision=math.inf)
    searched = job.spec.rate_per_s is None and all(one.in_time for found in job.found.values() for one in found)
    stopped = "precision" if searched else "max_seconds"
    fields = gains.common(case, wanted, tally, stopped, job.run.phases, sides)
    flags, notes = _marks(job, services, problems)
    fields |= {
        "gain": fields["gain"] if valued else None,
        "flags": tuple(dict.fromkeys((*flags, *(flag for flag in fields["flags"] if valued or flag != "wide")))),
        "notes": (*notes, *(fields["notes"] if valued else ()), *prepare.notes(prepared["strategy"])),
    }
    return records.ServerMeasurement(
        **fields,
        input_digest=digest,
        instances=instances,
        baseline_service=services["baseline"],
        strategy_service=services["strategy"],
    )


def _side(
    job: Job,
    case: records.Case,
    prepared: prepare.Prepared,
    side: records.Side,
    service: records.Service,
    problem: str,
) -> records.SideFacts:
    batch = 1 if case.input is None else case.input.batch
    counted = job.tally.counted_legs
    if not any(leg.side == side for leg in counted):  # no rate holds: its processes are known nevertheless
        job.tally.counted_legs = [*counted, *(run.leg for run in job.runs[side][:1])]
    rate = service.answered_per_s if job.spec.rate_per_s is not None else (None if problem else service.rate_per_s)
    rows = None if rate is None else batch * rate
    facts = gains.side(side, prepared.strategy, prepared.artifact, job.tally, rows)
    job.tally.counted_legs = counted
    if not problem:
        return facts
    why = "overloaded" if service.overloaded else "no rate"
    withheld = tuple(records.Percentile(q=one.q, value_s=None, withheld=why) for one in facts.percentiles)
    return dataclasses.replace(facts, percentiles=withheld)


def _service(job: Job, side: records.Side) -> records.Service:
    runs, found = job.counted(side), job.found[side]
    held = [one.holds.rate_per_s for one in found if one.holds is not None]
    missed = [one.misses.rate_per_s for one in found if one.misses is not None]
    return records.Service(
        rate_per_s=job.spec.rate_per_s or (statistics.median(held) if held else None),
        misses_per_s=statistics.median(missed) if missed else None,
        overloaded=sum(run.overloaded for run in runs) * 2 > len(runs),
        backlog_per_s=_median([run.served.backlog_per_s for run in runs]),
        answered_per_s=_median([run.served.answered_per_s for run in runs]),
        hit_share=_median([run.served.hit_share for run in runs]),
        mean_batch=_median([run.served.mean_batch for run in runs]),
        busy_share=_median([run.served.busy_share(len(job.run.cpus["strategy"])) for run in runs]),
        dispatch_s=_median([run.dispatch_s for run in runs]),
        queries=sum(len(run.served.arrived_s) for run in runs),
        probes=tuple(_probe(pair, one) for pair, search_ in enumerate(found) for one in search_.probes),
    )


def _median(values: Sequence[float]) -> float:
    """Of what is a number; 0.0 where nothing is (JSON knows no NaN)."""
    known = [value for value in values if math.isfinite(value)]
    return float(statistics.median(known)) if known else 0.0


def _probe(pair: int, one: search.Probe) -> records.Probe:
    return records.Probe(pair=pair, **dataclasses.asdict(one))


def _problem(job: Job, side: records.Side, service: records.Service) -> str:
    """Why a side has no latencies, or no rate; '' where it has."""
    if job.spec.rate_per_s is None:
        return next((reason for found in job.found[side] if (reason := _search_problem(job, found))), "")
    if not service.overloaded:
        return ""
    return (
        f"overloaded: of {job.spec.rate_per_s:g} requests/s {service.answered_per_s:.3g}/s were answered, "
        f"the backlog grew by {max(service.backlog_per_s, 0.0):.3g}/s"
    )


def _search_problem(job: Job, found: search.Found) -> str:
    goal = job.spec.goal
    if found.bracketed:
        return ""
    if not found.in_time:
        seen = "none was tried"
        if found.holds is not None:
            seen = f"{found.holds.rate_per_s:.3g}/s holds, and nothing above was tried"
        elif found.misses is not None:
            seen = f"{found.misses.rate_per_s:.3g}/s misses, and nothing below was tried"
        needed = requests_needed(job.spec)
        return (
            f"the time was over before the highest rate was bracketed ({seen}; a run takes {needed} requests or more)"
        )
    if found.holds is None:
        return f"no rate meets {goal}: {_lowest(found)}"
    return f"no rate was found that misses {goal}: {found.holds.rate_per_s:.3g}/s holds"


def _lowest(found: search.Found) -> str:
    if found.misses is None:
        return "one call alone takes longer"
    value = "" if found.misses.value_s is None else f" with {1e3 * found.misses.value_s:.3g} ms"
    return f"{found.misses.rate_per_s:.3g}/s misses it{value}"


def _marks(
    job: Job, services: Mapping[records.Side, records.Service], problems: Mapping[records.Side, str]
) -> tuple[list[str], list[str]]:
    """Marks for tables, and sentences."""
    flags: list[str] = []
    notes: list[str] = []
    for side in rounds.SIDES:
        service = services[side]
        if problems[side]:
            flags.append("overloaded" if service.overloaded else "no rate")
            notes.append(f"{side}: {problems[side]}")
        if service.overloaded and service.busy_share < BUSY:
            notes.append(f"{side}: its instances were at work {100 * service.busy_share:.0f} % of the time only")
        if not problems[side] and job.spec.rate_per_s is None:
            notes.append(f"{side}: {_bracket(job, side, service)}")
        notes += [f"{side}: {_told(job, service)}"] if service.queries else []
    return flags, list(dict.fromkeys(notes))


def _bracket(job: Job, side: records.Side, service: records.Service) -> str:
    early = " (the time was over)" if not all(found.in_time for found in job.found[side]) else ""
    return (
        f"{service.rate_per_s:.4g} requests/s hold {job.spec.goal}, {service.misses_per_s:.4g}/s do not{early}, by "
        f"{metrics.counted(len(job.found[side]), 'search')}"
    )


def _told(job: Job, service: records.Service) -> str:
    parts = [f"at work {100 * service.busy_share:.0f} % of the time"]
    parts += [f"{service.mean_batch:.2g} requests a call"] if job.spec.max_batch > 1 else []
    parts += [f"{100 * service.hit_share:.0f} % answered by the cache"] if job.spec.cache else []
    return f"{', '.join(parts)}; a call costs {1e6 * service.dispatch_s:.0f} µs beyond its own time"
