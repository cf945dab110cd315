"""The views that people query with SQL: their columns, alike on both databases, with type and meaning.

A column here stays what it is: queries of people are written for it. A new one stands at the end of its view, and
needs a revision of the migrations that makes it; a test holds both against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "real"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a view: what it holds, NULL where there is no such thing."""

    kind: Kind
    meaning: str  # with its unit where the name does not say it


def _text(meaning: str) -> Column:
    return Column(kind="text", meaning=meaning)


def _integer(meaning: str) -> Column:
    return Column(kind="integer", meaning=meaning)


def _real(meaning: str) -> Column:
    return Column(kind="real", meaning=meaning)


_CASE = {
    "kind": _text("`latency`, `throughput`, `server`, `tensor`, `accuracy`, `prepare` or `ceilings`"),
    "state": _text("how the job ended: `done`, `unsupported`, `failed`, `dead` or `cancelled`"),
    "model": _text("the name in the study that planned the job"),
    "model_digest": _text("the model's content"),
    "strategy": _text("in normal form"),
    "baseline": _text("the strategy that the gain is taken against"),
    "threads": _integer("threads asked for"),
    "instances": _integer("processes side by side; NULL: one, or none asked for"),
    "batch": _integer("rows in one call"),
    "length": _integer("tokens in a row; NULL with a batch: real rows at their own lengths"),
    "padding": _text("how the rows of a call come to one length"),
    "input": _text("what a call gets, as tables show it: `b1×l16`"),
    "replica": _integer("0, or more where a case was measured again with `--fresh`"),
}
_WHERE = {
    "host": _text("the machine that measured it"),
    "platform_key": _text("hardware and software together; `any` for a job that nobody took"),
    "hardware_key": _text("the machine's fingerprint"),
    "environment_key": _text("the software's fingerprint"),
}
_HARDWARE = {
    "cpu": _text("the CPU's name"),
    "architecture": _text("`x86_64`, `aarch64`"),
    "isa": _text("instruction sets, separated by spaces"),
    "caps": _text("what hides some of them, separated by spaces"),
    "physical_cores": _integer("cores"),
    "logical_cores": _integer("hardware threads"),
    "memory_gib": _integer("memory in GiB"),
    "virtualization": _text("the hypervisor or container, NULL on bare metal"),
}
_SOFTWARE = {
    "python": _text("version of Python"),
    "torch": _text("version of torch"),
    "transformers": _text("version of transformers"),
    "onnxruntime": _text("version of ONNX Runtime"),
    "kernel": _text("version of the kernel"),
}
_GAIN = {
    "gain": _real("baseline time ÷ strategy time"),
    "gain_low": _real("lower end of its 95 % interval"),
    "gain_high": _real("upper end"),
}
_SIDE = {
    "latency_p50_s": _real("median latency of a call"),
    "latency_p90_s": _real("90th percentile; NULL where the sample cannot support it, as with each percentile"),
    "latency_p95_s": _real("95th percentile"),
    "latency_p99_s": _real("99th percentile"),
    "throughput_per_s": _real("rows per second"),
    "artifact_bytes": _integer("size of the prepared model on disk"),
    "resident_before_bytes": _integer("resident memory before the model was loaded"),
    "resident_loaded_bytes": _integer("after it was loaded"),
    "resident_peak_bytes": _integer("at its peak"),
    "prepare_s": _real("seconds to prepare the artifact, when it was made"),
    "load_s": _real("seconds to load it"),
    "first_answer_s": _real("seconds to the first answer"),
    "threads_set": _integer("the runtime's own setting"),
    "threads_observed": _integer("threads that really used CPU"),
    "joules_per_row": _real("energy of the whole machine a row, where it tells"),
}
_BASELINE = {
    f"baseline_{name}": Column(kind=of.kind, meaning=f"`{name}` of the baseline") for name, of in _SIDE.items()
}
_MEASURED = {
    "pairs": _integer("pairs of fresh processes"),
    "rounds": _integer("rounds in turn, over all pairs"),
    "variance_between": _real("variance of log gains between pairs"),
    "variance_within": _real("between rounds of a pair"),
    "stopped": _text("what ended the measuring: `precision` or `max_seconds`"),
    "measured_s": _real("seconds that it took"),
    "accuracy": _real("share of right answers, 0 to 1"),
    "correct": _integer("right answers"),
    "rows": _integer("rows asked"),
    "dataset_digest": _text("the dataset's content"),
    "input_digest": _text("the content of the token ids"),
}
_FINISHED = {
    "finished_at": _real("end of the job, epoch seconds"),
    "finished_utc": _text("the same as `2026-11-28 00:40:45`, UTC"),
}
_LISTS = {
    "flags": _text("JSON list: `disturbed`, `threads`, `wide`, …"),
    "notes": _text("JSON list of sentences"),
}
_DISTURBED = {"disturbed": _integer("1: other load, stolen time or throttling while it was measured; else 0")}
_STUDIES = {"studies": _text("names of the studies that it belongs to, separated by commas")}
_JOB = {"job_id": _text("the job")}

_ALL: dict[str, Column] = {
    **_JOB,
    **{"job_key": _text("the job's content: case, platform, replica"), **_STUDIES},
    **_CASE,
    **_WHERE,
    **_HARDWARE,
    **_SOFTWARE,
    **_FINISHED,
    **{"attempts": _integer("tries that the job took"), "message": _text("of the last failure")},
    **_GAIN,
    **_SIDE,
    **_BASELINE,
    **_MEASURED,
    **_LISTS,
    **{"document": _text("the whole measurement as JSON"), **_DISTURBED},
    **{"artifact_ratio": _real("size ÷ the baseline's size")},
    **{"significant": _integer("1: the interval excludes ×1; else 0")},
}

_GAIN_VIEW = (
    *("job_id", "studies", "kind", "model", "model_digest", "strategy", "baseline", "threads", "instances", "batch"),
    *("length", "padding", "input", "replica", "host", "cpu", "isa", "hardware_key", "environment_key"),
    *("platform_key", "finished_utc", "gain", "gain_low", "gain_high", "latency_p50_s", "baseline_latency_p50_s"),
    *("throughput_per_s", "baseline_throughput_per_s", "artifact_bytes", "baseline_artifact_bytes", "artifact_ratio"),
    *("resident_peak_bytes", "joules_per_row", "baseline_joules_per_row", "pairs", "rounds", "stopped", "disturbed"),
    *("flags", "significant", "finished_at", "input_digest", "latency_p95_s", "baseline_latency_p95_s"),
    *("baseline_resident_peak_bytes", "physical_cores", "logical_cores", "memory_gib", "virtualization", "python"),
    *("torch", "onnxruntime", "kernel"),
)

_HOST_VIEW: dict[str, Column] = {
    "host": _text("its name"),
    **{name: of for name, of in _WHERE.items() if name != "host"},
    **_HARDWARE,
    **_SOFTWARE,
    "labels": _text("JSON object: what its owner says of it, such as region or price"),
    "first_seen_at": _real("when its worker was first seen, epoch seconds"),
    "last_seen_at": _real("when it was last seen, epoch seconds"),
    "last_seen_utc": _text("the same as `2026-11-28 00:40:45`, UTC"),
    "stopped_at": _real("when its worker said goodbye, epoch seconds; NULL while it serves, or when it just vanished"),
    "running": _integer("jobs that it works on"),
    "results": _integer("results that it gave"),
    "imported_at": _real("since when it is known from an import only, epoch seconds; NULL: its worker served here"),
}

VIEWS: Mapping[str, tuple[str, Mapping[str, Column]]] = {
    "v_result": (
        "Every job that has come to its end, with its numbers or its message.",
        {name: of for name, of in _ALL.items() if name not in ("artifact_ratio", "significant")},
    ),
    "v_gain": (
        "Every gain with its interval, and what it was taken on; disturbed ones too.",
        {name: _ALL[name] for name in _GAIN_VIEW},
    ),
    "v_host": ("Every machine that workers ran on, or whose results were imported.", _HOST_VIEW),
}
"""View → what its rows are, and its columns in order."""


def columns(view: str) -> Mapping[str, Column]:
    """The columns of a view, in order."""
    return VIEWS[view][1]
