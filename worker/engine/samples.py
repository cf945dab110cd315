"""Rows drawn from a dataset, tokenized: what calibration, importance and training look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storage import errors, keys, records, strategies
from worker.engine import inputs, models, readers, texts

RANDOM_LENGTHS = (4, 32)
"""Tokens of a row of made-up tokens: from, to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Tokenized rows with their labels."""

    tokens: inputs.Tokenized
    labels: Sequence[str] | Sequence[int] | None  # as the dataset has them; None for made-up tokens
    digest: str  # of the token ids, row by row: the same sample has the same one everywhere
    how: Mapping[str, Any]  # how it was drawn, for results

    def __len__(self) -> int:
        return len(self.tokens)

    def calls(self, batch: int = 1, width: int | None = None) -> list[dict[str, inputs.Ids]]:
        """The rows in their order, `batch` to a call, padded to the longest of the call or to `width` tokens."""
        rows = range(len(self))
        return [self.tokens.call(rows[at : at + batch], width) for at in range(0, len(self), batch)]

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(len(ids) for ids in self.tokens.ids)

    @property
    def facts(self) -> dict[str, Any]:
        """What a result keeps of it."""
        lengths = [len(ids) for ids in self.tokens.ids]
        return {
            **self.how,
            "digest": self.digest,
            "rows": len(self),
            "tokens": {"least": min(lengths), "mean": round(float(np.mean(lengths)), 2), "most": max(lengths)},
        }


def of_strategy(
    model: records.ModelRef, dataset: records.DatasetRef | None, chosen: strategies.Chosen, *, most: int | None = None
) -> Sample:
    """The sample that a part's options `data`, `draw`, `rows` and `seed` ask for; see `draw`."""
    names = {option.name for option in chosen.part.options}
    how = chosen.option("draw") if "draw" in names else "representative"
    return draw(
        model, dataset, rows=chosen.whole("rows"), how=how, seed=chosen.whole("seed"), name=chosen.data, most=most
    )


def draw(
    model: records.ModelRef,
    dataset: records.DatasetRef | None,
    *,
    rows: int | None,
    how: str = "representative",
    seed: int = 0,
    name: str | None = None,
    most: int | None = None,
) -> Sample:
    """Rows of a dataset, tokenized for a model and cut to `most` tokens.

    `how`: representative (at random without repeats, in random order), one-class (the same, of the most frequent
    class), short (the shortest rows), random-tokens (made up, no dataset). `rows` None takes all that there are; a
    dataset with fewer rows than asked for gives what it has, and the sample says so.

    Raises DatasetError for a dataset that cannot be read or is empty, Unsupported for a model without a tokenizer.
    """
    asked: dict[str, Any] = {"draw": how, "seed": seed, "rows_asked": rows}
    if how == "random-tokens":
        return _random(model, rows or 1, seed, asked)
    if dataset is None:
        raise errors.DatasetError("a sample needs a dataset, and none is named")
    found = readers.read(dataset)
    chosen = _chosen(found, how, rows, seed)
    tokens = texts.tokenize(model, [found.texts[row] for row in chosen], most)
    labels: Any = [found.labels[row] for row in chosen]
    return Sample(tokens=tokens, labels=labels, digest=_digest(tokens), how={"data": name, **asked})


def classes(model: records.ModelRef, dataset: records.DatasetRef, sample: Sample) -> npt.NDArray[np.int64]:
    """The model's class index of each row [rows]; DatasetError when the labels are not the model's classes."""
    if sample.labels is None:
        raise errors.DatasetError("made-up tokens have no labels")
    return np.array(texts.match_labels(model, dataset, sample.labels), dtype=np.int64)


def _chosen(found: readers.Labelled, how: str, rows: int | None, seed: int) -> list[int]:
    at = list(range(len(found.texts)))
    if how == "one-class":
        counted = Counter(map(str, found.labels))
        most = min(counted, key=lambda label: (-counted[label], label))
        at = [row for row in at if str(found.labels[row]) == most]
    if how == "short":
        return sorted(at, key=lambda row: (len(found.texts[row]), row))[:rows]
    mixed = np.random.default_rng(seed).permutation(at)
    return [int(row) for row in mixed[:rows]]


def _random(model: records.ModelRef, rows: int, seed: int, asked: Mapping[str, Any]) -> Sample:
    config = models.config(model)
    allowed = texts.ordinary_tokens(model, config)
    draw = np.random.default_rng(seed)
    low, high = RANDOM_LENGTHS
    high = min(high, models.longest_input(config) or high)
    ids = [draw.choice(allowed, size=draw.integers(min(low, high), high + 1)).astype(np.int64) for _ in range(rows)]
    typed = "token_type_ids" in models.input_names(config)
    tokens = inputs.Tokenized(
        ids=ids, types=[np.zeros_like(row) for row in ids] if typed else None, pad_id=config.pad_token_id or 0
    )
    return Sample(tokens=tokens, labels=None, digest=_digest(tokens), how=asked)


def _digest(tokens: inputs.Tokenized) -> str:
    return keys.digest([ids.tolist() for ids in tokens.ids])
