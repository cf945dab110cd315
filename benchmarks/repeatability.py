"""Repeatability: the same study 20 times; does the interval hold what it says?

    python -m benchmarks.repeatability [--times 20] [--load] [--model FOLDER]

Prints the spread of the gain against the spread of unpaired medians, how many of the 95 % intervals hold the pooled
gain, and for fp32 against itself how many hold 1. `--load` keeps another process busy on one core, on and off.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import common

STUDY = """\
name: repeatability
models:
  model: {{path: "{model}"}}
strategies: [torch/fp32, torch/int8-dynamic]
threads: [1]
inputs: [{{batch: 1, length: 32}}]
kinds: [latency]
precision: 3%
max_seconds: {seconds}
replicas: {times}
"""


def main() -> None:
    """Run the study and print what its repeats say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--model", type=Path, default=common.ASSETS / "intents-model")
    asked = parser.parse_args()
    print(common.machine())
    with common.scratch() as folder, disturbing(asked.load):
        study = folder / "study.yaml"
        study.write_text(STUDY.format(model=asked.model.resolve(), seconds=asked.seconds, times=asked.times))
        database = f"sqlite:///{folder / 'repeat.db'}"
        began = time.monotonic()
        subprocess.run([_quantfleet(), "run", str(study), "--database", database, "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        listed = subprocess.run(
            [_quantfleet(), "results", "--database", database, "--json"], check=True, capture_output=True, text=True
        )
        print(f"{asked.times} times, {'another process busy on and off' if asked.load else 'no other load'}, "
              f"{time.monotonic() - began:.0f} s")  # fmt: skip
        rows = [row for row in _rows(json.loads(listed.stdout)) if row["gain"] is not None]
    for strategy in ("torch/int8-dynamic", "torch/fp32"):
        _report([row for row in rows if row["strategy"] == strategy], strategy)


def _report(rows: Sequence[dict[str, Any]], strategy: str) -> None:
    gains = [math.log(row["gain"]) for row in rows]
    baseline = [math.log(row["baseline_latency_p50_s"]) for row in rows]
    measured = [math.log(row["latency_p50_s"]) for row in rows]
    # what one gets by measuring one after the other: the baseline of one run, the strategy of the next
    unpaired = [b - m for b, m in zip(baseline, measured[1:] + measured[:1], strict=True)]
    pooled = 1.0 if strategy == "torch/fp32" else math.exp(statistics.fmean(gains))
    held = sum(row["gain_low"] <= pooled <= row["gain_high"] for row in rows)
    half = [math.sqrt(row["gain_high"] / row["gain_low"]) - 1 for row in rows]
    disturbed = sum("disturbed" in row["flags"] for row in rows)
    print(f"\n{strategy}")
    print(f"  gain, mean of {len(rows)}:                 ×{math.exp(statistics.fmean(gains)):.3f}")
    print(f"  spread of the gain (sd of logs):    {100 * statistics.stdev(gains):.1f} %")
    print(f"  spread of unpaired medians' ratios: {100 * statistics.stdev(unpaired):.1f} %")
    print(f"  spread of the medians themselves:   {100 * statistics.stdev(measured):.1f} %")
    print(f"  median half width of the intervals: {100 * statistics.median(half):.1f} %")
    print(f"  intervals that hold ×{pooled:.3f}:         {held} of {len(rows)}")
    print(f"  marked disturbed:                   {disturbed}")


def _rows(document: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = document["results"] if isinstance(document, dict) else document
    return rows


def _quantfleet() -> str:
    return str(Path(sys.executable).with_name("quantfleet"))


@contextmanager
def disturbing(wanted: bool) -> Iterator[None]:
    """One busy process, on and off for a random few seconds each."""
    if not wanted:
        yield
        return
    pid = os.fork()
    if pid == 0:
        _burn_and_rest()
    try:
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def _burn_and_rest() -> None:
    draw = random.Random(7)
    while os.getppid() != 1:
        end = time.monotonic() + draw.uniform(1, 6)
        while time.monotonic() < end:
            pass
        time.sleep(draw.uniform(1, 6))
    os._exit(0)


if __name__ == "__main__":
    main()
