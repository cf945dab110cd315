"""Overhead: the share of a study's wall time that is neither warm-up nor measuring nor accuracy.

    python -m benchmarks.overhead [examples/demo.yaml]

Runs the study into a fresh database (prepared models stay cached, as they are after `make demo`) and says where the
time went.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from benchmarks import common


def main() -> None:
    """Run the study once and print its time by phase."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path, default=Path("examples/demo.yaml"))
    asked = parser.parse_args()
    print(common.machine())
    with common.scratch() as folder:
        file = folder / "overhead.db"
        began = time.monotonic()
        line = [Path(sys.executable).with_name("quantfleet"), "run", asked.study, "--quiet", "--database", file]
        subprocess.run([str(word) for word in line], check=True, stdout=subprocess.DEVNULL)
        wall = time.monotonic() - began
        report(file, wall)


def report(file: Path, wall: float) -> None:
    """Print where the `wall` seconds of a run into a database went."""
    phases: defaultdict[str, float] = defaultdict(float)
    useful: defaultdict[str, float] = defaultdict(float)
    with sqlite3.connect(file) as connection:
        jobs = connection.execute("SELECT count(*) FROM job").fetchone()[0]
        for (text,) in connection.execute("SELECT document FROM result"):
            document = json.loads(text)
            useful["warm-up and legs"] += document.get("measured_s", 0.0)
            useful["accuracy"] += document.get("evaluated_s", 0.0)
            for name, seconds in document["overhead"].items():
                phases[name] += seconds
    inside = sum(phases.values()) + sum(useful.values())
    phases["outside jobs (start, queue, store, compare)"] = wall - inside
    print(f"{jobs} jobs in {wall:.1f} s")
    for name, seconds in _largest(useful):
        print(f"  {name:46} {seconds:7.1f} s  {100 * seconds / wall:5.1f} %")
    print(f"  {'overhead':46} {wall - sum(useful.values()):7.1f} s  {100 * (1 - sum(useful.values()) / wall):5.1f} %")
    for name, seconds in _largest(phases):
        print(f"    {name:44} {seconds:7.1f} s  {100 * seconds / wall:5.1f} %")


def _largest(seconds: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(seconds.items(), key=lambda item: -item[1])


if __name__ == "__main__":
    main()
