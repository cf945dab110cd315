"""Datasets as plain lists: local parquet, CSV and JSON lines, or the hub; what is wrong becomes a DatasetError."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import digests, errors, keys, records
from worker.engine import libraries

BUILDERS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json"}
"""File suffix → the builder of `datasets` that reads it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """Texts with their classes, in the dataset's order."""

    texts: Sequence[str]
    labels: Sequence[str] | Sequence[int]  # class names, or indices when the dataset has no names

    def digest(self) -> str:
        """Identity of the content."""
        return keys.digest([list(self.texts), list(self.labels)])


def identity(dataset: records.DatasetRef) -> str | None:
    """What decides a dataset's rows without reading them; None when only reading can tell (a moving revision).

    Raises DatasetError for a file that is missing, or another than the planner saw.
    """
    if dataset.source == "hub":
        return keys.digest(keys.dataset_identity(dataset)) if dataset.revision else None
    path = Path(dataset.location)
    if not path.is_file():
        raise errors.DatasetError(f"dataset {path} does not exist, or is not a file")
    found = digests.file_digest(path)
    if dataset.digest is not None and dataset.digest != found:
        raise errors.DatasetError(
            f"dataset {path} is another than when the study was planned (digest {found}, planned {dataset.digest}); "
            "submit the study again"
        )
    return keys.digest([found, dataset.text, dataset.label, dataset.rows])


def read(dataset: records.DatasetRef) -> Labelled:
    """The rows of a dataset, at most `dataset.rows` of them.

    Raises DatasetError for what cannot be found, reached or read, an empty one, and a missing column.
    """
    with _quiet_datasets() as loaders:
        table = _from_hub(loaders, dataset) if dataset.source == "hub" else _from_file(loaders, dataset)
        for column in (dataset.text, dataset.label):
            _require_column(dataset, column, table.column_names)
        if dataset.rows is not None:
            table = table.select(range(min(dataset.rows, len(table))))
        if len(table) == 0:
            raise errors.DatasetError(f"dataset {dataset.location} is empty")
        return _labelled(dataset, table)


@contextlib.contextmanager
def _quiet_datasets() -> Iterator[Any]:
    libraries.settle()
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    yield datasets


def _from_file(loaders: Any, dataset: records.DatasetRef) -> Any:
    path = Path(dataset.location)
    builder = BUILDERS.get(path.suffix.lower())
    if builder is None:
        raise errors.DatasetError(f"dataset {path}: unknown kind of file, expected {', '.join(sorted(BUILDERS))}")
    # a cache of its own and rows in memory: a file that was replaced must never come out of an older cache
    with tempfile.TemporaryDirectory(prefix="quantfleet-") as cache:
        try:
            options = {"split": "train", "cache_dir": cache, "keep_in_memory": True}
            return loaders.load_dataset(builder, data_files=str(path), **options)
        except MemoryError:
            raise
        except Exception as exc:  # arrow, pandas and json each raise their own
            if path.stat().st_size == 0 or "corresponds to no data" in str(exc):  # a table without rows
                raise errors.DatasetError(f"dataset {path} is empty") from exc
            raise errors.DatasetError(f"dataset {path} cannot be read as {builder}: {_cause(exc)}") from exc


def _from_hub(loaders: Any, dataset: records.DatasetRef) -> Any:
    name = dataset.location + (f"/{dataset.config}" if dataset.config else "")
    split = dataset.split or "validation"
    try:
        return loaders.load_dataset(dataset.location, dataset.config, split=split, revision=dataset.revision)
    except ValueError as exc:  # an unknown configuration or split: the library's message lists the known ones
        raise errors.DatasetError(f"dataset {name}, split {split!r}: {exc}") from exc
    except Exception as exc:  # the hub client's network errors have no common root
        raise errors.DatasetError(
            f"dataset {name} is not in this host's cache and the hub cannot give it ({type(exc).__name__}); allow "
            "the network (HF_HUB_OFFLINE unset), check its name, or name a local parquet, CSV or JSON-lines file"
        ) from exc


def _require_column(dataset: records.DatasetRef, column: str, known: Sequence[str]) -> None:
    if column not in known:
        near = errors.nearest(column, known)
        raise errors.DatasetError(
            f"dataset {dataset.location} has no column {column!r}{near} (it has {', '.join(known)})"
        )


def _labelled(dataset: records.DatasetRef, table: Any) -> Labelled:
    texts, labels = list(table[dataset.text]), list(table[dataset.label])
    for column, values, types in ((dataset.text, texts, (str,)), (dataset.label, labels, (str, int))):
        for row, value in enumerate(values):
            if not isinstance(value, types):
                raise errors.DatasetError(
                    f"dataset {dataset.location}, row {row}: column {column!r} holds {value!r}, "
                    f"expected {' or '.join('text' if kind is str else 'a class index' for kind in types)}"
                )
    names = getattr(table.features[dataset.label], "names", None)
    return Labelled(texts=texts, labels=[names[label] for label in labels] if names else labels)


def _cause(exc: BaseException) -> str:
    """The innermost message: `datasets` wraps what happened in "An error occurred while generating"."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
    return str(exc).splitlines()[0] if str(exc) else type(exc).__name__
