"""One thing that `quantfleet doctor` looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a check saw, and what to do about it."""

    check: str  # short name
    level: Literal["ok", "warn", "bad"]  # bad: measuring or storing will not work, or hardly
    seen: str
    advice: str = ""  # empty where nothing is to be done
