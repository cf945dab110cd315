"""Virtual environments that peers need for themselves, with pinned versions, made once in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_SHARED = ("torch==2.13.0", "transformers==4.57.6")


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """A virtual environment, by its folder's name."""

    name: str
    pins: tuple[str, ...]


RUNNERS = Environment(
    name="runners",
    pins=(
        *_SHARED,
        "datasets==4.4.2",  # optimum-benchmark 0.6.0 needs less than 4.5, and transformers 4
        "optimum-benchmark==0.6.0",
        "pyperf==2.11.0",
        "mlcommons-loadgen==6.0.17",
    ),
)
OLIVE = Environment(name="olive", pins=(*_SHARED, "olive-ai==0.13.0"))


class NotInstalled(Exception):
    """An environment could not be made; the message is pip's own."""


def ready(folder: Path, environment: Environment) -> Path:
    """The environment's interpreter; made, or made anew, where it does not have these pins. Raises NotInstalled."""
    place, marker = folder / environment.name, folder / f"{environment.name}.pins"
    python, wanted = place / "bin" / "python", "\n".join(environment.pins) + "\n"
    if not marker.exists() or marker.read_text() != wanted or not python.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"installing {', '.join(environment.pins)} into {place} …", flush=True)
        _done(sys.executable, "-m", "venv", str(place))
        index = os.environ.get("TORCH_INDEX")
        extra = ["--extra-index-url", index] if index else []
        _done(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *extra, *environment.pins)
        marker.write_text(wanted)
    return python


def _done(*line: str) -> None:
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    if done.returncode:
        said = [text for text in (done.stderr or done.stdout).splitlines() if text.strip()]
        raise NotInstalled(said[-1] if said else f"exit code {done.returncode}")
