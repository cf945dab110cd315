"""The peers: each measures one case in processes of its own, by its own command, and is read by its own files.

All get the same seconds of timed calls where they let one set them; everything else is their default. Their files are
read as `quantfleet interop import` reads them.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import environments, watch
from benchmarks.peers.environments import Environment
from benchmarks.peers.sweep import STRATEGY, Case, Effort, Outcome
from scheduler.interop import formats
from scheduler.interop.entries import Entry
from storage import errors

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
LIMIT_S = 600.0
"""A tool that has no number by then has none."""


class Failed(Exception):
    """A tool gave no number; the message is its own last line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One case, ready to be measured by one tool."""

    case: Case
    effort: Effort
    python: Path  # interpreter of the tool's environment
    folder: Path  # an empty one, for its files
    call_s: float  # about what a call takes

    @property
    def environ(self) -> dict[str, str]:
        """What the scripts read."""
        told = {
            "model": str(self.effort.model),
            "strategy": self.case.strategy,
            "threads": self.case.threads,
            "length": self.case.length,
            "seconds": self.effort.seconds,
            "repeats": max(1, math.ceil(self.effort.seconds / self.call_s)),
        }
        return {"PEERS_CASE": json.dumps(told)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """What a tool's files say."""

    median_s: float
    timed_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A peer."""

    name: str
    environment: Environment
    line: Callable[[Asked], list[str]]
    read: Callable[[Asked, str], Read]  # of its files, and of what it printed
    setting: str  # what it was told, and what not


def measure(tool: Tool, asked: Asked) -> Outcome:
    """One case by one peer, in processes that start now."""
    began, watched = time.monotonic(), watch.Watch()
    try:
        printed = _run(tool.line(asked), asked, watched)
        wall_s = time.monotonic() - began
        found = tool.read(asked, printed)
    except (Failed, errors.ForeignError, OSError, ValueError, KeyError) as exc:
        return Outcome(case=asked.case, wall_s=time.monotonic() - began, reason=str(exc))
    seen = watch.seen(watched.looks, min(asked.effort.seconds, found.timed_s))
    return Outcome(
        case=asked.case,
        wall_s=wall_s,
        median_s=found.median_s,
        timed_s=found.timed_s,
        threads=None if seen is None else seen.threads,
        beside=0.0 if seen is None else seen.beside,
    )


def _run(line: list[str], asked: Asked, watched: watch.Watch) -> str:
    with (asked.folder / "stderr").open("w+") as said:
        process = subprocess.Popen(
            line,
            env=_environ(asked.environ),
            cwd=asked.folder,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        )
        try:
            with watched.on(process.pid):
                printed, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.communicate()
            raise Failed(f"no number after {LIMIT_S:g} s") from None
        said.seek(0)
        if process.returncode:
            lines = [text for text in said.read().splitlines() if text.strip()] or [f"exit code {process.returncode}"]
            raise Failed(lines[-1])
    return printed


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_", "PYTHON"))}
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OLIVE_DISABLE_TELEMETRY": "1"}
    return {**kept, **offline, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **more}


def _optimum_line(asked: Asked) -> list[str]:
    (asked.folder / "case.yaml").write_text(json.dumps(_optimum_config(asked)))  # JSON is YAML
    command = asked.python.with_name("optimum-benchmark")
    return [str(command), "--config-dir", str(asked.folder), "--config-name", "case"]


def _optimum_config(asked: Asked) -> dict[str, object]:
    backend = {
        "device": "cpu",
        "model": str(asked.effort.model),
        "task": "text-classification",
        "library": "transformers",
        "torch_dtype": "float32",
        "inter_op_num_threads": asked.case.threads,  # sets the intra-op threads: the two are swapped in 0.6
    }
    if asked.case.strategy == STRATEGY:
        backend["_target_"] = "benchmarks.peers.scripts.optimum_backend.Int8Backend"
    shapes = {"batch_size": 1, "sequence_length": asked.case.length}
    parts = {"scenario": "inference", "launcher": "process", "backend": "pytorch"}
    return {
        "defaults": ["benchmark", *({name: choice} for name, choice in parts.items()), "_self_"],
        "name": "case",
        "backend": backend,
        "scenario": {"duration": asked.effort.seconds, "input_shapes": shapes},
        "hydra": {"run": {"dir": str(asked.folder)}, "output_subdir": None, "job": {"chdir": True}},
    }


def _pyperf_line(asked: Asked) -> list[str]:
    effort = asked.effort
    values = max(1, round(effort.seconds / effort.processes / 0.1))  # a value lasts 0.1 s at least by default
    return [
        str(asked.python),
        str(SCRIPTS / "run_pyperf.py"),
        *("--processes", str(effort.processes), "--values", str(values)),
        *("--inherit-environ", "PEERS_CASE,PYTHONPATH,HF_HUB_OFFLINE", "--quiet", "-o", str(_pyperf_file(asked))),
    ]


def _pyperf_file(asked: Asked) -> Path:
    return asked.folder / "pyperf.json"


def _script(name: str, *more: str) -> Callable[[Asked], list[str]]:
    return lambda asked: [str(asked.python), str(SCRIPTS / name), *(word.format(folder=asked.folder) for word in more)]


def _entry(path: Path) -> Entry:
    return formats.read([path])[0]


def _samples(path: Path) -> Read:
    processes = _entry(path).processes
    return Read(
        median_s=statistics.median(value for one in processes for value in one.calls_s),
        timed_s=sum(sum(one.samples_ns) for one in processes) / 1e9,
    )


def _loadgen_read(asked: Asked, _printed: str) -> Read:
    entry = _entry(asked.folder)
    assert entry.throughput_per_s is not None
    return Read(median_s=entry.quantiles_s[0.5], timed_s=entry.count / entry.throughput_per_s)


def _olive_read(asked: Asked, printed: str) -> Read:
    median_s = json.loads(printed.splitlines()[-1])["p50_ms"] / 1e3
    return Read(median_s=median_s, timed_s=median_s * json.loads(asked.environ["PEERS_CASE"])["repeats"])


TOOLS = (
    Tool(
        name="optimum-benchmark",
        environment=environments.RUNNERS,
        line=_optimum_line,
        read=lambda asked, _: _samples(asked.folder / "benchmark_report.json"),
        setting="its command and process launcher; duration set; int8 by a backend of ten lines, as it has none",
    ),
    Tool(
        name="Olive",
        environment=environments.OLIVE,
        line=_script("run_olive.py"),
        read=_olive_read,
        setting="its evaluator in a fresh process; as many calls as fill the seconds",
    ),
    Tool(
        name="pyperf",
        environment=environments.RUNNERS,
        line=_pyperf_line,
        read=lambda asked, _: _samples(_pyperf_file(asked)),
        setting="its runner; processes and values set (its own 20 processes would take minutes a case)",
    ),
    Tool(
        name="LoadGen",
        environment=environments.RUNNERS,
        line=_script("run_loadgen.py", "{folder}"),
        read=_loadgen_read,
        setting="single stream in a fresh process; min_duration set, 64 queries at least",
    ),
)
"""Every peer."""
