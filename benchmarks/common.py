"""What the benchmarks share: a worker's place on this machine, and a line about the machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage import keys, records, settings
from worker import environment, hardware, station

ASSETS = Path(__file__).parent.parent / "examples" / "assets"


@contextmanager
def place() -> Iterator[station.Station]:
    """A station as a worker has it, holding the measuring lock."""
    platform = keys.platform(hardware.probe(os.environ), environment.probe())
    made = station.Station(settings.load(), platform)
    try:
        with made.exclusive(lambda: None):
            yield made
    finally:
        made.close()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes away afterwards."""
    with tempfile.TemporaryDirectory(prefix="quantfleet-bench-") as folder:
        yield Path(folder)


def machine() -> str:
    """One line: CPU, cores, load before the benchmark began."""
    seen = hardware.probe(os.environ)
    return (
        f"machine: {seen.cpu} (family {seen.family}, model {seen.model}), {seen.logical_cores} logical cores, "
        f"{seen.memory_gib} GiB, {seen.virtualization or 'bare metal'}; load average {os.getloadavg()[0]:.2f}"
    )


def models(path: Path | None) -> tuple[records.ModelRef, ...]:
    """The trained demo model (or the one at `path`) and a DistilBERT-base shape."""
    trained = path or ASSETS / "intents-model"
    return (
        records.ModelRef(name=trained.name, source="local", location=str(trained.resolve())),
        records.ModelRef(name="distilbert-shape", source="random", location="distilbert"),
    )
