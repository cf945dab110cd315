"""The truth that reported medians are held against: `bare_loop.py` in a fresh process of the same environment."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from pathlib import Path

from benchmarks.peers.sweep import BASELINE, Case, Effort

LOOP = Path(__file__).parents[1] / "bare_loop.py"

Call = dict[str, list[list[int]]]


def samples_ns(python: Path, model: Path, case: Case, seconds: float, call: Call | None = None) -> list[int]:
    """Times of single calls in one fresh process; half of the seconds are warm-up. Uses every CPU, as peers do."""
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    line = [str(python), str(LOOP), str(model), str(case.threads), str(seconds), cpus]
    line += [] if case.strategy == BASELINE else [case.strategy]
    done = subprocess.run(
        line, input=json.dumps(call or inputs(case.length)), capture_output=True, text=True, check=True, env=_environ()
    )
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found


def median_s(python: Path, effort: Effort, case: Case) -> float:
    """Median seconds of a call."""
    return statistics.median(samples_ns(python, effort.model, case, effort.seconds)) / 1e9


def inputs(length: int) -> Call:
    """One row of token ids without padding."""
    return {"input_ids": [[5 + number % 400 for number in range(length)]], "attention_mask": [[1] * length]}


def _environ() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
