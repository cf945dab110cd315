"""Files that the tools really wrote, and edited copies of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "data" / "foreign"

PYPERF, OPTIMUM, LOADGEN = (FOLDER / name for name in ("pyperf", "optimum-benchmark", "loadgen"))


def edited(source: Path, target: Path, change: Callable[[Any], object]) -> Path:
    """A copy of a JSON file with something changed."""
    document = json.loads(source.read_text())
    change(document)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document))
    return target


def replaced(source: Path, target: Path, **files: tuple[str, str]) -> Path:
    """A copy of a folder of text files; `files`: stem of a file → what stands there, and instead."""
    shutil.copytree(source, target)
    for path in target.iterdir():
        if path.stem in files:
            old, new = files[path.stem]
            text = path.read_text()
            assert old in text, f"{path} has no {old!r}"
            path.write_text(text.replace(old, new))
    return target
