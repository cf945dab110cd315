"""Pydantic's errors about a study file in a person's words: what is wrong, what was expected, what is near."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pydantic

from scheduler import study_section, study_spec
from scheduler.study_lines import Place
from scheduler.study_values import shown
from storage import errors

Problem = tuple[Place, str]
"""Where something is wrong, and what."""

_NAME = "expected letters, digits, dot, dash and underscore, at most 64 of them"

_SENTENCES = {
    "string_pattern_mismatch": _NAME,
    "string_too_short": "expected text",
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "tuple_type": "expected a list, such as [a, b]",
    "dict_type": "expected a mapping, such as {example}",
    "model_type": "expected a mapping, such as {example}",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected at least {ge:g}",
    "multiple_of": "expected a multiple of {multiple_of:g}",
    "less_than_equal": "expected at most {le:g}",
    "literal_error": "expected {expected}",
}

_EXAMPLES = {
    "models": "minilm: {path: ./models/minilm}",
    "dataset": "{path: ./rows.parquet, text: text, label: intent}",
    "datasets": "train: {path: ./train.parquet, text: text, label: intent}",
    "inputs": "{batch: 1, length: 16}",
    "serving": "{rate: 50}",
    "batching": "{max_batch: 8, max_wait: 5ms}",
    "tensors": "{layer: bert.encoder.layer.0.output.dense}",
    "exclude": "{model: minilm, threads: 2}",
    "config": "{num_labels: 20}",
    "targets": "{isa: [avx512_vnni]}",
}
_MODEL_EXAMPLE = "{path: ./models/minilm}, {hub: organization/name} or {random: distilbert}"


def problems(error: pydantic.ValidationError, *, within: Place = ()) -> Iterator[Problem]:
    """Every error with its place; without those that only follow from others. `within`: where the section lies."""
    for found in error.errors(include_url=False):
        if found["type"] == "too_short" and found["input"]:
            continue  # pydantic counts the good entries; the bad ones have errors of their own
        place = (*within, *found["loc"])
        yield tuple(part for part in place if part != "[key]"), _sentence({**found, "loc": place})


def listed(names: Iterable[str]) -> str:
    """Names with commas, or `none`."""
    return ", ".join(names) or "none"


def _sentence(error: Mapping[str, Any]) -> str:
    kind, place, context = error["type"], error["loc"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        fields = list(_section(place).model_fields)
        return f"there is no such field{errors.nearest(str(place[-1]), fields)} (there are {listed(fields)})"
    if kind == "missing":
        return f"is missing. {_description(place)}"
    if kind == "too_short":
        return f"is empty. {_description(place)}"
    if kind == "too_long":
        return f"has more than {context['max_length']} entries"
    expected = _SENTENCES.get(kind, str(error["msg"]))
    text = expected.format(**context, example=_example(place)) if kind in _SENTENCES else expected
    near = errors.nearest(str(error["input"]), re.findall(r"'([^']+)'", str(context.get("expected", ""))))
    return f"{text}, not {shown(error['input'])}{near}"


def _section(place: Place) -> type[study_section.Section]:
    """The section whose field a place names."""
    if place[:1] == ("models",) and len(place) > 3 and place[2] == "dataset":
        return study_spec.Dataset
    return study_spec.SECTIONS.get(str(place[0]), study_spec.StudyFile) if len(place) > 1 else study_spec.StudyFile


def _description(place: Place) -> str:
    field = _section(place).model_fields.get(str(place[-1]))
    return (field.description or "") if field else ""


def _example(place: Place) -> str:
    if place[0] == "models" and len(place) == 2:
        return _MODEL_EXAMPLE
    return next((_EXAMPLES[part] for part in reversed(place) if isinstance(part, str) and part in _EXAMPLES), "{…}")
