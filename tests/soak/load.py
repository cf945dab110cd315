"""Work for a fleet: studies of a tiny model, of every kind, submitted by the real command whenever little waits."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from storage import queries
from tests.faults.fleet import PlainFleet, outer_environment
from tests.integration.engine.conftest import NAMES

COMMON = """\
name: {name}
models: {{tiny: {{path: "{model}"}}}}
threads: [1]
precision: 50%
max_seconds: 0.5
replicas: 2
"""

TORCH = """\
strategies: [torch/fp32, torch/int8-dynamic]
inputs: [{batch: 1, length: 8}]
dataset: {path: rows.csv}
kinds: [latency, accuracy]
"""

ONNX = TORCH.replace("torch/fp32, torch", "onnxruntime/fp32, onnxruntime") + "baseline: onnxruntime/fp32\n"

SERVED = """\
strategies: [torch/int8-dynamic]
inputs: [{batch: 1, length: 8}]
instances: [1]
serving: [{rate: 40}]
kinds: [throughput, server]
"""

TENSORS = """\
tensors: [{shape: [64, 64], operations: [linear], rows: 1}]
kinds: [tensor]
"""

PATIENCE_S = 120.0
"""A command on a machine that is busy with everything else."""


def recipes() -> dict[str, str]:
    """Study name → what it measures, as far as this machine has the runtimes."""
    found = {"torch": TORCH, "served": SERVED, "tensors": TENSORS}
    if importlib.util.find_spec("onnxruntime") is not None:
        found["onnx"] = ONNX
    return found


@dataclass(kw_only=True)
class Load:
    """Keeps jobs waiting."""

    fleet: PlainFleet
    folder: Path
    waiting: int  # jobs that are to wait at least
    planned: int = 0  # jobs that the commands said they had stored
    submitted: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        _make(self.folder / "model")
        rows = [f"hello my friend {NAMES[i % 4]},{NAMES[i % 4]}" for i in range(40)]
        (self.folder / "rows.csv").write_text("\n".join(["text,label", *rows]))
        self._files = {name: self._write(name, text) for name, text in recipes().items()}
        self._running: subprocess.Popen[str] | None = None

    def tend(self, queued: int) -> None:
        """Take up what a command said; start another one when fewer jobs wait than are to."""
        if self._running is not None and self._running.poll() is not None:
            self.end()
        if self._running is None and queued < self.waiting:
            name = min(self._files, key=lambda each: self.submitted[each])
            self.submitted[name] += 1
            self._running = self._start(self._files[name])

    def end(self) -> None:
        """Wait for the running command; AssertionError when it failed."""
        process, self._running = self._running, None
        if process is None:
            return
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, f"quantfleet submit ended with {process.returncode}: {err}"
        said = json.loads(out)
        assert said["new"] > 0, said
        self.planned += said["new"]

    def states(self) -> Counter[str]:
        """Job state → how many."""
        found: Counter[str] = Counter()
        for group in queries.groups(self.fleet.db):
            found[group.state] += group.count
        return found

    def _write(self, name: str, text: str) -> Path:
        file = self.folder / f"{name}.yaml"
        file.write_text(COMMON.format(name=name, model=self.folder / "model") + text)
        return file

    def _start(self, file: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("quantfleet")), "submit", str(file), "--fresh", "--json"],
            env={**outer_environment(), **self.fleet.environment, "QUANTFLEET_CACHE": str(self.folder / "cache")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


MAKE = """\
import pathlib, sys
from tests.integration.engine.conftest import make_model
make_model(pathlib.Path(sys.argv[1]))
"""


def _make(folder: Path) -> None:
    """The model, made in a process of its own: torch is not to stay in ours."""
    done = subprocess.run([sys.executable, "-c", MAKE, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the model could not be made: {done.stderr}"
