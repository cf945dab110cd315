"""The vocabulary as frozen records (standard library only).

Records travel as JSON documents: `to_document` and `from_document` are the only way in and out, and
every document carries `SCHEMA_VERSION`, so that an older worker can tell that it does not understand.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

SCHEMA_VERSION = 1
"""Version of the documents below and of the queue's messages."""

PROTOCOL_VERSION = 1
"""Version of the way of measuring; part of the job key: numbers taken otherwise are other numbers."""

Kind = Literal["latency", "throughput", "server", "tensor", "accuracy", "prepare", "ceilings", "noop"]
"""What is done; `noop` (storage.noop) is for tests of the delivery alone."""

Prepare = Literal["host", "once"]
Source = Literal["hub", "local", "random", "none"]  # none: what is about no model
Side = Literal["baseline", "strategy"]
JobState = Literal["queued", "running", "done", "unsupported", "failed", "dead", "cancelled"]

TERMINAL: frozenset[str] = frozenset({"done", "unsupported", "failed", "dead", "cancelled"})
"""Job states in which nothing more happens by itself."""

OPEN: frozenset[str] = frozenset({"queued", "running"})
"""Job states in which a job still comes to a result."""

PAIRED: frozenset[str] = frozenset({"latency", "throughput", "server", "tensor"})
"""Kinds whose result is a gain: baseline and strategy are measured in turn."""

ANY_PLATFORM = "any"
"""The platform key of a job that whichever host can may run."""

PADDINGS = ("longest", "max:N", "sorted", "buckets:N")
"""How the rows of a call come to one length: `longest` of the batch; always N tokens; `sorted` by length into batches,
each padded to its longest row; `buckets:N`: sorted, and padded to the next multiple of N tokens."""

DATASET_LENGTH = "dataset"
"""The value of `InputSpec.length` that stands for real rows at their own lengths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRef:
    """What is optimized, and what makes it the same model on another host."""

    name: str  # what the study calls it
    source: Source
    location: str  # hub id, absolute folder, or architecture (transformers' model_type)
    revision: str | None = None  # hub only: branch, tag or commit
    config: Mapping[str, Any] = field(default_factory=dict)  # random only: overrides of the architecture's config
    seed: int = 0  # random only: seed of the weights
    allow_pickle: bool = False  # the study vouches for a pickled checkpoint of its own
    digest: str | None = None  # content identity, as far as the planner could know it


NUMBERS = ModelRef(name="random-numbers", source="random", location="numbers")
"""Stands for the model of a tensor operation on random numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRef:
    """Labelled texts for accuracy and for inputs at real lengths."""

    source: Literal["hub", "local"]
    location: str  # hub id or absolute path of a parquet, CSV or JSON-lines file
    config: str | None = None  # hub only: the dataset's configuration, e.g. "plus"
    split: str | None = None  # hub only
    revision: str | None = None  # hub only
    text: str = "text"  # column of the input text
    label: str = "label"  # column of the label: class index or class name
    rows: int | None = None  # at most so many rows, the first ones; None: all
    batch: int = 1  # rows in one call of an accuracy run
    digest: str | None = None  # content identity, as far as the planner could know it


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """What one call gets."""

    batch: int  # rows in one call
    length: int | Literal["dataset"]  # tokens in a row, or real rows at their own lengths
    padding: str = "longest"  # see PADDINGS
    calls: int = 16  # distinct calls drawn from the dataset; 1 for a fixed length
    baseline_padding: str | None = None  # what the baseline's calls are padded with; None: the same

    def label(self) -> str:
        """The input as tables show it, e.g. `b1×l16`, `b8×dataset/max:128` or `b8×dataset/sorted vs max:128`."""
        tail = "" if self.padding == "longest" else f"/{self.padding}"
        length = self.length if self.length == DATASET_LENGTH else f"l{self.length}"
        against = "" if self.baseline_padding is None else f" vs {self.baseline_padding}"
        return f"b{self.batch}×{length}{tail}{against}"

    def of_side(self, side: Side) -> InputSpec:
        """What one side gets: the same rows, padded its own way, and cut alike where one of the two ways cuts."""
        if side == "strategy" or self.baseline_padding is None:
            return self
        return dataclasses.replace(self, padding=self.baseline_padding, baseline_padding=self.padding)

    @property
    def cut(self) -> int | None:
        """Tokens beyond which real rows are cut."""
        found = [int(way[4:]) for way in (self.padding, self.baseline_padding) if way and way.startswith("max:")]
        return min(found, default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """The operands of a tensor operation: a layer's weight, or random numbers of a shape."""

    layer: str | None = None  # module name of the layer; None: random numbers
    shape: tuple[int, int] | None = None  # [out, in] of the random weight; None: the layer's
    rows: int | None = None  # linear only: rows of its input

    def label(self) -> str:
        """The operands as tables show them, e.g. `bert.encoder.layer.0.output.dense, 16 rows` or `768×768`."""
        what = self.layer if self.shape is None else "×".join(map(str, self.shape))
        return f"{what}" if self.rows is None else f"{what}, {self.rows} row{'' if self.rows == 1 else 's'}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingSpec:
    """How requests come to a server, and how it serves them. Either a rate, or a bound and its quantile."""

    rate_per_s: float | None = None  # requests per second; None: the highest whose latency stays under the bound
    bound_s: float | None = None  # search only: latency from arrival to answer
    quantile: float | None = None  # search only: 0.95 or 0.99 of the requests are within the bound
    max_batch: int = 1  # requests in one call, at most
    max_wait_s: float = 0.0  # the oldest request waits at most so long for its batch to fill
    cache: int = 0  # results kept, the least recently used goes first
    zipf: float | None = None  # exponent of the request mix over the distinct calls; None: every call alike

    def label(self) -> str:
        """As tables show it, e.g. `50/s` or `p99 ≤ 20 ms, batch 8/5 ms, cache 8, zipf 1`."""
        parts = [f"{self.rate_per_s:g}/s" if self.rate_per_s is not None else self.goal]
        parts += [f"batch {self.max_batch}/{1e3 * self.max_wait_s:g} ms"] if self.max_batch > 1 else []
        parts += [f"cache {self.cache}"] if self.cache else []
        parts += [] if self.zipf is None else [f"zipf {self.zipf:g}"]
        return ", ".join(parts)

    @property
    def goal(self) -> str:
        """What a search holds to, e.g. `p99 ≤ 20 ms`."""
        return f"p{100 * (self.quantile or 0):g} ≤ {1e3 * (self.bound_s or 0):g} ms"


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How precise a gain is wanted, and what that may cost. Not part of a job's identity."""

    precision: float = 0.03  # half width of the gain's 95 % interval, relative
    max_seconds: float = 60.0  # time of one job's pairs, preparation apart; the least pairs are always done
    min_pairs: int = 6  # pairs of fresh processes, at least


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One point of the matrix: kind × model × strategy × threads × input; a `ceilings` or `noop` case has its
    kind alone."""

    kind: Kind
    model: ModelRef
    strategy: str  # normal form, see storage.strategies; tensor: an operation of storage.operations
    baseline: str  # likewise; what gains are taken against on the same host
    threads: int | None = None  # intra-op threads (of each instance); accuracy: None
    instances: int | None = None  # throughput and server: processes that answer side by side
    baseline_layout: tuple[int, int] | None = None  # throughput: instances and threads of the baseline; None: the same
    serving: ServingSpec | None = None  # server only
    input: InputSpec | None = None  # latency, throughput and server
    tensor: TensorSpec | None = None  # tensor only
    dataset: DatasetRef | None = None  # accuracy, and inputs at real lengths
    data: Mapping[str, DatasetRef] = field(default_factory=dict)  # what options `data` of its strategies name
    prepare: Prepare = "host"  # "once": by one host, and the same bytes run everywhere

    @property
    def cores(self) -> int | None:
        """Logical cores that it keeps busy: threads of all instances; None where the host decides."""
        if self.threads is None:
            return None
        instances, threads = self.baseline_layout or (1, 1)
        return max(self.threads * (self.instances or 1), instances * threads)

    def layout(self, side: Side) -> tuple[int, int]:
        """Instances and threads of each, of one side of a throughput case."""
        own = (self.instances or 1, self.threads or 1)
        return own if side == "strategy" or self.baseline_layout is None else self.baseline_layout

    @property
    def label(self) -> str | None:
        """What a call gets, as tables show it: `b1×l16`, `b1×l16, 2 instances, 50/s`, `768×768, 16 rows`."""
        if self.tensor is not None:
            return self.tensor.label()
        if self.input is None:
            return None
        number = self.instances
        tail = "" if number is None else f", {number} instance{'' if number == 1 else 's'}"
        against = "" if self.baseline_layout is None else " vs {} of {}".format(*self.baseline_layout)
        served = "" if self.serving is None else f", {self.serving.label()}"
        return f"{self.input.label()}{tail}{against}{served}"

    @property
    def sides(self) -> tuple[str, ...]:
        """The strategies that must run for it."""
        return tuple(dict.fromkeys((self.baseline, self.strategy) if self.kind in PAIRED else (self.strategy,)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """What a machine is; two machines of one key are comparable."""

    cpu: str  # model name as the CPU tells it
    vendor: str
    family: int | None
    model: int | None
    stepping: int | None
    architecture: str  # x86_64, aarch64, …
    isa: tuple[str, ...]  # instruction sets that matter for inference, sorted, caps applied
    caps: tuple[str, ...] = ()  # environment settings that hide instruction sets, "NAME=value"
    physical_cores: int
    logical_cores: int
    sockets: int = 1
    numa_nodes: int = 1
    cache_bytes: Mapping[str, int] = field(default_factory=dict)  # "l1d", "l2", "l3": total bytes
    memory_gib: int  # total memory, rounded to whole GiB
    quota_cores: float | None = None  # cgroup CPU quota in cores, None without one
    virtualization: str | None = None  # "kvm", "docker", … or None on bare metal


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """The software that a host runs, as far as it can move a number."""

    python: str
    packages: Mapping[str, str]  # package → version; a missing package is absent
    kernel: str
    openmp: str | None = None  # a preloaded OpenMP runtime, None for the one torch carries
    allocator: str | None = None  # a preloaded allocator, None for the C library's
    settings: Mapping[str, str] = field(default_factory=dict)  # OMP_*, KMP_*, MALLOC_*, … that are set


@dataclass(frozen=True, kw_only=True, slots=True)
class Platform:
    """Hardware × environment: what a job is for."""

    key: str
    hardware_key: str
    environment_key: str
    hardware: Hardware
    environment: Environment


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A prepared model on disk and what it took to make it."""

    key: str
    size_bytes: int  # weights and graph, without the tokenizer
    prepare_s: float  # when it was made, which a cached artifact remembers
    cached: bool  # True when this job found it ready
    facts: Mapping[str, Any] = field(default_factory=dict)  # quantized layers, opset, engine, …


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate with its confidence interval; `low` and `high` None where the sample supports none."""

    value: float
    low: float | None
    high: float | None
    level: float = 0.95

    @property
    def excludes_1(self) -> bool | None:
        """Whether a ratio is shown to be another than 1; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low > 1.0 or self.high < 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentile:
    """One latency percentile in seconds, or why it is withheld."""

    q: float  # 0.5, 0.9, …
    value_s: float | None
    low_s: float | None = None
    high_s: float | None = None
    withheld: str | None = None  # the reason, e.g. "41 samples, 64 needed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Leg:
    """The raw samples of one side in one round, with what disturbed it."""

    pair: int  # which pair of fresh processes, from 0
    round: int  # which round of that pair, from 0
    position: int  # order within the round, from 0 (A B B A)
    side: Side
    samples_ns: tuple[int, ...]  # one number per call, in the order of the calls
    items: int  # distinct calls that the samples cycle through
    started_at: float  # epoch seconds
    cpu_ns: int  # CPU time of the child during the leg
    run_delay_ns: int  # time its threads waited for a CPU
    foreign_share: float  # CPU time of everything else ÷ (wall × cores)
    steal_share: float  # time the hypervisor gave to others ÷ (wall × cores)
    threads_burning: int  # threads that used CPU during the leg
    preemptions: int  # times the kernel took a CPU from the child (involuntary context switches)
    disturbed: tuple[str, ...] = ()  # reasons; empty for a good leg
    instance: int = 0  # throughput: which of the processes side by side; server: one leg for all of them
    repeats: int = 1  # tensor: operations in one sample
    joules: float | None = None  # of the whole machine while these samples ran; None where it does not tell


@dataclass(frozen=True, kw_only=True, slots=True)
class SideFacts:
    """What is known of one side apart from its times."""

    strategy: str
    artifact: Artifact
    load_s: float  # reading and building, median over the pairs
    first_answer_s: float | None  # first call, median over the pairs; None where nobody timed it
    resident_before_bytes: int  # resident memory before load, median
    resident_loaded_bytes: int  # after load, median
    resident_peak_bytes: int  # highest, maximum over the pairs
    threads_set: int  # the runtime's own setting
    threads_observed: int  # threads that really burnt CPU, median over the legs
    percentiles: tuple[Percentile, ...]
    throughput_per_s: float | None  # rows per second of one caller: batch ÷ mean latency; None: nothing was called
    facts: Mapping[str, Any] = field(default_factory=dict)
    joules_per_row: float | None = None  # of the whole machine; None where it does not tell


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyMeasurement:
    """The result of a `latency` job."""

    gain: Interval | None  # baseline time ÷ strategy time; None (server only): a side was overloaded, or found no rate
    baseline: SideFacts
    strategy: SideFacts
    pairs: int
    rounds: int  # over all pairs
    variance_between: float  # of log gains, between pairs
    variance_within: float  # of log gains, between rounds of a pair
    stopped: str  # "precision" (a search: its bracket is narrow enough) or "max_seconds"
    measured_s: float  # time in legs and warm-up
    overhead: Mapping[str, float]  # seconds by phase: prepare, inputs, start, load, warm-up, legs, wait, …
    flags: tuple[str, ...] = ()  # "disturbed", "threads", "wide", …
    input_digest: str | None = None  # of the token ids
    notes: tuple[str, ...] = ()  # sentences for people


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What one side gave with all its instances at work."""

    rate_per_s: float  # rows per second of all instances, median over the pairs
    each_per_s: tuple[float, ...]  # of each instance, median over the pairs
    alone_per_s: float  # of one instance alone on the machine, median over the pairs
    efficiency: Interval  # rate ÷ (instances × alone), over the pairs
    settled_s: float  # time from the start of a leg to the steady state, median over the legs
    window_s: float  # steady time that rates are taken over, shortest of the legs


@dataclass(frozen=True, kw_only=True, slots=True)
class ThroughputMeasurement(LatencyMeasurement):
    """The result of a `throughput` job: the gain is the strategy's rate ÷ the baseline's."""

    instances: int
    baseline_load: Load
    strategy_load: Load


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What the runs at one rate of a search said."""

    pair: int
    rate_per_s: float
    holds: bool  # the percentile is within the bound
    queries: int  # that counted
    overruns: int  # of them, beyond the bound
    value_s: float | None  # the percentile; None: overloaded, or so many were given up
    overloaded: bool
    certain: bool  # told apart from the bound with 99 % confidence, queries taken as independent


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """What one side did with the requests."""

    rate_per_s: float | None  # requests per second that came; search: the highest that holds, None: none was found
    misses_per_s: float | None  # search only: the lowest rate above that was seen to miss; medians over the pairs
    overloaded: bool  # the backlog grew all along: no latency is claimed
    backlog_per_s: float  # growth of the backlog, requests per second, median over the runs at that rate
    answered_per_s: float  # requests answered per second while they came, median
    hit_share: float  # of the requests, answered from the cache
    mean_batch: float  # requests in one call
    busy_share: float  # time at work ÷ (instances × time)
    dispatch_s: float  # what a call costs beyond the instance's own time: dispatcher and channel, median
    queries: int  # requests at that rate, of all runs
    probes: tuple[Probe, ...] = ()  # search only, in their order


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerMeasurement(LatencyMeasurement):
    """The result of a `server` job; percentiles count from a request's arrival.

    At a given rate the gain is the baseline's mean latency ÷ the strategy's over the same arrivals; in a search it is
    the strategy's highest rate ÷ the baseline's, and percentiles are those at each side's highest rate.
    """

    instances: int
    baseline_service: Service
    strategy_service: Service


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorMeasurement(LatencyMeasurement):
    """The result of a `tensor` job."""

    same_operation: bool  # whether both sides compute the same thing, up to rounding
    shape: tuple[int, int]  # of the weight, [out, in]
    weight_digest: str
    timer_ns: float  # smallest step of the clock
    repeats: Mapping[str, int]  # operations in one sample, by side
    max_error: float | None  # largest difference of the two answers ÷ largest baseline answer; None: unlike operations


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyMeasurement:
    """The result of an `accuracy` job."""

    strategy: SideFacts
    rows: int
    correct: int
    predictions: tuple[int, ...]  # class index, row by row
    labels: tuple[int, ...]  # the right ones, row by row
    dataset_digest: str  # of the texts and labels that were used
    evaluated_s: float
    overhead: Mapping[str, float]
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareMeasurement:
    """The result of a `prepare` job: the artifact, made and opened once."""

    strategy: SideFacts  # its artifact's facts tell how each transform's training went
    prepared_s: float  # wall time of this job's preparing; little where the artifact was found ready
    overhead: Mapping[str, float]
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an attempt gave no measurement."""

    reason: Literal["unsupported", "error", "crash", "expired", "released", "declined", "cancelled", "superseded"]
    message: str
    detail: str = ""  # traceback or last stderr lines
    signal: int | None = None
    resident_peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedJob:
    """One case on one platform, ready to be stored."""

    key: str
    case: Case
    platform_key: str  # or ANY_PLATFORM
    replica: int
    budget: Budget
    wanted_host: str | None = None  # the one host that it is for; None: any of its platform
    after: tuple[str, ...] = ()  # keys of the jobs that must come to an end before it may run


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The right to work on a job, until the lease runs out."""

    job_id: str
    token: int  # fencing token: rises with every claim of the job
    attempt: int  # number of this try, from 1
    case: Case
    budget: Budget
    platform_key: str  # the claiming host's


T = TypeVar("T")


def to_document(record: Any) -> dict[str, Any]:
    """A frozen record as plain JSON types, with the schema version."""
    document: dict[str, Any] = _plain(record)
    return {"schema": SCHEMA_VERSION, **document}


def from_document(cls: type[T], document: Mapping[str, Any]) -> T:
    """The record that `to_document` wrote.

    Raises ValueError for a document of a newer schema, TypeError or KeyError for a damaged one.
    """
    if document.get("schema", SCHEMA_VERSION) > SCHEMA_VERSION:
        raise ValueError(f"document of schema {document['schema']}, this program knows up to {SCHEMA_VERSION}")
    built: T = _build(cls, {k: v for k, v in document.items() if k != "schema"})
    return built


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(getattr(value, name)) for name in _names(type(value))}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _build(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        records = [a for a in typing.get_args(hint) if dataclasses.is_dataclass(a)]
        choices = records or [a for a in typing.get_args(hint) if typing.get_origin(a) is tuple]
        return _build(choices[0], value) if choices else value
    if origin is tuple:
        return tuple(_build(typing.get_args(hint)[0], item) for item in value)
    if origin is collections.abc.Mapping and dataclasses.is_dataclass(typing.get_args(hint)[1]):
        return {name: _build(typing.get_args(hint)[1], item) for name, item in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = _hints(hint)
        return hint(**{k: _build(hints[k], v) for k, v in value.items() if k in hints})
    return value


@functools.cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    """The types of a record's fields: reading them out of their texts takes longer than all the rest."""
    hints = typing.get_type_hints(cls)
    return {one.name: hints[one.name] for one in dataclasses.fields(cls)}


@functools.cache
def _names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(one.name for one in dataclasses.fields(cls))
