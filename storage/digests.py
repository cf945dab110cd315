"""Content identity of files and model folders, computed alike by planner and worker."""

from __future__ import annotations

import hashlib
from pathlib import Path

from storage import errors, keys

MODEL_FILES = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "*.bin",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "spm*",
)
"""Globs of the files that make a model what it is; training state, READMEs and the like do not count."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as many hex digits as a key; DatasetError when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[: keys.KEY_LENGTH]
    except OSError as exc:
        raise errors.DatasetError(f"cannot read {path}: {exc.strerror}") from exc


def model_digest(folder: Path) -> str:
    """SHA-256 over names and bytes of a model folder's files; ModelError for a folder without config.json."""
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "does not exist"
        raise errors.ModelError(f"model folder {folder} {what}")
    files = sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()})
    try:
        return keys.digest([[path.name, _bytes_digest(path)] for path in files])
    except OSError as exc:
        raise errors.ModelError(f"cannot read model folder {folder}: {exc}") from exc


def _bytes_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
