"""What a manifest from elsewhere promises, judged before anything is fetched: safe names, safe formats, sizes, hashes.

Whoever can write to a shared store could put any manifest there. Nothing of it is used that could leave its folder or
run when it is loaded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from worker import artifacts

SAFE = (".safetensors", ".onnx", ".onnx.data", ".onnx_data", ".xml", ".json", ".npz", ".txt", ".model")
"""Ends of names of what may travel: data and nothing else (`.model`: SentencePiece; `.npz`: read without pickle)."""

LARGEST_MANIFEST = 16 << 20
"""Bytes; real ones take some thousand."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[\w-][\w .+=,@-]{0,199}")


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file of an artifact."""

    name: str  # relative, with / between its parts
    size: int  # bytes
    sha256: str  # 64 hex digits


def read(data: bytes) -> tuple[File, ...]:
    """The files that a manifest promises; ValueError says what is wrong with it."""
    manifest = _json(data)
    listed = manifest.get("files")
    if not isinstance(listed, list) or not listed:
        raise ValueError("its manifest names no files")
    _check_told(manifest)
    files = tuple(_file(entry) for entry in listed)
    names = [file.name for file in files]
    reason = refusal(names)
    if reason is not None:
        raise ValueError(reason)
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if len(set(names)) < len(names) or folders & set(names):
        raise ValueError("its manifest names a file twice, or as a folder too")
    return files


def refusal(names: Collection[str]) -> str | None:
    """Why files of these names do not travel, or None when all of them may."""
    for name in names:
        if not _is_inside(name):
            return f"{name!r} is no name of a file inside the artifact's folder"
        if not (name.endswith(SAFE) or _is_weights_of_ir(name, names)):
            return (
                f"{name!r} is of no format that travels ({', '.join(SAFE)}, and .bin beside the .xml of an OpenVINO "
                "model): what could run code when it is loaded stays on its host"
            )
    return None


def _is_inside(name: str) -> bool:
    """A relative path, hidden nowhere, that is not the manifest itself."""
    return all(_PART.fullmatch(part) for part in name.split("/")) and name != artifacts.MANIFEST


def _is_weights_of_ir(name: str, names: Collection[str]) -> bool:
    """The weights of an OpenVINO model; a `pytorch_model.bin`, whatever stands beside it, is a pickle to others."""
    path = PurePosixPath(name)
    return path.suffix == ".bin" and str(path.with_suffix(".xml")) in names and not path.name.startswith("pytorch_")


def _json(data: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"its manifest cannot be read: {exc}") from exc
    if not isinstance(manifest, dict):
        raise ValueError("its manifest is no JSON object")
    return manifest


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _check_told(manifest: Mapping[str, Any]) -> None:
    """Recipe, facts and duration go into results as they are."""
    took = manifest.get("prepare_s")
    if isinstance(took, bool) or not isinstance(took, (int, float)) or not 0 <= took < math.inf:
        raise ValueError("its manifest has no 'prepare_s' in seconds")
    for name in ("recipe", "facts"):
        if not isinstance(manifest.get(name), dict):
            raise ValueError(f"its manifest has no object {name!r}")


def _file(entry: Any) -> File:
    found = entry if isinstance(entry, dict) else {}
    name, size, digest = found.get("name"), found.get("bytes"), found.get("sha256")
    if not isinstance(name, str) or type(size) is not int or size < 0:
        raise ValueError(f"its manifest has a file without name and size: {str(entry)[:80]}")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ValueError(f"its manifest has no SHA-256 of {name!r}")
    return File(name=name, size=size, sha256=digest)
