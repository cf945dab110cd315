"""Jobs that compute nothing: they go the way of every other job, and show what that way costs.

For benchmarks and tests of the delivery only. No study can ask for one, and a worker refuses them unless its
`QUANTFLEET_NOOP` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from storage import keys, records

NOTHING = records.ModelRef(name="nothing", source="none", location="nothing")
"""What stands where a case names its model."""

CASE = records.Case(kind="noop", model=NOTHING, strategy="", baseline="")
"""The one case that there is; jobs differ in platform, host and replica."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoopMeasurement:
    """The result of a `noop` job: that it was done."""

    measured_s: float = 0.0
    overhead: Mapping[str, float] = field(default_factory=dict)  # seconds by phase
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def job(platform_key: str, replica: int, wanted_host: str | None = None) -> records.PlannedJob:
    """One `noop` job; those of one place are told apart by their replica."""
    return records.PlannedJob(
        key=keys.job_key(CASE, platform_key, replica, wanted_host),
        case=CASE,
        platform_key=platform_key,
        replica=replica,
        budget=records.Budget(),
        wanted_host=wanted_host,
    )
