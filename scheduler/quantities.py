"""Limits as people write them: `20ms`, `0.5pt`, `1GiB`, `500/s` → numbers in base units (pure).

Strict: a number without its unit, or with another one, is an error that shows what would do. Nothing is guessed: 20
could be seconds or milliseconds, 0.5 a share or points.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from storage import errors

_NUMBER = r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)"

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_SHARES = {"pt": 0.01, "pp": 0.01, "points": 0.01}
_BYTES = {
    "B": 1.0,
    **{f"{prefix}B": 1000.0**power for power, prefix in enumerate(("k", "M", "G", "T"), 1)},
    **{f"{prefix}iB": 1024.0**power for power, prefix in enumerate(("K", "M", "G", "T"), 1)},
}
_RATES = {"/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600}


def seconds(option: str, text: str) -> float:
    """Seconds of `20ms` or `0.02s`; QueryError names the option."""
    return _read(option, text, _SECONDS, "a time above 0 such as 20ms or 0.02s")


def points(option: str, text: str) -> float:
    """The share of `0.5pt` (percentage points): 0.005."""
    return _read(option, text, _SHARES, "percentage points above 0 such as 0.5pt")


def size(option: str, text: str) -> float:
    """Bytes of `100MB` (decimal) or `1GiB` (binary)."""
    return _read(option, text, _BYTES, "a size above 0 such as 100MB or 1GiB")


def rate(option: str, text: str) -> float:
    """Rows per second of `500/s` or `30000/min`."""
    return _read(option, text, _RATES, "a rate above 0 such as 500/s or 30000/min")


def prices(option: str, given: list[str]) -> dict[str, float]:
    """Pattern over host names → price of an hour, from `HOST=0.34`, in the order given."""
    found = {}
    for text in given:
        name, equals, number = text.rpartition("=")
        if not equals or not name or not re.fullmatch(_NUMBER, number) or not float(number):
            raise errors.QueryError(f"{option} {text!r}: expected HOST=PRICE an hour, such as {option} 'big*=0.34'")
        found[name] = float(number)
    return found


def _read(option: str, text: str, units: Mapping[str, float], expected: str) -> float:
    found = re.fullmatch(rf"{_NUMBER} ?(\D.*)?", text.strip())
    if found is None:
        raise errors.QueryError(f"{option} {text!r}: expected {expected}")
    number, unit = float(found[1]), found[2]
    if unit is None:
        raise errors.QueryError(f"{option} {text!r}: the unit is missing: expected {expected}")
    if unit not in units:
        known = f"units: {', '.join(units)}"
        raise errors.QueryError(f"{option} {text!r}: unknown unit {unit!r}{_meant(unit, units)} ({known})")
    if number == 0:
        raise errors.QueryError(f"{option} {text!r}: expected {expected}")
    return number * units[unit]


def _meant(unit: str, units: Mapping[str, float]) -> str:
    """The unit that differs in its letters' size only, or else the nearest."""
    same = next((name for name in units if name.lower() == unit.lower()), None)
    return f"; did you mean {same!r}?" if same else errors.nearest(unit, units)
