from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from storage import broker, records

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def test_a_message_names_a_job_and_nothing_else() -> None:
    assert broker.message("j1") == {"job": "j1", "schema": 1}
    assert broker.job_of(broker.message("j1")) == "j1"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"job": "j1"},
        {"job": 1, "schema": 1},
        {"job": ["j1"], "schema": 1},
        {"job": "j1", "schema": "1"},
        {"job": "j1", "schema": None},
        {"job": "j1", "schema": True},
        {"job": "", "schema": 1},
        {"job": "j\0", "schema": 1},  # Postgres stores none
        {"job": "\ud800", "schema": 1},  # nor half a character
        {"job": "x" * 65, "schema": 1},
        [],
        "j1",
        None,
        {"job": "j1", "schema": records.SCHEMA_VERSION + 1},
    ],
)
def test_a_message_that_is_none_of_ours_is_refused(body: Any) -> None:
    with pytest.raises(ValueError, match="not a message of quantfleet, or of a newer one"):
        broker.job_of(body)


@hypothesis.given(JSON | st.fixed_dictionaries({"job": JSON, "schema": JSON}))
def test_any_json_is_a_message_or_refused(body: Any) -> None:
    try:
        assert isinstance(broker.job_of(body), str)
    except ValueError:
        return


def test_a_refused_message_is_told_shortened() -> None:
    with pytest.raises(ValueError, match="not a message") as caught:
        broker.job_of({"job": "x" * 1_000_000, "schema": "y"})
    assert len(str(caught.value)) < 500
