"""The settings of a strategy's parts: what each accepts, and the one spelling of each value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from storage import errors

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """A setting, written `name=value`; a flag may be written as its bare name, a positional one as its bare value."""

    name: str
    type: Literal["choice", "flag", "int", "float", "name"]
    default: str  # in its one spelling; flags: "false"
    choices: tuple[str, ...] = ()  # choice: all there are; int: words that stand beside numbers
    low: float | None = None  # int, float: the least value
    high: float | None = None  # int, float: the greatest value
    inside: bool = False  # float: the bounds themselves are out
    positional: bool = False  # may be written without its name; at most one of a part
    only_with: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # other option → values it goes with
    help: str
    needs_isa: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # value → instruction sets, one suffices
    needs_arch: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # value → architectures, one suffices

    @property
    def accepts(self) -> str:
        """What may be given, for people."""
        if self.type == "flag":
            return "true or false"
        if self.type == "choice":
            return "one of " + ", ".join(self.choices)
        if self.type == "name":
            return "a name of letters, digits, '.', '-' and '_'"
        what = "a whole number" if self.type == "int" else "a number"
        words = "".join(f", or {word}" for word in self.choices)
        return what + self._bounds() + words

    def normal(self, owner: str, value: str | None) -> str:
        """The one spelling of a value as it was written (None: the bare name); StrategyError for one that is none."""
        found = self._normal(value)
        if found is None and value is None:
            raise errors.StrategyError(f"{owner}: {self.name} needs a value: {self.name}=…, {self.accepts}")
        if found is None:
            near = errors.nearest(value or "", self.choices)
            raise errors.StrategyError(f"{owner}: {self.name} is {self.accepts}, not {value!r}{near}")
        return found

    def _normal(self, value: str | None) -> str | None:
        if self.type == "flag":
            word = "true" if value is None else value.lower()
            return word if word in ("true", "false") else None
        if value is None:
            return None
        if value in self.choices:
            return value
        if self.type == "name":
            return value if _NAME.fullmatch(value) else None
        return None if self.type == "choice" else self._number(value)

    def _number(self, text: str) -> str | None:
        share = text.endswith("%") and self.type == "float"
        try:
            number = float(text.removesuffix("%")) / (100 if share else 1)
        except ValueError:
            return None
        if self.type == "int" and not (number.is_integer() and re.fullmatch(r"\d+", text)):
            return None
        written = f"{number:.12g}" if self.type == "float" else text
        if not self._within(float(written)):  # as it is written: what rounds to a bound would not be read again
            return None
        return str(int(number)) if self.type == "int" else _plain(written)

    def _within(self, number: float) -> bool:
        low, high = self.low, self.high
        if not math.isfinite(number):
            return False
        if self.inside:
            return (low is None or number > low) and (high is None or number < high)
        return (low is None or number >= low) and (high is None or number <= high)

    def _bounds(self) -> str:
        low, high = (None if bound is None else f"{bound:.12g}" for bound in (self.low, self.high))
        if self.inside and low is not None and high is not None:
            return f" between {low} and {high}, both excluded"
        if low is not None and high is not None:
            return f" from {low} to {high}"
        return "" if low is None else f" {'above' if self.inside else 'from'} {low}"


def _plain(written: str) -> str:
    """A number without what another spelling could leave out: `+` would begin another part of a strategy."""
    return "0" if written == "-0" else written.replace("e+", "e")


def find(owner: str, options: Sequence[Option], name: str) -> Option:
    """The option of a name; StrategyError, with the nearest, when there is none."""
    for option in options:
        if option.name == name:
            return option
    known = [option.name for option in options]
    accepts = f"it accepts {', '.join(known)}" if known else "it accepts none"
    raise errors.StrategyError(f"{owner} has no option {name!r}{errors.nearest(name, known)} ({accepts})")


def read(owner: str, options: Sequence[Option], text: str) -> tuple[tuple[str, str], ...]:
    """`name=value,…` as the options that differ from their defaults, sorted by name; the positional one always.

    Raises StrategyError for an unknown or repeated name, a value that is none, and options that exclude each other.
    """
    given: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, value = _named(options, part)
        option = find(owner, options, name)
        if name in given:
            raise errors.StrategyError(f"{owner}: option {name!r} is given twice in {text!r}")
        given[name] = option.normal(owner, value)
    _check_together(owner, options, given)
    kept = {name: value for name, value in given.items() if value != find(owner, options, name).default}
    return tuple(sorted((_positional(options, given) | kept).items()))


def written(options: Sequence[Option], values: Sequence[tuple[str, str]]) -> str:
    """Options in their one spelling: the positional one first and without its name."""
    first = [value for name, value in values if find("", options, name).positional]
    return ",".join([*first, *(f"{name}={value}" for name, value in values if not find("", options, name).positional)])


def _named(options: Sequence[Option], part: str) -> tuple[str, str | None]:
    name, equals, value = (piece.strip() for piece in part.partition("="))
    if equals:
        return name, value
    positional = [option.name for option in options if option.positional]
    if positional and not any(option.name == name for option in options):
        return positional[0], name
    return name, None


def _positional(options: Sequence[Option], given: Mapping[str, str]) -> dict[str, str]:
    """The positional option with the value in force, unless another option leaves it without a meaning."""
    values = {option.name: given.get(option.name, option.default) for option in options}
    return {
        option.name: values[option.name]
        for option in options
        if option.positional and all(values[other] in fits for other, fits in option.only_with.items())
    }


def _check_together(owner: str, options: Sequence[Option], given: Mapping[str, str]) -> None:
    for name in given:
        for other, values in find(owner, options, name).only_with.items():
            value = given.get(other, find(owner, options, other).default)
            if value not in values:
                raise errors.StrategyError(
                    f"{owner}: {name} goes with {other}={'|'.join(values)} only, not with {other}={value}"
                )
