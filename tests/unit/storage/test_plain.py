from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import plain

INT64 = st.integers(-(2**63), 2**63 - 1)
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # with NUL and lone surrogates
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=10,
)


@given(st.lists(INT64))
def test_packed_numbers_come_back(numbers: list[int]) -> None:
    assert plain.unpack(plain.pack(numbers, "<i8"), "<i8") == tuple(numbers)


def test_numbers_beyond_the_type_are_refused_rather_than_wrapped() -> None:
    with pytest.raises(OverflowError):
        plain.pack([2**31], "<i4")


@given(DOCUMENTS)
def test_any_document_becomes_json_that_postgres_takes(document: object) -> None:
    text = plain.dumps(document)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert "\\u0000" not in text.replace("\\\\", "")
    json.dumps(json.loads(text), ensure_ascii=False).encode()  # fails on a lone surrogate


@given(ANY_TEXT)
def test_any_text_can_be_stored(text: str) -> None:
    stored = plain.text(text)
    assert stored is not None
    assert "\x00" not in stored.encode().decode()


def test_ordinary_text_stays_as_it_is() -> None:
    assert plain.text("×2.4 – 🙂") == "×2.4 – 🙂"
    assert json.loads(plain.dumps({"a": ["🙂", 1.5, None]})) == {"a": ["🙂", 1.5, None]}
