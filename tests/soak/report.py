"""A soak's findings as a table and as files."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.soak.findings import DESCRIPTORS, MEMORY, MIB, Growth, Row
from tests.soak.trend import Trend, Verdict
from tests.soak.trouble import Strike

STYLES = {"grows": "bold red", "open": "yellow", "flat": "green"}
WORDS: Mapping[Verdict | None, str] = {"grows": "grows", "open": "open", "flat": "flat", None: "–"}


def table(found: Iterable[Row]) -> Table:
    """One row for each role at each place; growth an hour with half the width of its 95 % interval: in the lives of the
    processes, and from each process to the next one."""
    made = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("process", "lives", "longest", "MiB", "MiB/h", "… to the next", "", "fds", "fds/h", ""):
        made.add_column(name, justify="left" if name in ("process", "") else "right", no_wrap=True)
    for row in found:
        made.add_row(
            f"{row.where} {row.role}" if row.where != row.role else row.role,
            str(row.lives),
            _time(row.longest_s),
            f"{row.memory_now / MIB:.1f}",
            _trend(row.memory.within, MIB),
            _trend(row.memory.between, MIB),
            _verdict(row.memory),
            f"{row.descriptors_now:.0f}",
            _trend(row.descriptors.within, 1),
            _verdict(row.descriptors),
        )
    return made


def sensitivity(found: Sequence[Row]) -> str:
    """What this run would have noticed."""
    memory = [MEMORY.detectable(row.memory.within) for row in found if row.memory.within is not None]
    descriptors = [DESCRIPTORS.detectable(row.descriptors.within) for row in found if row.descriptors.within]
    memory, descriptors = [[one for one in each if math.isfinite(one)] for each in (memory, descriptors)]
    if not memory or not descriptors:
        return "no process lived long enough to tell a leak"
    return (
        "open: the time was too short to tell flat from growing; "
        f"a leak is called one from {min(memory) / MIB:.0f} MiB/h (the steadiest process) or "
        f"{max(memory) / MIB:.0f} MiB/h (the noisiest) on, and from {max(descriptors):.0f} descriptors/h on"
    )


def write(folder: Path, *, facts: Mapping[str, Any], found: Iterable[Row], strikes: Iterable[Strike]) -> None:
    """`soak.json`: everything but the samples, which are `samples.csv`; `strikes.csv`."""
    told = [
        {
            **{name: getattr(row, name) for name in ("where", "role", "lives", "longest_s")},
            "private_bytes": row.memory_now,
            "descriptors": row.descriptors_now,
            "memory_growth": row.memory.document(),
            "descriptors_growth": row.descriptors.document(),
        }
        for row in found
    ]
    text = json.dumps({**facts, "processes": told}, indent=1, default=str)
    (folder / "soak.json").write_text(text.replace("-Infinity", "null").replace("Infinity", "null"))
    with (folder / "strikes.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in dataclasses.fields(Strike)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(strike) for strike in strikes)


def _trend(trend: Trend | None, unit: float) -> str:
    if trend is None:
        return ""
    return f"{trend.slope / unit:+.1f} ±{(trend.high - trend.low) / 2 / unit:.1f}"


def _verdict(growth: Growth) -> str:
    word = WORDS[growth.verdict]
    style = STYLES.get(growth.verdict or "")
    return f"[{style}]{word}[/]" if style else word


def _time(seconds: float) -> str:
    return f"{seconds // 60:.0f}:{seconds % 60:02.0f}"
