"""Choices, fronts and offers as plain data for `--json`; names end in their unit, absent numbers are null."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scheduler.across import Where
from scheduler.capacity import EVIDENCE, Capacity, Offer
from scheduler.choose import Choice
from scheduler.compare import SHOWN
from scheduler.demands import Check, Judged, Limit
from scheduler.fleet_choice import Candidate, FleetChoice
from scheduler.machines import Machine
from scheduler.measures import Measure, Objective
from scheduler.pareto import Front
from scheduler.points import Configuration, Point, Workload

Machines = Mapping[Where, Machine]


def choice(found: Choice, objective: Objective, machines: Machines) -> dict[str, Any]:
    """What is best for a workload on a platform."""
    tied = {id(one) for one in found.ties}
    return {
        **_workload(found.workload),
        "platform": machine(machines[found.where]),
        "best": None if found.best is None else _judged(found.best),
        "ties": [_judged(one) for one in found.ties],
        "others": [_judged(one) for one in found.ranked[1:] if id(one) not in tied],
        "not_shown": [_judged(one) for one in found.unshown],
        "nearest": [_judged(one) for one in found.nearest],
        "missed": found.missed,
        "objective": objective.name,
    }


def fleet(found: FleetChoice, objective: Objective, machines: Machines) -> dict[str, Any]:
    """The one configuration for a workload on several platforms."""
    tied = {id(one) for one in found.ties}
    return {
        **_workload(found.workload),
        "objective": objective.name,
        "platforms": [machine(machines[where]) for where in found.hosts],
        "minimax": None if found.minimax is None else _candidate(found.minimax),
        "weighted": None if found.weighted is None else _candidate(found.weighted),
        "candidates": [{**_candidate(one), "tied": id(one) in tied} for one in found.candidates],
        "missing": [
            {**_configuration(one.configuration), "hardware_keys": [hardware for hardware, _ in one.where]}
            for one in found.missing
        ],
    }


def front(found: Front, machines: Machines) -> dict[str, Any]:
    """A front, and what is off it."""
    return {
        **_workload(found.workload),
        "platform": machine(machines[found.where]),
        "objectives": [one.name for one in found.objectives],
        "unmeasured": list(found.unmeasured),
        "points": [_point(one) for one in found.points],
        "dominated": [
            {**_point(one.point), "by": _configuration(one.by.configuration), "better_in": list(one.in_)}
            for one in found.dominated
        ],
        "unplaced": [{**_point(point), "lacks": list(names)} for point, names in found.unplaced],
    }


def capacity(found: Capacity, machines: Machines) -> dict[str, Any]:
    """Which machines carry a load."""
    tied = {id(one) for one in found.ties}
    request = found.request
    return {
        "model": request.model,
        "model_digest": request.model_digest,
        "length": request.length,
        "load_per_s": found.load,
        "offers": [{**_offer(one), "tied": id(one) in tied} for one in found.offers],
        "withheld": [{**machine(machines[where]), "reason": reason} for where, reason in found.withheld.items()],
        "not_shown": [{**machine(machines[one.point.where]), **_judged(one)} for one in found.unshown],
        "nearest": [_judged(one) for one in found.nearest],
    }


def limit(found: Limit) -> dict[str, Any]:
    """A limit in base units: seconds, share, bytes."""
    return {"name": found.name, "most": found.most}


def machine(found: Machine) -> dict[str, Any]:
    """A platform."""
    hardware_key, environment_key = found.where
    return {
        "hardware_key": hardware_key,
        "environment_key": environment_key,
        "label": found.name,
        "hosts": found.hosts,
        "price_per_hour": found.price,
    }


def _offer(found: Offer) -> dict[str, Any]:
    low, high = found.interval or (None, None)
    return {
        **machine(found.machine),
        "configuration": _judged(found.judged),
        "instances": found.instances,
        "evidence": found.evidence,
        "evidence_means": EVIDENCE[found.evidence],
        "rate_per_s": found.rate,
        "rate_low_per_s": low,
        "rate_high_per_s": high,
        "hosts_needed": found.hosts,
        "hosts_needed_least": found.hosts_least,
        "total_per_hour": found.total,
        "notes": list(found.notes),
    }


def _candidate(found: Candidate) -> dict[str, Any]:
    return {
        "strategy": found.configuration.strategy,
        "worst_regret": found.worst,
        "mean_regret": found.mean,
        "platforms": [
            {
                "hardware_key": where[0],
                "environment_key": where[1],
                **_configuration(cell.point.configuration),
                "regret": cell.regret,
                "tied": cell.tied,
            }
            for where, cell in found.cells.items()
        ],
    }


def _judged(found: Judged) -> dict[str, Any]:
    return {**_point(found.point), "state": found.state, "checks": [_check(one) for one in found.checks]}


def _check(found: Check) -> dict[str, Any]:
    return {
        "limit": found.limit.name,
        "state": found.state,
        "value": found.value,
        "high": found.high,
        "excess": None if math.isinf(found.excess) else found.excess,
        "reason": found.why or None,
        "samples": found.samples or None,
        "samples_times": found.times,
    }


def _point(found: Point) -> dict[str, Any]:
    row = found.row
    return {
        **_configuration(found.configuration),
        "input": row.input,
        "job_ids": list(row.job_ids),
        "measures": {name: _measure(one) for name, one in found.measures.items()},
        "gain": row.gain,
        "latency_p50_s": row.latency_p50_s,
        "latency_p90_s": row.latency_p90_s,
        "latency_p95_s": row.latency_p95_s,
        **{f"latency_p{q}_{end}_s": getattr(row, f"latency_p{q}_{end}_s") for q in SHOWN for end in ("low", "high")},
        "accuracy": row.accuracy.accuracy if row.accuracy else None,
    }


def _measure(found: Measure) -> dict[str, Any]:
    """`low` and `high` hold against every other configuration, the `near` ones against those of the same baseline."""
    low, high = found.wide or (None, None)
    near_low, near_high = found.near or (None, None)
    return {"value": found.value, "low": low, "high": high, "near_low": near_low, "near_high": near_high}


def _configuration(found: Configuration) -> dict[str, Any]:
    return {
        "strategy": found.strategy,
        "threads": found.threads,
        "instances": found.instances,
        "details": list(found.details),
    }


def _workload(found: Workload) -> dict[str, Any]:
    return {
        "workload": found.name,
        "model": found.model,
        "model_digest": found.model_digest,
        "kind": found.kind,
        "batch": found.batch,
        "length": found.length,
        "arrivals": found.arrivals or None,
    }
