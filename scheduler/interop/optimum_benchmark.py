"""optimum-benchmark: `benchmark.json`, or `benchmark_report.json` with the `benchmark_config.json` beside it.

The report has targets (`load_model`, `first_forward`, `forward`, …), each with `latency` (unit `s`), `throughput`
(`samples/s`) and `memory` (unit `MB`, 10^6 bytes). All calls of a file are of one process.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scheduler.interop import entries
from scheduler.interop.entries import Entry
from storage import errors

TOOL = "optimum-benchmark"

REPORT, CONFIG = "benchmark_report.json", "benchmark_config.json"

TARGETS = ("forward", "call", "generate")
"""Targets that time a whole call, and the input that they are called with; a report has one of them."""

SWAPPED = re.compile(r"0\.[0-6]\.\d+")
"""Versions whose PyTorch backend sets the threads of an operation by `inter_op_num_threads`, and the reverse."""

_LIBRARIES = {name: f"{name}_version" for name in ("transformers", "accelerate", "optimum", "timm")}
"""Package → what the configuration calls its version."""

_UNITS = {"latency": "s", "memory": "MB", "throughput": "samples/s"}


def mine(document: Mapping[str, Any]) -> bool:
    """Whether this may be one of this tool's files."""
    report = document.get("report", document)
    return isinstance(report, dict) and isinstance(report.get("load_model"), dict)


def read(path: Path, document: Mapping[str, Any]) -> list[Entry]:
    """The benchmark of a file; ForeignError for a report without latencies or with other units."""
    report = document.get("report", document)
    config = _config(path, document)
    target = next((name for name in TARGETS if isinstance(report.get(name), dict)), None)
    if target is None:
        known = ", ".join(sorted(report)) or "nothing"
        raise errors.ForeignError(f"{path}: no target {' or '.join(TARGETS)} (the report has {known})")
    values = _latency(path, target, report[target])
    backend, scenario = _section(config, "backend"), _section(config, "scenario")
    version = entries.word(_section(config, "environment").get("optimum_benchmark_version"))
    threads, notes = _threads(backend, version)
    shapes = _section(scenario, "input_shapes")
    throughput = _throughput(path, target, report[target], shapes, values)
    return [
        Entry(
            tool=TOOL,
            version=version,
            file="/".join(filter(None, (path.resolve().parent.name, path.name))),  # they are all called alike
            name=entries.word(config.get("name")) or path.stem,
            digest=entries.digest(TOOL, report),
            machine=_machine(config),
            model=_model(backend),
            strategy=_strategy(backend),
            threads=threads,
            batch=entries.whole(shapes.get("batch_size")),
            length=entries.whole(shapes.get("sequence_length")),
            input=target,
            processes=(entries.Process(samples_ns=entries.nanoseconds(values)),),
            throughput_per_s=throughput,
            resident_peak_bytes=_peak(path, target, report[target]),
            load_s=_once(path, "load_model", report),
            first_answer_s=_once(path, f"first_{target}", report),
            facts=_facts(config, backend),
            notes=(*notes, *_launched(config)),
        )
    ]


def _config(path: Path, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration in the file, or in the one beside it; empty where there is none."""
    if "report" in document:
        return entries.part(path, "", document, "config", dict)  # type: ignore[no-any-return]
    beside = path.with_name(CONFIG)
    return entries.document(beside) if path.name == REPORT and beside.is_file() else {}


def _section(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = holder.get(name)
    return found if isinstance(found, dict) else {}


def _measure(path: Path, target: str, measured: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """One measure of a target with its unit checked; None where it was not taken."""
    found = measured.get(name)
    if found is None:
        return None
    unit = entries.part(path, f"{target}.", measured, name, dict).get("unit")
    if unit != _UNITS[name]:
        raise errors.ForeignError(f"{path}: {target}.{name} is in {unit!r}; {TOOL} writes {_UNITS[name]!r}")
    return found  # type: ignore[no-any-return]


def _latency(path: Path, target: str, measured: Mapping[str, Any]) -> list[float]:
    """Seconds of each call, in their order."""
    found = _measure(path, target, measured, "latency")
    if found is None:
        raise errors.ForeignError(f"{path}: {target} has no latency (scenario.latency was off)")
    values = entries.positives(path, f"{target}.latency.values", found.get("values"))
    entries.agree(path, f"{target}.latency.mean", found.get("mean"), statistics.fmean(values))
    entries.agree(path, f"{target}.latency.p50", found.get("p50"), statistics.median(values))
    return values


def _throughput(
    path: Path, target: str, measured: Mapping[str, Any], shapes: Mapping[str, Any], values: list[float]
) -> float | None:
    """Rows per second: batch ÷ mean latency, which is how the tool makes it."""
    found = _measure(path, target, measured, "throughput") if target == "forward" else None
    if found is None:
        return None
    rate = entries.positive(path, f"{target}.throughput.value", found.get("value"))
    batch = entries.whole(shapes.get("batch_size"))
    if batch is not None:
        entries.agree(path, f"{target}.throughput.value", rate, batch / statistics.fmean(values))
    return rate


def _peak(path: Path, target: str, measured: Mapping[str, Any]) -> int | None:
    found = _measure(path, target, measured, "memory")
    if found is None or found.get("max_ram") is None:
        return None
    return round(1e6 * entries.positive(path, f"{target}.memory.max_ram", found["max_ram"]))


def _once(path: Path, target: str, report: Mapping[str, Any]) -> float | None:
    """Seconds of a target that ran once."""
    measured = report.get(target)
    if not isinstance(measured, dict) or measured.get("latency") is None:
        return None
    return _latency(path, target, measured)[0]


def _threads(backend: Mapping[str, Any], version: str | None) -> tuple[int | None, tuple[str, ...]]:
    """Threads of an operation, and a sentence where the file's own word for them is another."""
    asked = entries.whole(backend.get("intra_op_num_threads"))
    if backend.get("name") != "pytorch" or version is None or not SWAPPED.fullmatch(version):
        return asked, ()
    ran = entries.whole(backend.get("inter_op_num_threads"))
    if ran == asked:
        return ran, ()
    note = f"{TOOL} {version} sets torch's threads of an operation by inter_op_num_threads ({ran or 'not set'})"
    return ran, (f"{note}, not by intra_op_num_threads ({asked or 'not set'})",)


def _model(backend: Mapping[str, Any]) -> str | None:
    """A hub id, or the name of a local model's folder."""
    found = entries.word(backend.get("model"))
    if found is None:
        return None
    local = found.startswith(("/", ".", "~", "\\")) or found.count("/") > 1
    return Path(found).name if local else found


def _strategy(backend: Mapping[str, Any]) -> str:
    """Backend and precision in the tool's own words: `pytorch/bfloat16`, `pytorch+compile`, `onnxruntime`."""
    name = entries.word(backend.get("name")) or TOOL
    quantized = entries.word(_section(backend, "quantization_config").get("quant_method"))
    more = [*(["compile"] if backend.get("torch_compile") else []), *([quantized] if quantized else [])]
    dtype = entries.word(backend.get("torch_dtype"))
    return "+".join([f"{name}/{dtype}" if dtype else name, *more])


def _facts(config: Mapping[str, Any], backend: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "backend": backend.get("name"),
        "backend_version": backend.get("version"),
        "task": backend.get("task"),
        "device": backend.get("device"),
        "launcher": _section(config, "launcher").get("name"),
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _launched(config: Mapping[str, Any]) -> tuple[str, ...]:
    if _section(config, "launcher").get("name") != "process":
        return ()
    return (f"{TOOL}'s process launcher spins in its parent meanwhile, which slows calls that use all cores",)


def _machine(config: Mapping[str, Any]) -> entries.Machine:
    told, backend = _section(config, "environment"), _section(config, "backend")
    packages = {name: entries.word(told.get(field)) for name, field in _LIBRARIES.items()}
    runtime = {"pytorch": "torch"}.get(str(backend.get("name")), backend.get("name"))
    version = entries.word(backend.get("version"))
    if version and isinstance(runtime, str):
        packages[runtime] = version.rpartition(":")[2]  # onnxruntime's is written as ort:1.22
    memory, device = told.get("cpu_ram_mb"), entries.word(backend.get("device"))
    return entries.Machine(
        cpu=entries.word(told.get("cpu")),
        architecture=entries.word(told.get("machine")),
        logical_cores=entries.whole(told.get("cpu_count")),
        memory_bytes=memory * 1e6 if isinstance(memory, (int, float)) and memory > 0 else None,
        kernel=kernel(told.get("platform")),
        python=entries.word(told.get("python_version")),
        packages={name: value for name, value in packages.items() if value},
        device=None if device == "cpu" else device,
    )


def kernel(platform: Any) -> str | None:
    """The release in what Python's `platform.platform()` gives: `Linux-6.1.0-x86_64-with-glibc2.36` → `6.1.0`."""
    found = re.match(r"Linux-(.+?)-(?:x86_64|aarch64|arm64|i686)\b", platform) if isinstance(platform, str) else None
    return found.group(1) if found else None
