from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worker.engine import inputs


def tokens(*, left: bool = False, typed: bool = True) -> inputs.Tokenized:
    ids = [np.array([5, 6, 7]), np.array([8])]
    return inputs.Tokenized(ids=ids, types=[np.ones_like(row) for row in ids] if typed else None, pad_id=9, left=left)


def test_rows_of_a_call_are_padded_to_the_longest_and_masked() -> None:
    call = tokens().call([1, 0])
    assert call["input_ids"].tolist() == [[8, 9, 9], [5, 6, 7]]
    assert call["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert call["token_type_ids"].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_padding_goes_to_the_side_the_tokenizer_wants_and_to_the_length_asked_for() -> None:
    call = tokens(left=True).call([1], 3)
    assert call["input_ids"].tolist() == [[9, 9, 8]]
    assert call["attention_mask"].tolist() == [[0, 0, 1]]


def test_calls_come_back_in_order_with_a_digest_of_their_content(tmp_path: Path) -> None:
    calls = [tokens().call([row % 2]) for row in range(12)]
    digest = inputs.save_calls(tmp_path / "a.npz", calls)
    loaded = inputs.load_calls(tmp_path / "a.npz")
    assert [call["input_ids"].tolist() for call in loaded] == [call["input_ids"].tolist() for call in calls]
    assert inputs.save_calls(tmp_path / "b.npz", loaded) == digest
    assert inputs.save_calls(tmp_path / "c.npz", calls[::-1]) != digest


@pytest.mark.parametrize("typed", [True, False])
def test_rows_come_back_as_they_were(tmp_path: Path, typed: bool) -> None:
    rows = inputs.Rows(tokens=tokens(left=True, typed=typed), labels=np.array([1, 0], dtype=np.int32))
    inputs.save_rows(tmp_path / "rows.npz", rows)
    loaded = inputs.load_rows(tmp_path / "rows.npz")
    assert [ids.tolist() for ids in loaded.tokens.ids] == [[5, 6, 7], [8]]
    assert (loaded.tokens.types is not None) == typed
    assert (loaded.tokens.pad_id, loaded.tokens.left, loaded.labels.tolist()) == (9, True, [1, 0])
