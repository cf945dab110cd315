"""Joules that the machine's packages have used, as the kernel's powercap interface tells them (RAPL).

Counters of energy in microjoules that start again at zero after `max_energy_range_uj`; only differences mean anything,
and only of the whole machine: everything that runs on a package counts. Most virtual machines have none, and kernels
since 5.10 let root alone read them (CVE-2020-8694): then nothing is told, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
"""Where /sys lies; another folder in tests."""

_POWERCAP = "sys/class/powercap"


@dataclass(frozen=True, kw_only=True, slots=True)
class Zone:
    """One package or memory zone at the top level."""

    name: str  # "package-0", "dram", …
    folder: Path
    range_uj: int  # the counter starts again at zero after this


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The counters of all zones at one moment."""

    joules_e6: Mapping[str, int]  # zone's folder name → microjoules


class Meter:
    """Reads the energy counters of a machine; `absent` says why there are none."""

    def __init__(self, root: Path = ROOT) -> None:
        self.absent: str | None = None
        try:
            self.zones = tuple(_zones(root / _POWERCAP))
        except PermissionError:
            self.zones = ()
            self.absent = "only root may read the energy counters of this kernel"
        if not self.zones and self.absent is None:
            self.absent = "this machine tells no energy (no RAPL zones in /sys/class/powercap)"

    def read(self) -> Reading | None:
        """The counters now; None where there are none. About 20 µs a zone."""
        if not self.zones:
            return None
        return Reading(joules_e6={zone.folder.name: _number(zone.folder / "energy_uj") for zone in self.zones})

    def joules(self, before: Reading, after: Reading) -> dict[str, float]:
        """Joules between two readings by zone name, of several packages `package-0`, `package-1`, …

        Right as long as no counter went round more than once: at 200 W a range of 262 kJ lasts for 20 minutes.
        """
        found: dict[str, float] = {}
        for zone in self.zones:
            first, last = before.joules_e6[zone.folder.name], after.joules_e6[zone.folder.name]
            used = last - first if last >= first else last - first + zone.range_uj
            found[zone.name] = found.get(zone.name, 0.0) + used / 1e6
        return found


def _zones(folder: Path) -> Iterator[Zone]:
    """The top-level zones (`intel-rapl:0`), AMD's included; `intel-rapl:0:0` are parts of one, and `psys` is all."""
    for zone in sorted(folder.glob("intel-rapl:*")):
        if zone.name.count(":") != 1:
            continue
        name = (zone / "name").read_text().strip()
        if name != "psys":
            _number(zone / "energy_uj")  # PermissionError now rather than in the middle of a job
            yield Zone(name=name, folder=zone, range_uj=_number(zone / "max_energy_range_uj"))


def _number(file: Path) -> int:
    return int(file.read_text())
