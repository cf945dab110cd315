"""A command in this process, as the entry `quantfleet` runs it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from scheduler.cli import main


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Its standard output as JSON."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def said(self) -> str:
        """Everything that it printed, however its lines were broken."""
        return " ".join((self.out + self.err).split())


def run(patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], *argv: str, **environ: str) -> Ended:
    """`quantfleet ARGV` with these variables, for that long."""
    capture.readouterr()
    with patch.context() as within:
        for name, value in environ.items():
            within.setenv(name, value)
        within.setattr(sys, "argv", ["quantfleet", *argv])
        with pytest.raises(SystemExit) as ended:
            main.run()
    found = capture.readouterr()
    return Ended(code=int(str(ended.value.code or 0)), out=found.out, err=found.err)
