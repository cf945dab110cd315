"""Random strategies from the catalogue, and the many ways to write one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from storage.catalogue import registry
from storage.catalogue.descriptions import Description, Transform
from storage.options import Option

Draw = Callable[[st.SearchStrategy[Any]], Any]

STEPS = 3
"""Most transforms of a random composition."""

_STEPS = st.lists(st.sampled_from(list(registry.transforms_by_name())), max_size=STEPS)
_PAIRS = st.sampled_from(list(registry.descriptions()))
_BLANKS = st.sampled_from(["", "", " ", "  "])
_COIN = st.booleans()
_WORDS = st.builds("{}{}".format, st.sampled_from("aZ0_"), st.text("aZ0_.-", max_size=4))


@dataclass(frozen=True)
class Case:
    """A composition, and two ways to write it."""

    wanted: Sequence[tuple[str, dict[str, str]]]  # each part with the normal value of every option with a meaning
    text: str
    again: str


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A few transforms and a pair; options in any order, defaults or not, shares or percent, bare flags, blanks."""
    steps, pair = draw(_STEPS), draw(_PAIRS)
    parts: list[Description | Transform] = [*map(registry.transform, steps), registry.describe(pair)]
    values = [_values(draw, part.options) for part in parts]
    text, again = (
        "+".join(_text(draw, part, given) for part, given in zip(parts, values, strict=True)) for _ in range(2)
    )
    return Case(wanted=[(part.name, given) for part, given in zip(parts, values, strict=True)], text=text, again=again)


def near_texts() -> st.SearchStrategy[str]:
    """Words of the grammar in any order."""
    options = {option.name for part in registry.parts() for option in part.options}
    words = (
        [part.name for part in registry.parts()]
        + sorted(options)
        + list("+:,=%/.-0123456789")
        + ["true", "1e9", "2:4", " "]
    )
    return st.lists(st.sampled_from(words), max_size=12).map("".join)


def _values(draw: Draw, options: Sequence[Option]) -> dict[str, str]:
    given = {option.name: draw(_value(option)) if draw(_COIN) else option.default for option in options}
    return {
        option.name: given[option.name]
        for option in options
        if all(given[other] in fits for other, fits in option.only_with.items())
    }


def _value(option: Option) -> st.SearchStrategy[str]:
    """Any value in its normal spelling."""
    if option.type == "choice":
        return st.sampled_from(option.choices)
    if option.type == "flag":
        return st.sampled_from(["true", "false"])
    if option.type == "name":
        return _WORDS
    return (
        _whole(option.low, option.high, option.choices) if option.type == "int" else _share(option.inside, option.high)
    )


@functools.cache
def _whole(low: float | None, high: float | None, words: tuple[str, ...]) -> st.SearchStrategy[str]:
    numbers = st.integers(int(low or 0), int(high or 10**6)).map(str)
    return numbers | st.sampled_from(words) if words else numbers


@functools.cache
def _share(inside: bool, high: float | None) -> st.SearchStrategy[str]:
    """Up to nine digits from the bound 0 to the other one."""
    steps = st.integers(1 if inside else 0, 10**9 - 1 if inside else 10**9) | st.sampled_from([1, 3 * 10**8, 10**9 - 1])
    return steps.map(lambda step: f"{step / 1e9 * (high or 1):.12g}")


def _text(draw: Draw, part: Description | Transform, values: dict[str, str]) -> str:
    shown = [option for option in part.options if option.name in values]
    written = [
        _option(draw, option, values[option.name])
        for option in draw(st.permutations(shown))
        if values[option.name] != option.default or draw(_COIN)
    ]
    tail = ",".join(draw(_BLANKS) + text + draw(_BLANKS) for text in written)
    colon = ":" if written or draw(_COIN) else ""
    return f"{draw(_BLANKS)}{part.name}{draw(_BLANKS)}{colon}{tail}"


def _option(draw: Draw, option: Option, value: str) -> str:
    if option.type == "float":
        value = draw(st.sampled_from([value, f"{float(value) * 100:.15g}%", f"{float(value):.15f}0"]))
    if option.type == "int" and value.isdigit():
        value = draw(st.sampled_from(["", "0", "00"])) + value
    if option.type == "flag":
        value = draw(st.sampled_from([value, value.upper(), value.title()]))
        if value.lower() == "true" and draw(_COIN):
            return option.name
    if option.positional and draw(_COIN):
        return value
    return f"{option.name}{draw(_BLANKS)}={draw(_BLANKS)}{value}"
