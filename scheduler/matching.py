"""The same case, measured earlier and later: which rows may be compared, and why others may not (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from scheduler import compare
from scheduler.compare import Comparison

Reason = Literal["only", "content", "broken", "no number", "same job"]
"""`broken`: a case that had a number and now fails."""

BROKEN = frozenset({"failed", "dead"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Apart:
    """A case that is not compared."""

    row: Comparison  # the later side's, where that has one
    reason: Reason
    text: str  # sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class Matched:
    """Rows of one hardware, then and now."""

    pairs: tuple[tuple[Comparison, Comparison], ...]  # earlier, later
    apart: tuple[Apart, ...]


def match(earlier: Iterable[Comparison], later: Iterable[Comparison]) -> Matched:
    """Pairs of rows with a number on the same content, in the later side's order; everything else is told apart.

    Content is the digests of model, made model and input: names may differ between studies, contents may not.
    """
    before, after = list(earlier), list(later)
    numbered = {_content(row): row for row in before if row.state == "done"}
    pairs = [(numbered[_content(row)], row) for row in after if row.state == "done" and _content(row) in numbered]
    met = {id(row) for pair in pairs for row in pair}
    left, right = ([row for row in rows if id(row) not in met] for rows in (before, after))
    return Matched(pairs=tuple(pairs), apart=tuple(_apart(left, right, [row for pair in pairs for row in pair])))


def _content(row: Comparison) -> tuple[object, ...]:
    return (*_case(row)[:-1], row.model_digest or row.model, row.made_digest, row.input_digest)


def _case(row: Comparison) -> tuple[object, ...]:
    return (row.hardware_key, row.kind, row.strategy, row.baseline, row.threads, row.input, row.model)


def _apart(earlier: Sequence[Comparison], later: Sequence[Comparison], met: Sequence[Comparison]) -> Iterable[Apart]:
    """One for each case that is left, the later side's first."""
    known = {_case(row) for row in met}
    before, after = ({_case(row): row for row in reversed(rows)} for rows in (earlier, later))
    for case in dict.fromkeys([*map(_case, later), *map(_case, earlier)]):
        one, other = before.get(case), after.get(case)
        yield _why(one, other) if one and other else _alone(one, other, more=case in known)


def _alone(before: Comparison | None, after: Comparison | None, *, more: bool) -> Apart:
    """A case that one side has; `more`: besides another content of it, which both have."""
    row = after or before
    assert row is not None  # noqa: S101 - the case is one side's
    tail = f", on another content ({row.model_digest}, {row.input_digest})" if more else ""
    tail += "" if row.state == "done" else f", without a number: {row.state}, {row.reason}"
    return Apart(row=row, reason="only", text=f"measured {'then' if after is None else 'now'} only{tail}")


def _why(before: Comparison, after: Comparison) -> Apart:
    if before.state == "done" and after.state == "done":
        return Apart(row=after, reason="content", text=f"not compared: {_differs(before, after)}")
    if before.state == "done":
        broken = after.state in BROKEN
        text = f"a number then, none now: {after.state}, {after.reason}"
        return Apart(row=after, reason="broken" if broken else "no number", text=text)
    when = "then" if after.state == "done" else "then and now"
    return Apart(row=after, reason="no number", text=f"no number {when}: {before.state}, {before.reason}")


def _differs(before: Comparison, after: Comparison) -> str:
    parts = (
        ("the model", before.model_digest, after.model_digest),
        ("the model that the transforms made", before.made_digest, after.made_digest),
        ("the input", before.input_digest, after.input_digest),
    )
    found = (f"{what} differs ({one or 'unknown'} then, {other or 'unknown'} now)" for what, one, other in parts
             if one != other)  # fmt: skip
    return ", ".join(found)


def named(row: Comparison) -> str:
    """A case in a sentence: `minilm, torch/int8-dynamic (b1×l16, 1 thread)`."""
    return f"{row.model}, {row.strategy} ({compare.shape(row)})"
