"""How far a machine moves from one job to the next, told by the baseline that every job measures again (pure).

Sessions of one job share its minute: neighbours on the host, clock rates, temperature. Their spread says nothing of
that, so two jobs of the same case differ by more than it allows. The baseline is in every job: where several jobs
measured the same one, the variance of their means beyond what their sessions explain is the machine's drift.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from scheduler.compare import Comparison
from scheduler.sessions import Session
from storage import estimates
from storage.estimates import Component, Estimate

Lookup = Callable[[str, str], Sequence[Session]]
"""Kind and job id → its sessions."""


def drifts(rows: Iterable[Comparison], sessions: Lookup) -> dict[str, Component]:
    """Hardware key → variance of ln seconds between its jobs; hardware without two jobs of one baseline has none.

    One-way analysis of variance (Searle, Casella & McCulloch 1992, 3.6), pooled over all baselines: what the jobs'
    means vary beyond the sessions' own errors, at least 0, with the added degrees of freedom of the means.
    """
    means: dict[str, dict[Hashable, dict[str, Estimate]]] = {}
    for row in rows:
        for job_id in row.job_ids:
            logs = [session.log_baseline for session in sessions(row.kind, job_id)]
            if len(logs) >= 2:
                jobs = means.setdefault(row.hardware_key, {}).setdefault(_control(row), {})
                jobs[job_id] = estimates.of(logs)
    pooled = {hardware: _pooled(controls) for hardware, controls in means.items()}
    return {hardware: found for hardware, found in pooled.items() if found is not None}


def _control(row: Comparison) -> Hashable:
    """What makes two baselines the same measurement."""
    where = (row.environment_key, row.kind, row.model_digest, row.input_digest)
    return (*where, row.baseline, row.threads, row.input)


def _pooled(controls: Mapping[Hashable, Mapping[str, Estimate]]) -> Component | None:
    import numpy as np

    squares, own, df = 0.0, 0.0, 0
    for jobs in controls.values():
        more = len(jobs) - 1
        if more > 0:
            squares += float(np.var([one.mean for one in jobs.values()])) * len(jobs)
            own += float(np.mean([one.variance for one in jobs.values()])) * more
            df += more
    return Component(variance=max(0.0, squares - own) / df, df=df) if df else None
