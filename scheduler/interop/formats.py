"""Which tool wrote a file, found by its content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from scheduler.interop import entries, loadgen, optimum_benchmark, pyperf
from scheduler.interop.entries import Entry
from storage import errors

FORMATS = ("auto", optimum_benchmark.TOOL, pyperf.TOOL, loadgen.TOOL)

_JSON: Mapping[str, Any] = {optimum_benchmark.TOOL: optimum_benchmark, pyperf.TOOL: pyperf}
"""Tools whose files are one JSON object; each module has `mine` and `read`."""


def read(paths: Iterable[Path], format_: str = "auto") -> list[Entry]:
    """The benchmarks of some files, each once; ForeignError for a file that no tool, or not that tool, wrote."""
    found = [entry for path in paths for entry in _read(path, format_)]
    return list({entry.digest: entry for entry in found}.values())


def _read(path: Path, format_: str) -> list[Entry]:
    if not path.exists():
        raise errors.ForeignError(f"{path}: there is no such file")
    if format_ == loadgen.TOOL or (format_ == "auto" and loadgen.mine(path)):
        return loadgen.read(path)
    path = _inside(path)
    document = entries.document(path)
    readers: dict[str, Callable[[Path, Mapping[str, Any]], list[Entry]]] = {
        name: module.read for name, module in _JSON.items() if module.mine(document)
    }
    chosen = next(iter(readers), None) if format_ == "auto" else format_
    if chosen not in readers:
        raise errors.ForeignError(_not_known(path, document, readers, format_))
    return readers[chosen](path, document)


def _inside(path: Path) -> Path:
    """A folder of optimum-benchmark stands for the report in it."""
    if not path.is_dir():
        return path
    names = ("benchmark.json", optimum_benchmark.REPORT)
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        wanted = ", ".join((*names, loadgen.SUMMARY))
        raise errors.ForeignError(f"{path}: a folder without {wanted}")
    return found


def _not_known(path: Path, document: Mapping[str, Any], readers: Iterable[str], format_: str) -> str:
    others = ", ".join(readers)
    if others:
        return f"{path}: not a file of {format_}, but of {others}; leave --format out"
    tools = format_ if format_ != "auto" else f"{', '.join(_JSON)} or LoadGen (its folder with both logs)"
    fields = ", ".join(sorted(document)[:6]) or "none"
    return f"{path}: JSON, but no result of {tools} (its fields: {fields})"
