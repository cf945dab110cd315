"""What the fields of a record hold, as a table's columns: read from their annotations."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal

Kind = Literal["text", "integer", "real", "flag", "texts"]
"""`texts`: several in one cell."""

_KINDS: dict[frozenset[type], Kind] = {
    frozenset({str}): "text",
    frozenset({int}): "integer",
    frozenset({float}): "real",
    frozenset({bool}): "flag",
    frozenset({int, str}): "integer",  # a length: tokens, or the word "dataset"
}


def kinds(record: type[Any]) -> dict[str, Kind]:
    """Field → what it holds, in order; fields that are no column (a document, a record) are left out."""
    hints = typing.get_type_hints(record)
    found = ((field.name, _kind(hints[field.name])) for field in dataclasses.fields(record))
    return {name: kind for name, kind in found if kind is not None}


def _kind(hint: Any) -> Kind | None:
    if typing.get_origin(hint) is tuple:
        return "texts" if typing.get_args(hint)[0] is str else None
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    parts = frozenset(typing.get_args(hint) if union else (hint,)) - {types.NoneType}
    return _KINDS.get(parts)
