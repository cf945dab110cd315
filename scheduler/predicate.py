"""A filter expression as a test over rows: which fields there are, what may be compared, what a missing number means.

Three answers, as in SQL: a comparison with a field that has no value is neither true nor false, and neither is its
opposite. A row is kept where the whole expression is true; `is null` finds what has no value.
"""

from __future__ import annotations

import datetime
import fnmatch
import operator
from collections.abc import Callable, Mapping
from typing import Any

from scheduler import expression, quantities
from scheduler.expression import Comparison, Field, Node, Not, Place, Several, Value
from storage import errors
from storage.columns import Kind

Answer = bool | None
Predicate = Callable[[Any], bool]
"""Whether a row (its fields are attributes) is kept."""

_Test = Callable[[Any], Answer]
_Pair = Callable[[Any, Any], bool]

ORDER: dict[str, _Pair] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
EQUAL: dict[str, _Pair] = {"==": operator.eq, "!=": operator.ne}
NUMBERS = frozenset({"integer", "real"})


def compiled(text: str, kinds: Mapping[str, Kind]) -> Predicate:
    """The test that an expression asks for, over rows with these fields.

    Raises QueryError with a caret under what cannot be read, names no field, or cannot be compared.
    """
    test = _Compiler(text, kinds).test(expression.parse(text))
    return lambda row: test(row) is True


class _Compiler:
    """Trees to tests; errors point into the expression's text."""

    def __init__(self, text: str, kinds: Mapping[str, Kind]) -> None:
        self._text = text
        self._kinds = kinds

    def test(self, node: Node) -> _Test:
        if isinstance(node, Not):
            inner = self.test(node.of)
            return lambda row: None if (found := inner(row)) is None else not found
        if isinstance(node, Several):
            parts = [self.test(part) for part in node.parts]
            return _all(parts) if node.word == "and" else _any(parts)
        return self._comparison(node)

    def _comparison(self, node: Comparison) -> _Test:
        kind = self._kind(node.field)
        get = operator.attrgetter(node.field.name)
        if node.operator == "null":
            return lambda row: get(row) in (None, ())
        if isinstance(node.right, tuple):
            values = [self._literal(node.field, kind, value) for value in node.right]
            return _compare(get, lambda own, _: own in values, lambda row: values, several=kind == "texts")
        self._check_operator(node, kind)
        right = self._right(node, kind, node.right)
        if kind == "texts" and node.operator.startswith("!"):
            positive = _compare(get, _PAIRS[node.operator[1:] or "="], right, several=True)
            return lambda row: None if (found := positive(row)) is None else not found
        return _compare(get, _PAIRS[node.operator], right, several=kind == "texts")

    def _right(self, node: Comparison, kind: Kind, right: Field | Value) -> Callable[[Any], Any]:
        if isinstance(right, Value):
            literal = self._literal(node.field, kind, right, pattern="~" in node.operator)
            return lambda row: literal
        if right.name not in self._kinds:
            raise self._fault(right.place, self._no_field(right.name, value=True))
        other = self._kinds[right.name]
        if other != kind and not {other, kind} <= NUMBERS:
            raise self._fault(right.place, f"{node.field.name} is {_A[kind]}, {right.name} is {_A[other]}")
        return operator.attrgetter(right.name)

    def _check_operator(self, node: Comparison, kind: Kind) -> None:
        if "~" in node.operator and kind not in ("text", "texts"):
            said = f"{node.field.name} is {_A[kind]}; a pattern (~) is for texts"
            raise self._fault(node.place, said)
        if node.operator in ORDER and kind not in NUMBERS:
            said = f"{node.field.name} is {_A[kind]}, which ==, !=, ~, !~ and `in` compare"
            raise self._fault(node.place, said)

    def _kind(self, field: Field) -> Kind:
        if field.name not in self._kinds:
            raise self._fault(field.place, self._no_field(field.name))
        return self._kinds[field.name]

    def _literal(self, field: Field, kind: Kind, given: Value, *, pattern: bool = False) -> Any:
        value = given.value
        if kind in NUMBERS and field.name.endswith("_at") and isinstance(value, str):
            return self._moment(given, value)
        fits = {"text": str, "texts": str, "flag": bool}.get(kind, float)
        if not isinstance(value, fits):
            said = f"{field.name} is {_A[kind]}, not {_A[_kind_of(value)]}{_HELP.get(kind, '')}"
            raise self._fault(given.place, said)
        if isinstance(value, float) and given.unit:
            return value * self._factor(field, given)
        return value.lower() if pattern and isinstance(value, str) else value

    def _factor(self, field: Field, given: Value) -> float:
        seconds = field.name.endswith("_s") and not field.name.endswith("_per_s")
        known = quantities.TIMES if seconds else quantities.PERCENT
        known = quantities.SIZES if field.name.endswith("_bytes") else known
        factor = quantities.factor(given.unit, known)
        if factor is None:
            said = f"{field.name} is given without a unit, or in {', '.join(known)}; not in {given.unit!r}"
            raise self._fault(given.place, said)
        return factor

    def _moment(self, given: Value, text: str) -> float:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            said = "a time is epoch seconds, or a text such as '2026-11-28' or '2026-11-28 14:30' (UTC)"
            raise self._fault(given.place, said) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()

    def _no_field(self, name: str, *, value: bool = False) -> str:
        quoted = f"; a text stands in quotes: '{name}'" if value else ""
        near = errors.nearest(name, self._kinds)
        known = "" if near else f" (there is {', '.join(list(self._kinds)[:8])}, …)"
        return f"there is no field {name!r}{near}{quoted or known}"

    def _fault(self, place: Place, said: str) -> errors.QueryError:
        return expression.fault(self._text, place, said)


_A: dict[Kind, str] = {
    "text": "a text",
    "texts": "a list of texts",
    "integer": "a number",
    "real": "a number",
    "flag": "true or false",
}
_HELP: dict[Kind, str] = {"text": "; texts stand in quotes", "texts": "; texts stand in quotes"}


def _kind_of(value: object) -> Kind:
    return "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "real"


def _like(own: str, pattern: str) -> bool:
    """A shell's glob, without case."""
    return fnmatch.fnmatchcase(own.lower(), pattern.lower())


def _unlike(own: str, pattern: str) -> bool:
    return not _like(own, pattern)


_PAIRS: dict[str, _Pair] = {**ORDER, **EQUAL, "=": operator.eq, "~": _like, "!~": _unlike}


def _compare(get: Callable[[Any], Any], pair: _Pair, right: Callable[[Any], Any], *, several: bool) -> _Test:
    """A comparison of one field; of a list of texts, whether it holds for any of them."""

    def test(row: Any) -> Answer:
        own, other = get(row), right(row)
        if own is None or other is None:
            return None
        if several:
            return any(pair(one, other) for one in own)
        if isinstance(own, str) is not isinstance(other, str) and not isinstance(other, list):
            return None  # a length may be the word "dataset", which no number compares with
        return pair(own, other)

    return test


def _all(parts: list[_Test]) -> _Test:
    def test(row: Any) -> Answer:
        answers = [part(row) for part in parts]
        return False if False in answers else None if None in answers else True

    return test


def _any(parts: list[_Test]) -> _Test:
    def test(row: Any) -> Answer:
        answers = [part(row) for part in parts]
        return True if True in answers else None if None in answers else False

    return test
