"""Training a small text classifier from scratch: a real model without a download, for demos and tests.

The output folder is an ordinary transformers model (`config.json`, `model.safetensors`, tokenizer files), and holds
`training.json`: what was trained with what, the report, and the key by which a second call finds it finished.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import digests, errors, keys

TRAINER_VERSION = 1
"""Raised when the same options would train another model."""

RECORD = "training.json"
"""The file that tells a folder of ours from any other."""

LIBRARIES = ("torch", "transformers", "tokenizers")
"""What decides the weights besides data and options; part of the cache key."""

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """What to train on, how large a model, and where it goes. Paths may be given as strings."""

    train: Path  # parquet, CSV or JSON lines
    validation: Path | None = None  # chooses the best epoch; None: the last one is kept
    test: Path | None = None  # looked at once, at the end
    output: Path  # model folder: new, empty, or made by an earlier training
    text: str = "text"  # column of the texts
    label: str = "label"  # column of the classes: ClassLabel, names or integers
    layers: int = 3
    hidden: int = 192  # width; the feed-forward part is four times as wide
    heads: int = 4
    vocab: int = 2000  # WordPiece vocabulary, at most
    epochs: int = 5  # at most; stops when validation no longer improves
    batch: int = 16  # rows in one optimizer step
    learning_rate: float = 5e-4  # AdamW, at the end of the warm-up
    max_length: int = 128  # tokens: longer texts are cut; the model has so many positions
    seed: int = 0
    threads: int | None = None  # intra-op threads; None: torch's own choice. Not part of the cache key

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test", "output"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        for name in ("layers", "hidden", "heads", "vocab", "epochs", "batch", "max_length", "threads"):
            _check_whole(name, getattr(self, name))
        if self.hidden % self.heads:
            raise errors.SettingsError(f"hidden: {self.hidden} cannot be split over {self.heads} heads evenly")
        if not 0 < self.learning_rate < 1:
            raise errors.SettingsError(f"learning_rate: {self.learning_rate} is not between 0 and 1")
        if self.max_length < 4:
            raise errors.SettingsError("max_length: a text needs at least 4 tokens, two of them special")

    def files(self) -> dict[str, Path]:
        """The data files that are given, by their part."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {part: path for part, path in parts.items() if path is not None}

    def recipe(self) -> dict[str, Any]:
        """Everything but places and threads, as plain data."""
        apart = {"train", "validation", "test", "output", "threads"}
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in apart}


def _check_whole(name: str, value: int | None) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise errors.SettingsError(f"{name}: {value!r} is not a whole number of at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReport:
    """What a training gave; accuracies are shares of rows, None where no rows were given."""

    output: str  # absolute folder
    cached: bool  # nothing was trained now: an earlier result fits
    model_digest: str
    rows: Mapping[str, int]  # rows of each part
    classes: int
    parameters: int
    vocabulary: int  # tokens that the tokenizer really has
    epochs: int  # run, not asked for
    best_epoch: int
    steps: int
    stopped: str  # why it ended: "epochs" or "no improvement"
    loss: float  # mean cross-entropy of the last epoch's training steps
    validation_accuracy: float | None
    test_accuracy: float | None
    seconds: float  # wall time of the training when it was really done
    cpu_seconds: float  # CPU time of it, all threads


def train(options: TrainOptions, tell: Tell) -> TrainReport:
    """Train, or find the finished result of the same training; the folder appears whole or not at all.

    `tell` gets plain dicts: `phase` ("tokenizer", "train", "evaluate"), and while training `epoch`, `epochs`,
    `step`, `steps`, `loss`, `validation_accuracy` (of the epoch before; None at first).
    Raises DatasetError (missing, empty, columns, labels) and SettingsError (options, an output that is not ours).
    """
    key, sources = _identity(options)
    done = _finished(options.output, key)
    if done is not None:
        return done
    _check_output(options.output)
    started, cpu = time.perf_counter(), time.process_time()
    scratch = _scratch(options.output)
    try:
        facts = _fit_into(scratch, options, tell)
        spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
        report = _report(options.output, scratch, {**facts, **spent})
        _write_record(scratch, key, sources, options, report)
        _swap(scratch, options.output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return report


def versions() -> dict[str, str]:
    """Versions of the libraries that decide what a training gives."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def _identity(options: TrainOptions) -> tuple[str, dict[str, str]]:
    for path in options.files().values():
        if not path.is_file():
            raise errors.DatasetError(f"dataset file {path} does not exist")
    sources = {part: digests.file_digest(path) for part, path in options.files().items()}
    identity = {"trainer": TRAINER_VERSION, "data": sources, "options": options.recipe(), "versions": versions()}
    return keys.digest(identity), sources


def _finished(folder: Path, key: str) -> TrainReport | None:
    """The report of an earlier training with this key whose files are still what they were."""
    try:
        record = json.loads((folder / RECORD).read_text())
        if record["key"] != key or digests.model_digest(folder) != record["report"]["model_digest"]:
            return None
        return TrainReport(**{**record["report"], "output": str(folder.resolve()), "cached": True})
    except (OSError, ValueError, KeyError, TypeError, errors.ModelError):
        return None


def _check_output(folder: Path) -> None:
    """Only a folder that is new, empty or wholly ours is ever replaced."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise errors.SettingsError(f"output {folder} is a file; name a folder")
    foreign = sorted({path.name for path in folder.iterdir()} - _own_files(folder))
    if foreign:
        raise errors.SettingsError(
            f"output {folder} holds {foreign[0]!r}, which no training put there; name a new or an empty folder"
        )


def _own_files(folder: Path) -> set[str]:
    try:
        return {RECORD, *json.loads((folder / RECORD).read_text())["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _scratch(output: Path) -> Path:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as exc:
        raise errors.SettingsError(f"cannot write beside {output}: {exc.strerror}") from exc


def _fit_into(folder: Path, options: TrainOptions, tell: Tell) -> dict[str, Any]:
    from worker.engine import libraries

    libraries.silence_transformers()
    from worker.engine import fitting  # torch: seconds that a cache hit need not spend

    return fitting.fit(options, folder, tell)


def _report(output: Path, folder: Path, facts: Mapping[str, Any]) -> TrainReport:
    digest = digests.model_digest(folder)
    return TrainReport(output=str(output.resolve()), cached=False, model_digest=digest, **facts)


def _write_record(
    folder: Path, key: str, sources: Mapping[str, str], options: TrainOptions, report: TrainReport
) -> None:
    record = {
        "key": key,
        "trainer": TRAINER_VERSION,
        "data": dict(sources),
        "options": options.recipe(),
        "versions": versions(),
        "files": sorted(path.name for path in folder.iterdir()),
        "report": {**dataclasses.asdict(report), "output": None},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _swap(scratch: Path, output: Path) -> None:
    """Put the finished folder in its place; private modes (mkdtemp, safetensors) give way to what the umask allows."""
    umask = os.umask(0)
    os.umask(umask)
    scratch.chmod(0o777 & ~umask)
    for path in scratch.iterdir():
        path.chmod(0o666 & ~umask)
    old = scratch.with_name(scratch.name + "-old")
    try:
        if output.exists():
            output.rename(old)
        scratch.rename(output)
    except OSError as exc:
        raise errors.SettingsError(f"cannot put the model into {output}: {exc.strerror}") from exc
    finally:
        shutil.rmtree(old, ignore_errors=True)
