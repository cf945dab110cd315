"""The kinds of values in a study file: what each accepts, how its error reads, and its JSON Schema."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from storage import errors, operations, records, strategies
from storage.catalogue import registry

THREAD_WORDS = ("physical", "logical", "all")
"""Thread counts that each machine resolves for itself."""

AUTO = "auto"
"""As many instances as fill a machine's cores."""

TARGET_WORDS = ("every-platform", "every-host", "any")
"""What a study may be planned for, in a word."""

LABEL = "label."
"""What comes before a label's name where hosts are selected by it."""

SOFTWARE = ("python", "kernel", *registry.PACKAGES)
"""What hosts can be selected by the version of."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_KEY = re.compile(r"[0-9a-f]{4,16}")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?(ms|s)")
_PADDING = re.compile(r"longest|sorted|(max|buckets):([1-9][0-9]{0,5})")

Name = Annotated[str, Field(pattern=_NAME)]


def shown(value: Any) -> str:
    """A value as a message shows it, shortened."""
    words = {True: "true", False: "false", None: "nothing"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _strategy(value: Any) -> str:
    if not isinstance(value, str):
        hint = "; remove the space after the colon" if isinstance(value, dict) else ""
        raise ValueError(f"expected text such as 'torch/int8-dynamic:engine=onednn', not {shown(value)}{hint}")
    if "/" not in value and value.partition("=")[0].strip() in _options():
        raise ValueError(f"{value!r} is an option; put a strategy with a comma in it in quotes")
    try:
        return str(strategies.parse(value))
    except errors.StrategyError as exc:
        raise ValueError(str(exc)) from None


def _options() -> set[str]:
    return {option.name for option in strategies.all_options()}


def _threads(value: Any) -> int | str:
    if isinstance(value, str) and value in THREAD_WORDS:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    near = errors.nearest(value, THREAD_WORDS) if isinstance(value, str) else ""
    raise ValueError(f"expected a number from 1, or {', '.join(THREAD_WORDS)}, not {shown(value)}{near}")


def _instances(value: Any) -> int | str:
    if value == AUTO:
        return AUTO
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    near = errors.nearest(value, [AUTO]) if isinstance(value, str) else ""
    raise ValueError(f"expected a number from 1, or {AUTO}, not {shown(value)}{near}")


def _operations(value: Any) -> tuple[str, ...]:
    names = _several(value)
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise ValueError(f"expected a name such as matmul or linear/int8-dynamic, not {shown(wrong)}")
    try:
        return operations.expand(names)
    except errors.StrategyError as exc:
        raise ValueError(str(exc)) from None


def _layers(value: Any) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(_several(value)))
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"expected the name of a layer, not {shown(name)}")
    return names


def _shape(value: Any) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2:
        return _whole(value[0]), _whole(value[1])
    raise ValueError(f"expected two numbers, [out, in], not {shown(value)}")


def _batches(value: Any) -> tuple[int, ...]:
    return tuple(_whole(item) for item in _several(value))


def _lengths(value: Any) -> tuple[int | Literal["dataset"], ...]:
    return tuple(_length(item) for item in _several(value))


def _several(value: Any) -> list[Any]:
    if value == []:
        raise ValueError("the list is empty")
    return value if isinstance(value, list) else [value]


def _length(value: Any) -> int | Literal["dataset"]:
    if value == records.DATASET_LENGTH:
        return "dataset"
    if isinstance(value, str):
        near = errors.nearest(value, [records.DATASET_LENGTH])
        raise ValueError(f"expected a number of tokens from 1, or dataset, not {shown(value)}{near}")
    return _whole(value)


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000:
        return value
    raise ValueError(f"expected a whole number from 1, not {shown(value)}")


def _padding(value: Any) -> str:
    if isinstance(value, str) and _PADDING.fullmatch(value):
        return value
    near = errors.nearest(value, ["longest", "max:128", "sorted", "buckets:16"]) if isinstance(value, str) else ""
    hint = '; write "max:128" without a space' if isinstance(value, dict) else near
    raise ValueError(f"expected longest, max:N, sorted or buckets:N with N tokens from 1, not {shown(value)}{hint}")


def _paddings(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_padding(item) for item in _several(value)))


def _precision(value: Any) -> float:
    number = math.nan
    if isinstance(value, str) and value.strip().endswith("%"):
        number = _number(value.strip()[:-1]) / 100
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    if 0 < number <= 0.5:
        return number
    raise ValueError(f"expected more than 0 and at most 50%, such as 3% or 0.03, not {shown(value)}")


def _duration(value: Any) -> float:
    """Seconds of `20ms`, `0.5s` or a number of seconds."""
    number = math.nan
    if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        number = float(found[1]) / (1000 if found[2] == "ms" else 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    if 0 < number <= 3600:
        return number
    raise ValueError(f"expected a time above 0 such as 20ms or 0.5s, not {shown(value)}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _revision(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"expected a branch, tag or commit, in quotes where it looks like a number, not {shown(value)}")


def _globs(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_glob(item) for item in _several(value)))


def _glob(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    hint = "; a version goes in quotes" if isinstance(value, float) else ""
    raise ValueError(f"expected text, which may be a glob such as '*EPYC*', not {shown(value)}{hint}")


def _keys(value: Any) -> tuple[str, ...]:
    found = _globs(value)
    for key in found:
        if not _KEY.fullmatch(key):
            raise ValueError(f"expected a key or its beginning, 4 to 16 digits of 0-9 and a-f, not {shown(key)}")
    return found


_WHOLE_SCHEMA = {"type": "integer", "minimum": 1}
_LENGTH_SCHEMA = {"anyOf": [_WHOLE_SCHEMA, {"const": records.DATASET_LENGTH}]}


def _one_or_list(schema: Mapping[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [schema, {"type": "array", "minItems": 1, "items": schema}]})


_TEXT_SCHEMA = {"type": ["string", "integer"]}

Globs = Annotated[tuple[str, ...], PlainValidator(_globs), _one_or_list(_TEXT_SCHEMA)]
Keys = Annotated[tuple[str, ...], PlainValidator(_keys), _one_or_list(_TEXT_SCHEMA)]
StrategyText = Annotated[str, PlainValidator(_strategy), WithJsonSchema({"type": "string", "pattern": "/"})]
Threads = Annotated[
    int | str,
    PlainValidator(_threads),
    WithJsonSchema({"anyOf": [_WHOLE_SCHEMA, {"enum": list(THREAD_WORDS)}]}),
]
Instances = Annotated[
    int | str, PlainValidator(_instances), WithJsonSchema({"anyOf": [_WHOLE_SCHEMA, {"const": AUTO}]})
]
Operations = Annotated[
    tuple[str, ...],
    PlainValidator(_operations),
    _one_or_list({"enum": [*operations.MATHEMATICS, *operations.OPERATIONS]}),
]
Layers = Annotated[tuple[str, ...], PlainValidator(_layers), _one_or_list({"type": "string"})]
Shape = Annotated[
    tuple[int, int],
    PlainValidator(_shape),
    WithJsonSchema({"type": "array", "minItems": 2, "maxItems": 2, "items": _WHOLE_SCHEMA}),
]
Batches = Annotated[tuple[int, ...], PlainValidator(_batches), _one_or_list(_WHOLE_SCHEMA)]
Lengths = Annotated[tuple[int | Literal["dataset"], ...], PlainValidator(_lengths), _one_or_list(_LENGTH_SCHEMA)]
Length = Annotated[int | Literal["dataset"], PlainValidator(_length), WithJsonSchema(_LENGTH_SCHEMA)]
_PADDING_SCHEMA = {"type": "string", "pattern": "^(longest|sorted|(max|buckets):[1-9][0-9]*)$"}
Padding = Annotated[str, PlainValidator(_padding), WithJsonSchema(_PADDING_SCHEMA)]
Paddings = Annotated[tuple[str, ...], PlainValidator(_paddings), _one_or_list(_PADDING_SCHEMA)]
Precision = Annotated[
    float,
    PlainValidator(_precision),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, {"type": "string", "pattern": "%$"}]}
    ),
]
Duration = Annotated[
    float,
    PlainValidator(_duration),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": "^[0-9.]+ ?(ms|s)$"}]}
    ),
]
Revision = Annotated[str | None, PlainValidator(_revision), WithJsonSchema({"type": ["string", "integer"]})]
