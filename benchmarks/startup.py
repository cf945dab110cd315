"""Start-up: CPU seconds of commands beyond those of the bare interpreter that imports Typer and SQLAlchemy.

    python -m benchmarks.startup [--times 15] [--database quantfleet.db] [--modules]

Each command runs in a fresh process, in turn with the bare interpreter; user and system time, from the kernel's account
of the process that ended, medians. What reads a database reads the one that is named, or one of 12 results made for it.
Compiled modules are kept in a folder that the first turn, which does not count, fills.
`--modules` lists the packages that each command has imported beyond the bare interpreter's, slowest first.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import common
from storage import hosts, lifecycle
from storage.database import Database
from tests import builders

BARE = (sys.executable, "-c", "import typer, sqlalchemy")
WANTED_S = 0.3
"""What `--help` and `results` may take beyond the bare interpreter."""


def main() -> None:
    """Print a row for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=15, help="fresh processes of each command")
    parser.add_argument("--database", type=Path, help="SQLite file to read; made, with 12 results, by default")
    parser.add_argument("--modules", action="store_true", help="also tell what is imported")
    asked = parser.parse_args()
    print(common.machine())
    with common.scratch() as folder:
        file = asked.database or folder / "startup.db"
        if asked.database is None:
            _fill(f"sqlite:///{file}")
        commands = _commands(file.resolve())
        compiled = folder / "compiled"
        _table(_measured(commands, asked.times, compiled), asked.times)
        if asked.modules:
            for name, (line, environ) in commands.items():
                _modules(name, line, _environ(environ, compiled))


def _commands(file: Path) -> dict[str, tuple[Sequence[str], Mapping[str, str]]]:
    quantfleet = str(Path(sys.executable).with_name("quantfleet"))
    stored = ("--database", f"sqlite:///{file}")
    completing = {"_QUANTFLEET_COMPLETE": "complete_bash", "COMP_WORDS": "quantfleet comp", "COMP_CWORD": "1"}
    lines: dict[str, tuple[str, ...]] = {
        "--help": ("--help",),
        "results": ("results", *stored),
        "results --json": ("results", *stored, "--json"),
        "compare": ("compare", *stored),
        "submit --help": ("submit", "--help"),
        "worker --help": ("worker", "--help"),
        "completion": (),
    }
    bare: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {"bare interpreter": (BARE, {})}
    return bare | {
        name: ((quantfleet, *words), completing if name == "completion" else {}) for name, words in lines.items()
    }


def _measured(
    commands: Mapping[str, tuple[Sequence[str], Mapping[str, str]]], times: int, compiled: Path
) -> dict[str, list[float]]:
    """CPU seconds by command; the first turn, which fills the caches, does not count."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for turn in range(times + 1):
        for name, (line, environ) in commands.items():
            seconds = _cpu_s(line, _environ(environ, compiled))
            if turn:
                found[name].append(seconds)
    return found


def _cpu_s(line: Sequence[str], environ: Mapping[str, str]) -> float:
    process = subprocess.Popen(line, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(line)} ended with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def _environ(more: Mapping[str, str], compiled: Path) -> dict[str, str]:
    """Ours, but for modules that are compiled once, as they are where quantfleet is installed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(compiled), **more}


def _table(found: Mapping[str, Sequence[float]], times: int) -> None:
    bare = statistics.median(found["bare interpreter"])
    print(f"{times} fresh processes of each, in turn; CPU (user + system), medians")
    print(f"{'command':18} {'CPU':>8} {'more':>8} {'ratio':>7}   lowest … highest")
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        more = "" if name == "bare interpreter" else f"{middle - bare:+7.3f}s"
        print(f"{name:18} {middle:7.3f}s {more:>8} {middle / bare:7.2f}   {min(seconds):.3f} … {max(seconds):.3f} s")
    slow = [name for name in ("--help", "results") if statistics.median(found[name]) - bare > WANTED_S]
    kept = f"no: {', '.join(slow)}" if slow else "yes"
    print(f"--help and results within {WANTED_S:g} s of the bare interpreter: {kept}")


def _modules(name: str, line: Sequence[str], environ: Mapping[str, str]) -> None:
    """Import time by package, of what the command imports."""
    words = line[1:] if line[0] == sys.executable else line
    told = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(told, env=environ, capture_output=True, text=True, check=True)
    own: defaultdict[str, int] = defaultdict(int)
    for self_us, module in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)$", done.stderr, re.MULTILINE):
        own[module.partition(".")[0]] += int(self_us)
    largest = sorted(own.items(), key=lambda item: -item[1])[:14]
    print(f"{name}: {sum(own.values()) / 1e3:.0f} ms, of it " + ", ".join(f"{m} {us / 1e3:.0f}" for m, us in largest))


def _fill(address: str) -> None:
    """Twelve finished jobs of one machine."""
    platform = builders.platform()
    jobs = [
        builders.planned(builders.case(strategy=strategy, threads=threads), platform.key, replica)
        for strategy in ("torch/fp32", "torch/int8-dynamic")
        for threads in (1, 2)
        for replica in range(3)
    ]
    text = lifecycle.StudyText(name="startup", text="", document={})
    with Database.create_or_open(address) as database:
        hosts.register(database, name="here", platform=platform)
        for job_id in lifecycle.submit(database, study=text, jobs=jobs).new:
            claim = lifecycle.claim(database, job_id, host="here", platform_key=platform.key, lease=60.0)
            assert claim is not None
            lifecycle.finish(database, claim, builders.latency(flags=()))


if __name__ == "__main__":
    main()
