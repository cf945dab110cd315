"""Packages of other people: importable modules with entry points, made on the spot."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from storage.catalogue import registry

CACHED = (registry.descriptions, registry.transforms_by_name, registry.packages, registry._added)
"""What the registry remembers."""


@contextlib.contextmanager
def installed(folder: Path, name: str, files: Mapping[str, str], entries: Mapping[str, str]) -> Iterator[None]:
    """A distribution with these files and entry points (`name` → `module:attribute`), gone again afterwards."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{registry.ENTRY_POINTS}]", *(f"{entry} = {target}" for entry, target in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    tops = {path.partition("/")[0].removesuffix(".py") for path in files}
    sys.path.insert(0, str(folder))
    forget()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for module in [module for module in sys.modules if module.partition(".")[0] in tops]:
            del sys.modules[module]
        forget()


def forget() -> None:
    """Let the registry look again."""
    importlib.invalidate_caches()
    for function in CACHED:
        function.cache_clear()
