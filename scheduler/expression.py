"""A filter expression, read: `gain > 2 and (threads == 1 or strategy ~ 'onnxruntime/*')` → a tree (pure).

::

    either     = both ("or" both)*
    both       = one ("and" one)*
    one        = "not" one | "(" either ")" | comparison
    comparison = FIELD operator value
               | FIELD ["not"] "in" "(" literal ("," literal)* ")"
               | FIELD "is" ["not"] "null"
    operator   = "==" | "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"
    value      = literal | FIELD
    literal    = NUMBER [UNIT] | 'text' | "text" | "true" | "false"

Words may be written in capitals. A quote within a text is written twice. Nothing is evaluated here, and nothing of
Python is reachable: `scheduler.predicate` gives a tree its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NoReturn

from storage import carets, errors

MAX_LENGTH, MAX_DEPTH = 10_000, 50
"""Characters, and brackets or `not` within one another: what a person writes is far below."""

OPERATORS = ("==", "=", "!=", "<=", ">=", "<", ">", "!~", "~")

_WORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})
_HINTS = {"&": "; say `and`", "|": "; say `or`", "!": "; say `not`, or `!=`"}
_TOKEN = re.compile(
    r"""(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\d.]))(?P<unit>[^\W\d_]+|%)?
    |(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    |(?P<word>[^\W\d]\w*)
    |(?P<sign>==|!=|<=|>=|!~|[=<>~(),])""",
    re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where something stands in the expression."""

    at: int  # of its first character, from 0
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A field that is asked for by name."""

    name: str
    place: Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """A literal; a number keeps its unit as it was written."""

    value: float | str | bool
    place: Place
    unit: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A field against a value, another field, or several values; `null` against nothing."""

    field: Field
    operator: str  # ==, !=, <, <=, >, >=, ~, !~, in, null
    place: Place  # of the operator
    right: Field | Value | tuple[Value, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Not:
    """The opposite."""

    of: Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Several:
    """All of them, or any."""

    word: Literal["and", "or"]
    parts: tuple[Node, ...]


Node = Comparison | Not | Several


@dataclass(frozen=True, kw_only=True, slots=True)
class _Token:
    kind: Literal["number", "text", "word", "sign", "end"]
    text: str
    place: Place
    unit: str = ""

    def shown(self) -> str:
        return "the end" if self.kind == "end" else f"{self.text}{self.unit}"


def parse(text: str) -> Node:
    """The tree of an expression; QueryError with a caret under what cannot be read."""
    if len(text) > MAX_LENGTH:
        raise errors.QueryError(f"--where: an expression has at most {MAX_LENGTH} characters, this one {len(text)}")
    if not text.strip():
        raise errors.QueryError("--where: there is nothing to read; for example --where 'gain > 2 and threads == 1'")
    return _Reader(text).whole()


def fault(text: str, place: Place, said: str) -> errors.QueryError:
    """An error that shows where it is."""
    return errors.QueryError(f"--where: {said}\n{carets.under(text, place.at, place.length)}")


class _Reader:
    """One token after the other; each method takes what its name says."""

    def __init__(self, text: str) -> None:
        self._source = text
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._either()
        if self._token.kind != "end":
            if self._token.text in OPERATORS:
                self._fail("one comparison ends before this; join two with `and`")
            self._fail(f"`and`, `or` or the end is expected, not {self._token.shown()!r}")
        return node

    def _either(self) -> Node:
        return self._joined("or", self._both)

    def _both(self) -> Node:
        return self._joined("and", self._one)

    def _joined(self, word: Literal["and", "or"], part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self._takes(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Several(word=word, parts=tuple(parts))

    def _one(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"more than {MAX_DEPTH} brackets or `not` within one another")
        node = Not(of=self._one()) if self._takes("not") else self._bracket() or self._comparison()
        self._depth -= 1
        return node

    def _bracket(self) -> Node | None:
        opened = self._token
        if not self._takes("("):
            return None
        node = self._either()
        if not self._takes(")"):
            if self._token.kind == "end":
                raise fault(self._source, opened.place, "this bracket is not closed")
            self._fail(f"`and`, `or` or `)` is expected, not {self._token.shown()!r}")
        return node

    def _comparison(self) -> Node:
        field = self._field()
        sign = self._token
        if self._takes("is"):
            negated = self._takes("not")
            self._expect("null", "`null` is expected after `is`")
            return _negated(Comparison(field=field, operator="null", place=sign.place, right=()), negated)
        negated = self._takes("not")
        sign = self._token
        if self._takes("in"):
            return _negated(Comparison(field=field, operator="in", place=sign.place, right=self._list()), negated)
        if negated or sign.text not in OPERATORS or sign.kind != "sign":
            what = "`in`" if negated else f"{', '.join(OPERATORS)}, `in` or `is`"
            self._fail(f"{what} is expected after {'`not`' if negated else field.name}, not {sign.shown()!r}")
        self._next += 1
        operator = "==" if sign.text == "=" else sign.text
        return Comparison(field=field, operator=operator, place=sign.place, right=self._value())

    def _field(self) -> Field:
        token = self._token
        if token.kind != "word" or token.text.lower() in _WORDS:
            self._fail(f"the name of a field is expected, not {token.shown()!r}")
        self._next += 1
        return Field(name=token.text, place=token.place)

    def _list(self) -> tuple[Value, ...]:
        self._expect("(", "`(` is expected after `in`")
        values = [self._literal()]
        while self._takes(","):
            values.append(self._literal())
        self._expect(")", "`,` or `)` is expected in a list")
        return tuple(values)

    def _value(self) -> Field | Value:
        token = self._token
        if token.kind == "word" and token.text.lower() not in _WORDS:
            return self._field()
        if token.text.lower() == "null" and token.kind == "word":
            self._fail("nothing equals null; say `is null` or `is not null`")
        return self._literal()

    def _literal(self) -> Value:
        token = self._token
        self._next += 1
        if token.kind == "number":
            return Value(value=float(token.text), unit=token.unit, place=token.place)
        if token.kind == "text":
            quote = token.text[0]
            return Value(value=token.text[1:-1].replace(2 * quote, quote), place=token.place)
        if token.kind == "word" and token.text.lower() in ("true", "false"):
            return Value(value=token.text.lower() == "true", place=token.place)
        self._next -= 1
        raise fault(self._source, token.place, f"a number or a text in quotes is expected, not {token.shown()!r}")

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _takes(self, wanted: str) -> bool:
        token = self._token
        fits = token.kind in ("word", "sign") and token.text.lower() == wanted
        self._next += fits
        return fits

    def _expect(self, wanted: str, said: str) -> None:
        if not self._takes(wanted):
            self._fail(f"{said}, not {self._token.shown()!r}")

    def _fail(self, said: str) -> NoReturn:
        raise fault(self._source, self._token.place, said)


def _negated(node: Node, negated: bool) -> Node:
    return Not(of=node) if negated else node


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise fault(text, Place(at=at, length=1), _unreadable(text, at))
        found.append(_token(match))
        at = match.end()
    return [*found, _Token(kind="end", text="", place=Place(at=len(text), length=1))]


def _token(match: re.Match[str]) -> _Token:
    place = Place(at=match.start(), length=match.end() - match.start())
    if match["number"] is not None:
        return _Token(kind="number", text=match["number"], unit=match["unit"] or "", place=place)
    if match["text"] is not None:
        return _Token(kind="text", text=match["text"], place=place)
    if match["word"] is not None:
        return _Token(kind="word", text=match["word"], place=place)
    return _Token(kind="sign", text=match["sign"], place=place)


def _unreadable(text: str, at: int) -> str:
    if text[at] in "'\"":
        return "this text has no closing quote"
    return f"{text[at]!r} means nothing here{_HINTS.get(text[at], '')}"
