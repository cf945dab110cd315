"""What can be seen of model folders and dataset files without torch: enough to refuse what is surely wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storage import errors

SUFFIXES = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json"}
"""Endings of dataset files, and the format that each stands for."""

_CLASSIFIER = "ForSequenceClassification"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_MAX_CONFIG_BYTES = 16 * 1024 * 1024
_MAX_LINE_BYTES = 16 * 1024 * 1024

# Architectures with a table of learned positions: a longer row is an index error, not merely a bad answer.
_FROM_ZERO = frozenset({"albert", "bert", "distilbert", "electra", "ernie", "megatron-bert", "mobilebert"})
_AFTER_PADDING = frozenset({"camembert", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl"})
_DEFAULT_POSITIONS = {"albert": 512, "bert": 512, "distilbert": 512, "electra": 512, "mobilebert": 512, "roberta": 512}


def positions(config: Mapping[str, Any], architecture: str) -> int | None:
    """Most tokens in a row by a configuration (or the architecture's default); None without a certain bound.

    RoBERTa and its kin number positions from `pad_token_id + 1`, so that as many entries of the table are lost.
    """
    size = config.get("max_position_embeddings", _DEFAULT_POSITIONS.get(architecture))
    if not isinstance(size, int) or architecture not in _FROM_ZERO | _AFTER_PADDING:
        return None
    padding = config.get("pad_token_id", 1)
    lost = padding + 1 if architecture in _AFTER_PADDING and isinstance(padding, int) else 0
    return size - lost


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's config.json; ModelError where it is missing, damaged, or not a sequence classifier's."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise errors.ModelError(f"the folder {folder} {what}; expected one with config.json and *.safetensors")
    file = folder / "config.json"
    if not file.is_file():
        raise errors.ModelError(
            f"the folder {folder} has no config.json; expected one with config.json and *.safetensors"
        )
    config = _json(file)
    kinds = config.get("architectures") or []
    if isinstance(kinds, list) and kinds and not any(str(kind).endswith(_CLASSIFIER) for kind in kinds):
        raise errors.ModelError(f"{folder} is a {kinds[0]}, not a text classifier (…{_CLASSIFIER})")
    return config


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MAX_CONFIG_BYTES:
            raise errors.ModelError(f"{file} is larger than any model's configuration")
        config = json.loads(file.read_text("utf-8"))
    except OSError as exc:
        raise errors.ModelError(f"cannot read {file}: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise errors.ModelError(f"{file} is damaged: {exc}") from exc
    if not isinstance(config, dict):
        raise errors.ModelError(f"{file} is damaged: no mapping at its top")
    return config


def check_weights(folder: Path, *, allow_pickle: bool) -> None:
    """ModelError for a folder without weights, with empty ones, or with pickled ones that nobody vouched for."""
    safe = sorted(folder.glob("*.safetensors"))
    if not safe:
        pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
        if not pickled:
            raise errors.ModelError(f"the folder {folder} has no weights; expected *.safetensors")
        if not allow_pickle:
            raise errors.ModelError(
                f"{folder} has only a pickled checkpoint ({pickled[0]}), which can run code when it is loaded; "
                "convert it to safetensors, or write allow_pickle: true if it is your own"
            )
    for file in safe:
        _check_safetensors(file)


def _check_safetensors(file: Path) -> None:
    """A file shorter than its own header says is truncated (format: 8 bytes header size, JSON, tensors)."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            head = int.from_bytes(stream.read(8), "little")
            header: Any = json.loads(stream.read(head)) if 0 < head <= min(size, 100_000_000) else None
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    except OSError as exc:
        raise errors.ModelError(f"cannot read {file}: {exc.strerror}") from exc
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as exc:
        raise errors.ModelError(f"{file} is no safetensors file, or truncated") from exc
    wanted = 8 + head + max(ends, default=0)
    if size < wanted:
        raise errors.ModelError(f"{file} is truncated: {size} bytes, its header tells of {wanted}")


def check_file(file: Path, columns: Sequence[str]) -> None:
    """DatasetError for a file that is missing, empty, of an unknown kind, or (CSV, JSON lines) lacks a column."""
    if not file.is_file():
        what = "is a folder" if file.exists() else "does not exist"
        raise errors.DatasetError(f"the file {file} {what}; expected a parquet, CSV or JSON-lines file")
    kind = SUFFIXES.get(file.suffix.lower())
    if kind is None:
        raise errors.DatasetError(f"{file} ends in none of {', '.join(SUFFIXES)}")
    try:
        present = _columns(file, kind)
    except OSError as exc:
        raise errors.DatasetError(f"cannot read {file}: {exc.strerror}") from exc
    except (ValueError, RecursionError, csv.Error) as exc:
        raise errors.DatasetError(f"{file} is damaged: {exc}") from exc
    for column in columns if present is not None else ():
        if column not in (present or ()):
            near = errors.nearest(column, present or ())
            raise errors.DatasetError(f"{file} has no column {column!r}{near} (it has {', '.join(present or ())})")


def _columns(file: Path, kind: str) -> list[str] | None:
    """The column names; None where reading them takes a library of the worker."""
    with file.open("rb") as stream:
        first = stream.readline(_MAX_LINE_BYTES) if kind != "parquet" else stream.read(4)
    if not first.strip():
        raise errors.DatasetError(f"{file} is empty")
    if kind == "parquet":
        _check_parquet(file, first)
        return None
    line = first.decode("utf-8-sig")
    if kind == "csv":
        return next(csv.reader([line]))
    if file.suffix.lower() == ".json" and line.lstrip().startswith("["):
        raise ValueError("a JSON array; expected JSON lines, one object in each line")
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("its first line is no JSON object")
    return list(row)


def _check_parquet(file: Path, head: bytes) -> None:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 4))
        tail = stream.read()
    if head != b"PAR1" or tail != b"PAR1":
        raise ValueError("no parquet file, or truncated")
