"""Token-id arrays in files: ready calls for timing, and rows of unlike lengths for accuracy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

_SEPARATOR = "/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenized:
    """Rows of token ids at their own lengths, with what is needed to pad them into a call."""

    ids: Sequence[Ids]  # one array [length] a row
    types: Sequence[Ids] | None  # token types, [length] a row; None when the model takes none
    pad_id: int
    left: bool = False  # padding goes before the row

    def __len__(self) -> int:
        return len(self.ids)

    def call(self, rows: Sequence[int], length: int | None = None) -> dict[str, Ids]:
        """Rows as one call [len(rows), length], padded to the longest of them or to `length`."""
        width = length or max(len(self.ids[row]) for row in rows)
        call = {
            "input_ids": self._pad([self.ids[row] for row in rows], width, self.pad_id),
            "attention_mask": self._pad([np.ones_like(self.ids[row]) for row in rows], width, 0),
        }
        if self.types is not None:
            call["token_type_ids"] = self._pad([self.types[row] for row in rows], width, 0)
        return call

    def _pad(self, arrays: Sequence[Ids], width: int, value: int) -> Ids:
        padded = np.full((len(arrays), width), value, dtype=np.int64)
        for line, array in zip(padded, arrays, strict=True):
            line[width - len(array) if self.left else 0 :][: len(array)] = array
        return padded


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Tokenized rows with the right class of each."""

    tokens: Tokenized
    labels: npt.NDArray[np.int32]  # class indices of the model, [rows]


def save_calls(path: Path, calls: Sequence[Mapping[str, Ids]]) -> str:
    """Write calls, and return the digest of their content."""
    arrays = {f"{i}{_SEPARATOR}{name}": array for i, call in enumerate(calls) for name, array in call.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's stub takes every keyword for an option
    return _digest(arrays)


def load_calls(path: Path) -> list[dict[str, Ids]]:
    """The calls of a file, in their order."""
    calls: dict[int, dict[str, Ids]] = {}
    with np.load(path, allow_pickle=False) as stored:
        for key in stored.files:
            number, _, name = key.partition(_SEPARATOR)
            calls.setdefault(int(number), {})[name] = stored[key]
    return [calls[number] for number in sorted(calls)]


def join(calls: Sequence[Mapping[str, Ids]]) -> dict[str, Ids]:
    """Several calls as one, [all rows, the longest length]: what a server's batch is.

    Shorter ones are filled up at their ends with zeros, which the attention mask hides as it does any padding.
    """
    width = max(array.shape[1] for call in calls for array in call.values())
    return {
        name: np.concatenate([np.pad(call[name], ((0, 0), (0, width - call[name].shape[1]))) for call in calls])
        for name in calls[0]
    }


def save_rows(path: Path, rows: Rows) -> None:
    """Write rows flat, with where each begins."""
    tokens = rows.tokens
    arrays = {
        "ids": np.concatenate(list(tokens.ids)),
        "offsets": np.cumsum([0, *map(len, tokens.ids)]),
        "labels": rows.labels,
        "padding": np.array([tokens.pad_id, int(tokens.left)]),
    }
    if tokens.types is not None:
        arrays["types"] = np.concatenate(list(tokens.types))
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load_rows(path: Path) -> Rows:
    """The rows that `save_rows` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        cuts = stored["offsets"][1:-1]
        types = np.split(stored["types"], cuts) if "types" in stored.files else None
        pad_id, left = (int(value) for value in stored["padding"])
        tokens = Tokenized(ids=np.split(stored["ids"], cuts), types=types, pad_id=pad_id, left=bool(left))
        return Rows(tokens=tokens, labels=stored["labels"])


def _digest(arrays: Mapping[str, Ids]) -> str:
    whole = hashlib.sha256()
    for name in sorted(arrays):
        whole.update(f"{name}:{arrays[name].dtype}:{arrays[name].shape};".encode())
        whole.update(np.ascontiguousarray(arrays[name]).tobytes())
    return whole.hexdigest()[:16]
