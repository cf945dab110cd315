"""Quantities as people write them: `20ms`, `0.5pt`, `3%`, `1GiB`, `500/s` → numbers in base units (pure).

Strict: a number without its unit, or with another one, is an error that shows what would do. Nothing is guessed: 20
could be seconds or milliseconds, 0.5 a share or points. Options and filter expressions have the same units.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from storage import errors

_NUMBER = r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)"

TIMES: Mapping[str, float] = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
POINTS: Mapping[str, float] = {"pt": 0.01, "pp": 0.01, "points": 0.01}
PERCENT: Mapping[str, float] = {"%": 0.01}
SIZES: Mapping[str, float] = {
    "B": 1.0,
    **{f"{prefix}B": 1000.0**power for power, prefix in enumerate(("k", "M", "G", "T"), 1)},
    **{f"{prefix}iB": 1024.0**power for power, prefix in enumerate(("K", "M", "G", "T"), 1)},
}
RATES: Mapping[str, float] = {"/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600}


def seconds(option: str, text: str) -> float:
    """Seconds of `20ms` or `0.02s`; QueryError names the option."""
    return _above_0(option, text, TIMES, "a time above 0 such as 20ms or 0.02s")


def points(option: str, text: str) -> float:
    """The share of `0.5pt` (percentage points): 0.005. 0 is allowed: nothing may be lost."""
    return _read(option, text, POINTS, "percentage points such as 0.5pt")


def percent(option: str, text: str) -> float:
    """The share of `3%`: 0.03; 0 is allowed. Nobody's 0.03 is taken for 3 %: the sign is required."""
    return _read(option, text, PERCENT, "a percentage with its sign, such as 3%")


def size(option: str, text: str) -> float:
    """Bytes of `100MB` (decimal) or `1GiB` (binary)."""
    return _above_0(option, text, SIZES, "a size above 0 such as 100MB or 1GiB")


def rate(option: str, text: str) -> float:
    """Rows per second of `500/s` or `30000/min`."""
    return _above_0(option, text, RATES, "a rate above 0 such as 500/s or 30000/min")


def factor(unit: str, units: Mapping[str, float]) -> float | None:
    """What one of a unit is in base units; None for an unknown one. µ may be the micro sign or the Greek letter."""
    return units.get(unit.replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}"))


def prices(option: str, given: list[str]) -> dict[str, float]:
    """Pattern over host names → price of an hour, from `HOST=0.34`, in the order given."""
    found = {}
    for text in given:
        name, equals, number = text.rpartition("=")
        if not equals or not name or not re.fullmatch(_NUMBER, number) or not float(number):
            raise errors.QueryError(f"{option} {text!r}: expected HOST=PRICE an hour, such as {option} 'big*=0.34'")
        found[name] = float(number)
    return found


def _above_0(option: str, text: str, units: Mapping[str, float], expected: str) -> float:
    found = _read(option, text, units, expected)
    if found == 0:
        raise errors.QueryError(f"{option} {text!r}: expected {expected}")
    return found


def _read(option: str, text: str, units: Mapping[str, float], expected: str) -> float:
    found = re.fullmatch(rf"{_NUMBER}\s*(\D.*)?", text.strip())
    if found is None:
        raise errors.QueryError(f"{option} {text!r}: expected {expected}")
    number, unit = float(found[1]), found[2]
    if unit is None:
        raise errors.QueryError(f"{option} {text!r}: the unit is missing: expected {expected}")
    one = factor(unit, units)
    if one is None:
        known = f"units: {', '.join(units)}"
        raise errors.QueryError(f"{option} {text!r}: unknown unit {unit!r}{_meant(unit, units)} ({known})")
    return number * one


def _meant(unit: str, units: Mapping[str, float]) -> str:
    """The unit that differs in its letters' size only, or else the nearest."""
    same = next((name for name in units if name.lower() == unit.lower()), None)
    return f"; did you mean {same!r}?" if same else errors.nearest(unit, units)
