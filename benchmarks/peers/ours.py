"""The same sweep by quantfleet: one `quantfleet run` into a fresh database, with a fresh cache, as a user types it.

Every job measures both sides, baseline and strategy, so six jobs answer the twelve cases (and their gains as well).
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.sweep import BASELINE, STRATEGY, Case, Effort, Outcome
from storage import queries
from storage.database import Database

STUDY = """\
name: sweep
models:
  model: {{path: "{model}"}}
strategies: [torch/int8-dynamic]
threads: {threads}
inputs: {inputs}
kinds: [latency]
precision: {precision}
max_seconds: {max_seconds}
min_pairs: {min_pairs}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """How precise quantfleet is to be."""

    name: str
    precision: str
    max_seconds: float
    min_pairs: int
    setting: str  # in words


SETTINGS = (
    Setting(
        name="quantfleet, 2 pairs",
        precision="50%",
        max_seconds=1,
        min_pairs=2,
        setting="the least that a study may ask for: two pairs of fresh processes, one or two rounds each",
    ),
    Setting(
        name="quantfleet, 6 pairs",
        precision="50%",
        max_seconds=1,
        min_pairs=6,
        setting="six pairs of fresh processes, one round in most",
    ),
    Setting(
        name="quantfleet, ±3 %",
        precision="3%",
        max_seconds=60,
        min_pairs=6,
        setting="its defaults: until the gain's 95 % interval is within ±3 %, 60 s at most",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """One run of the sweep."""

    outcomes: list[Outcome]
    wall_s: float
    database: Path


def run(setting: Setting, effort: Effort, cases: Sequence[Case], folder: Path) -> Swept:
    """Measure cases; `folder` is an empty one. Raises CalledProcessError when a job has no result."""
    lengths, threads = dict.fromkeys(case.length for case in cases), dict.fromkeys(case.threads for case in cases)
    study, database = folder / "study.yaml", folder / "sweep.db"
    study.write_text(
        STUDY.format(
            model=effort.model,
            threads=list(threads),
            inputs=json.dumps([{"batch": 1, "length": length} for length in lengths]),
            precision=setting.precision,
            max_seconds=setting.max_seconds,
            min_pairs=setting.min_pairs,
        )
    )
    environ = {**os.environ, "QUANTFLEET_CACHE": str(folder / "cache")}
    began = time.monotonic()
    _quantfleet("run", str(study), "--quiet", "--database", f"sqlite:///{database}", environ=environ)
    wall_s = time.monotonic() - began
    listed = _quantfleet("results", "--json", "--database", f"sqlite:///{database}", environ=environ)
    with Database.open(f"sqlite:///{database}", readonly=True) as opened:
        found = [one for row in json.loads(listed)["results"] for one in _outcomes(row, opened)]
    shared = wall_s / len(found)
    return Swept(outcomes=[_with_wall(one, shared) for one in found], wall_s=wall_s, database=database)


def _quantfleet(*words: str, environ: dict[str, str]) -> str:
    command = str(Path(sys.executable).with_name("quantfleet"))
    return subprocess.run([command, *words], check=True, stdout=subprocess.PIPE, text=True, env=environ).stdout


def _outcomes(row: dict[str, Any], database: Database) -> Iterator[Outcome]:
    """Both sides of one result."""
    legs = queries.legs(database, row["job_id"])
    for strategy, side, prefix in ((BASELINE, "baseline", "baseline_"), (STRATEGY, "strategy", "")):
        yield Outcome(
            case=Case(length=row["length"], threads=row["threads"], strategy=strategy),
            wall_s=0.0,
            median_s=row[f"{prefix}latency_p50_s"],
            timed_s=sum(sum(leg.samples_ns) for leg in legs if leg.side == side) / 1e9,
            threads=row[f"{prefix}threads_observed"],
            reason=row["message"] or "",
        )


def _with_wall(outcome: Outcome, wall_s: float) -> Outcome:
    return dataclasses.replace(outcome, wall_s=wall_s)
