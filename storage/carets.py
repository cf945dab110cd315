"""A text of one line with a caret under the place that a message is about."""

from __future__ import annotations

import unicodedata

AROUND = 34
"""Characters of a long text that are shown on each side of the place."""


def under(text: str, at: int, length: int = 1) -> str:
    """Two lines, indented: the text (of a long one the part around the place), and carets below `text[at:at + length]`.

    A place beyond the end is the end. What would move the cursor is shown as a blank, so that the carets stand right.
    """
    at = max(0, min(at, len(text)))
    length = max(1, min(length, len(text) - at))
    start = at - AROUND if at > 2 * AROUND else 0
    end = at + length + AROUND if len(text) - at - length > 2 * AROUND else len(text)
    before = _line(text[start:at])
    head, tail = "…" if start else "", "…" if end < len(text) else ""
    blank = " " * (len(head) + _cells(before))
    carets = "^" * max(1, _cells(_line(text[at : at + length])))
    return f"  {head}{before}{_line(text[at:end])}{tail}\n  {blank}{carets}"


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _cells(text: str) -> int:
    """Columns of a terminal; a wide character takes two, one that combines none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
