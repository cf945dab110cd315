"""What the database is asked for, as frozen views; filled by `storage.queries`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from storage import ceilings, measurements, records

AWAY_S = 60.0
"""A host whose worker was not seen for so long is away: four of its ticks."""

Standing = Literal["here", "stopped", "away", "imported"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """A job and how far it is."""

    id: str
    key: str
    studies: tuple[str, ...]  # names, sorted
    kind: str
    model: str
    strategy: str
    baseline: str
    threads: int | None
    input: str | None  # the label of what a call gets
    instances: int | None = None  # processes side by side; None: one, or none asked for
    replica: int
    platform_key: str  # or records.ANY_PLATFORM
    wanted_host: str | None  # the one host that it is for
    state: str  # records.JobState
    attempts: int
    crashes: int
    errors: int
    cancelling: bool  # cancelled by a person, its worker has not seen it yet
    message: str | None  # of the last failure
    detail: str | None
    host: str | None  # of the newest claim
    progress: Mapping[str, Any] | None
    created_at: float
    published_at: float | None
    not_before_at: float
    claimed_at: float | None
    lease_until_at: float | None
    finished_at: float | None

    @property
    def wall_s(self) -> float | None:
        """Seconds from the last claim to the end, None before the end or without a claim."""
        if self.claimed_at is None or self.finished_at is None:
            return None
        return max(0.0, self.finished_at - self.claimed_at)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobGroup:
    """How many jobs have all of this in common: what a fleet's progress is made of, however many jobs there are."""

    platform_key: str  # or records.ANY_PLATFORM
    wanted_host: str | None  # the one host that they are for
    host: str | None  # of the newest claim
    state: str
    kind: str
    model: str
    strategy: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureGroup:
    """How many jobs ended alike without a result, and why."""

    state: str
    message: str | None
    model: str
    strategy: str
    host: str | None  # of the newest claim
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptView:
    """One try at a job."""

    number: int
    token: int
    host: str
    state: str  # running, done, or a records.Failure's reason
    started_at: float
    ended_at: float | None
    message: str | None
    detail: str | None
    signal: int | None
    resident_peak_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultView:
    """A job that has come to its end: its numbers, or in `message` why there are none.

    A number is None where the kind of job has none or the sample supports none. `baseline_*` is the same
    number of the baseline on the same host.
    """

    job_id: str
    kind: str
    state: str
    model: str
    model_digest: str | None
    strategy: str
    baseline: str
    threads: int | None
    batch: int | None
    length: int | str | None  # tokens, or "dataset"
    padding: str | None
    input: str | None  # the label of what a call gets
    replica: int
    host: str | None
    cpu: str | None
    hardware_key: str | None
    environment_key: str | None
    platform_key: str
    finished_at: float | None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    latency_p50_s: float | None = None
    latency_p90_s: float | None = None
    latency_p95_s: float | None = None
    latency_p99_s: float | None = None
    throughput_per_s: float | None = None
    artifact_bytes: int | None = None
    resident_before_bytes: int | None = None
    resident_loaded_bytes: int | None = None
    resident_peak_bytes: int | None = None
    prepare_s: float | None = None
    load_s: float | None = None
    first_answer_s: float | None = None
    threads_set: int | None = None
    threads_observed: int | None = None
    baseline_latency_p50_s: float | None = None
    baseline_latency_p90_s: float | None = None
    baseline_latency_p95_s: float | None = None
    baseline_latency_p99_s: float | None = None
    baseline_throughput_per_s: float | None = None
    baseline_artifact_bytes: int | None = None
    baseline_resident_before_bytes: int | None = None
    baseline_resident_loaded_bytes: int | None = None
    baseline_resident_peak_bytes: int | None = None
    baseline_prepare_s: float | None = None
    baseline_load_s: float | None = None
    baseline_first_answer_s: float | None = None
    baseline_threads_set: int | None = None
    baseline_threads_observed: int | None = None
    pairs: int | None = None
    rounds: int | None = None
    variance_between: float | None = None
    variance_within: float | None = None
    stopped: str | None = None
    measured_s: float | None = None
    accuracy: float | None = None
    correct: int | None = None
    rows: int | None = None
    dataset_digest: str | None = None
    input_digest: str | None = None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    message: str | None = None  # why there is no number
    instances: int | None = None  # processes side by side; None: one, or none asked for
    joules_per_row: float | None = None  # of the whole machine; None where it does not tell
    baseline_joules_per_row: float | None = None
    floor_s: float | None = None  # this and the next three are derived: scheduler.limits
    limit_share: float | None = None
    bound: str | None = None
    baseline_limit_share: float | None = None
    document: Mapping[str, Any]  # the whole measurement without predictions, or its excerpt; empty without a result

    @property
    def made_digest(self) -> str | None:
        """Digest of the model that the strategy's transforms made; None for a strategy without transforms."""
        facts = self.document.get("strategy", {}).get("artifact", {}).get("facts", {})
        made = facts.get("transforms") or [{}]
        found: str | None = made[-1].get("model_digest")
        return found

    def measurement(self) -> records.LatencyMeasurement | None:
        """The whole record of a job whose result is a gain; None for other kinds, without a result, and for a foreign
        result (`storage.foreign`), whose document is another."""
        if self.kind not in records.PAIRED or not self.document or "origin" in self.document:
            return None
        found: records.LatencyMeasurement = records.from_document(measurements.BY_KIND[self.kind], self.document)
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class CeilingsView:
    """What was measured of a hardware itself, where and when."""

    job_id: str
    hardware_key: str
    platform_key: str
    host: str
    finished_at: float
    measurement: ceilings.CeilingsMeasurement


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """An accuracy job's answers, row by row."""

    predictions: Sequence[int]  # class indices
    labels: Sequence[int]  # the right ones


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What is left of a job's raw samples."""

    job_id: str
    pruned_at: float
    legs: int  # how many there were
    samples: int  # in all of them
    document: Mapping[str, Any]  # scheduler.remains: what is concluded from them


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyName:
    """What a study can be asked for by."""

    id: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyView:
    """A submitted study and how far its jobs are."""

    id: str
    name: str
    text: str
    submitted_at: float
    document: Mapping[str, Any] | None  # scheduler.saved's; None for a study of an older version
    states: Mapping[str, int]  # job state → count

    @property
    def jobs(self) -> int:
        """How many jobs it has."""
        return sum(self.states.values())

    @property
    def finished(self) -> int:
        """How many of them have come to their end."""
        return sum(count for state, count in self.states.items() if state in records.TERMINAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostView:
    """A machine that workers ran on."""

    name: str
    platform: records.Platform
    labels: Mapping[str, str]
    first_seen_at: float
    last_seen_at: float
    unseen_s: float  # seconds since then, by the database's clock
    stopped_at: float | None  # its worker said goodbye then
    imported_at: float | None = None  # known from another database only, since then

    @property
    def standing(self) -> Standing:
        """`here`: it serves; `stopped`: its worker ended in order; `away`: unseen for longer than `AWAY_S`;
        `imported`: it never served here."""
        if self.imported_at is not None:
            return "imported"
        if self.stopped_at is not None:
            return "stopped"
        return "away" if self.unseen_s > AWAY_S else "here"
