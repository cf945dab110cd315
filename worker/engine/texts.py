"""From a model and a dataset to token ids: calls for latency, labelled rows for accuracy, both kept in the cache."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storage import errors, keys, records
from worker.artifacts import INPUTS, ArtifactStore
from worker.engine import inputs, libraries, models, readers

CALLS, ROWS = "calls.npz", "rows.npz"

_SEED = 20_260_101  # of what is drawn; one number for ever: other ids are another input


def prepare_inputs(
    model: records.ModelRef, dataset: records.DatasetRef | None, spec: records.InputSpec, cache: Path
) -> tuple[Path, str]:
    """See `operations.prepare_inputs`."""
    _check_length(model, spec)
    drawn = spec.length == records.DATASET_LENGTH
    if drawn and dataset is None:
        raise errors.DatasetError("an input of length 'dataset' needs a dataset")
    texts = _Texts(dataset) if drawn and dataset is not None else None
    recipe = {"calls": records.to_document(spec), "texts": texts.identity if texts else None}

    def build(folder: Path) -> Mapping[str, Any]:
        calls = _drawn_calls(model, texts.read(), spec) if texts else [_synthetic_call(model, spec)]
        return {"digest": inputs.save_calls(folder / CALLS, calls)}

    return _stored(model, recipe, build, cache, CALLS)


def prepare_rows(model: records.ModelRef, dataset: records.DatasetRef, cache: Path) -> tuple[Path, str]:
    """See `operations.prepare_rows`."""
    texts = _Texts(dataset)

    def build(folder: Path) -> Mapping[str, Any]:
        rows = texts.read()
        labels = np.array(match_labels(model, dataset, rows.labels), dtype=np.int32)
        tokens = tokenize(model, rows.texts, None)
        inputs.save_rows(folder / ROWS, inputs.Rows(tokens=tokens, labels=labels))
        return {"digest": rows.digest()}

    return _stored(model, {"rows": texts.identity}, build, cache, ROWS)


def tokenize(model: records.ModelRef, texts: Sequence[str], most: int | None) -> inputs.Tokenized:
    """Token ids of each text with special tokens, cut to `most` tokens or what the model can take."""
    config, tokenizer = models.config(model), _tokenizer(model)
    bounds = [bound for bound in (most, models.longest_input(config)) if bound is not None]
    typed = "token_type_ids" in models.input_names(config)
    cut = {"truncation": True, "max_length": min(bounds)} if bounds else {"truncation": False}
    encoded = tokenizer(list(texts), padding=False, return_token_type_ids=typed, return_attention_mask=False, **cut)
    return inputs.Tokenized(
        ids=[np.array(ids, dtype=np.int64) for ids in encoded["input_ids"]],
        types=[np.array(ids, dtype=np.int64) for ids in encoded["token_type_ids"]] if typed else None,
        pad_id=tokenizer.pad_token_id or 0,
        left=tokenizer.padding_side == "left",
    )


def ordinary_tokens(model: records.ModelRef, config: Any) -> inputs.Ids:
    """The ids of a model's vocabulary that stand for text, not for padding, masks and the like."""
    return np.setdiff1d(np.arange(config.vocab_size), _special_ids(model, config))


def match_labels(
    model: records.ModelRef, dataset: records.DatasetRef, labels: Sequence[str] | Sequence[int]
) -> list[int]:
    """The model's class index of each label: by name where the dataset has names, otherwise the index itself."""
    names = {int(index): str(name) for index, name in models.config(model).id2label.items()}
    by_label: dict[str | int, int] = {name: index for index, name in names.items()}
    if all(isinstance(label, int) for label in labels):
        by_label = {index: index for index in names}
    strange = sorted({str(label) for label in labels if label not in by_label})
    if strange:
        known = ", ".join(list(names.values())[:3])
        raise errors.DatasetError(
            f"labels of dataset {dataset.location}, column {dataset.label!r}, are not classes of model "
            f"{model.name!r}: {', '.join(strange[:5])}{' …' if len(strange) > 5 else ''} "
            f"({len(strange)} of them; the model has {len(names)} classes: {known}, …)"
        )
    return [by_label[label] for label in labels]


class _Texts:
    """A dataset that is read when it is needed, known by its identity before that where possible."""

    def __init__(self, dataset: records.DatasetRef) -> None:
        self._dataset = dataset
        self._rows: readers.Labelled | None = None
        self.identity = readers.identity(dataset) or self.read().digest()

    def read(self) -> readers.Labelled:
        if self._rows is None:
            self._rows = readers.read(self._dataset)
        return self._rows


def _stored(model: records.ModelRef, recipe: Mapping[str, Any], build: Any, cache: Path, name: str) -> tuple[Path, str]:
    store = ArtifactStore(cache / INPUTS)
    key = keys.artifact_key(models.identify(model), recipe, libraries.versions(["transformers", "tokenizers"]))
    made = store.make(key, recipe, build)
    return store.folder(key) / name, str(made.facts["digest"])


def _check_length(model: records.ModelRef, spec: records.InputSpec) -> None:
    padded, most = _padded_length(spec), models.longest_input(models.config(model))
    length = 0 if spec.length == records.DATASET_LENGTH else int(spec.length)
    if padded is not None and length > padded:
        raise errors.Unsupported(f"an input of {length} tokens cannot be padded to {padded}")
    wanted = max(length, padded or 0)
    if most is not None and wanted > most:
        raise errors.Unsupported(f"model {model.name!r} takes {most} tokens at most, the input asks for {wanted}")


def _padded_length(spec: records.InputSpec) -> int | None:
    kind, _, tokens = spec.padding.partition(":")
    return int(tokens) if kind == "max" else None


def _synthetic_call(model: records.ModelRef, spec: records.InputSpec) -> dict[str, inputs.Ids]:
    """Random ids of ordinary tokens, every row of the same length."""
    config = models.config(model)
    allowed = ordinary_tokens(model, config)
    ids = np.random.default_rng(_SEED).choice(allowed, size=(spec.batch, int(spec.length))).astype(np.int64)
    typed = "token_type_ids" in models.input_names(config)
    tokens = inputs.Tokenized(
        ids=list(ids),
        types=list(np.zeros_like(ids)) if typed else None,
        pad_id=config.pad_token_id or 0,
    )
    return tokens.call(range(spec.batch), _padded_length(spec))


def _special_ids(model: records.ModelRef, config: Any) -> list[int]:
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
    ids = [getattr(config, name, None) for name in names]
    if model.source != "random" and any(models.locate(model).glob("tokenizer*")):
        ids += _tokenizer(model).all_special_ids
    return sorted({int(value) for value in ids if isinstance(value, int)})


def _drawn_calls(
    model: records.ModelRef, rows: readers.Labelled, spec: records.InputSpec
) -> list[dict[str, inputs.Ids]]:
    """Rows at evenly spaced quantiles of the token lengths, dealt out to the calls.

    So a few calls stand for the whole distribution, and a batch mixes lengths as real traffic does, unless its padding
    sorts them: then the rows are the same, and batches hold rows of like lengths.
    """
    tokens = tokenize(model, rows.texts, spec.cut)
    lengths = np.array([len(ids) for ids in tokens.ids])
    by_length = np.argsort(lengths, kind="stable")
    wanted = spec.batch * spec.calls
    quantiles = (np.arange(wanted) + 0.5) / wanted
    chosen = by_length[(quantiles * len(by_length)).astype(int)]
    draw = np.random.default_rng(_SEED)
    if spec.padding.startswith(("sorted", "buckets")):
        dealt = draw.permutation(chosen.reshape(spec.calls, spec.batch))
    else:
        dealt = draw.permutation(chosen).reshape(spec.calls, spec.batch)
    most = models.longest_input(models.config(model))
    return [tokens.call(call.tolist(), _width(spec, int(lengths[call].max()), most)) for call in dealt]


def _width(spec: records.InputSpec, longest: int, most: int | None) -> int:
    """Tokens in each row of a call whose longest row has so many; never more than the model takes."""
    kind, _, tokens = spec.padding.partition(":")
    if kind == "max":
        return int(tokens)
    if kind == "buckets":
        return min(-(-longest // int(tokens)) * int(tokens), most or sys.maxsize)
    return longest


def _tokenizer(model: records.ModelRef) -> Any:
    if model.source == "random":
        raise errors.Unsupported(f"model {model.name!r} has random weights and no tokenizer: it cannot read texts")
    libraries.silence_transformers()
    from transformers import AutoTokenizer

    folder = models.locate(model)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as exc:  # tokenizers raises plain Exception for a damaged file
        raise errors.ModelError(f"model {model.name!r}: its tokenizer in {folder} cannot be loaded: {exc}") from exc
