"""What a measured process can be asked to do with models; the only door from the rest of the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from storage import records, strategies
from worker.engine import libraries, preparation, sessions
from worker.engine.strategies import base

if TYPE_CHECKING:
    from worker.engine import tensor


def preload(family: str) -> None:
    """Import everything heavy that a runtime family ("torch", "onnxruntime") uses, without starting a thread."""
    libraries.preload(family)


def prepare(
    model: records.ModelRef,
    strategy: strategies.Strategy,
    cache: Path,
    *,
    data: Mapping[str, records.DatasetRef] | None = None,
    given: Mapping[str, str] | None = None,
    tell: base.Tell = base.silent,
) -> tuple[Path, records.Artifact]:
    """The folder and the record of a model's artifact for a strategy, made where it does not exist yet.

    `data` holds the datasets that the strategy's options name, `given` the keys of models that transforms have made
    elsewhere. Raises ModelError, DatasetError, StrategyError, Unsupported, and SettingsError for a cache that cannot
    be written.
    """
    libraries.settle()
    order = preparation.Order(
        model=model, strategy=strategy, cache=cache, data=data or {}, given=given or {}, tell=tell
    )
    return preparation.prepare(order)


def prepare_inputs(
    model: records.ModelRef, dataset: records.DatasetRef | None, spec: records.InputSpec, cache: Path
) -> tuple[Path, str]:
    """A file of token ids, call by call (see `load_calls`), and the digest of its content.

    Raises Unsupported for lengths that the model cannot take, DatasetError, ModelError.
    """
    from worker.engine import texts

    return texts.prepare_inputs(model, dataset, spec, cache)


def prepare_rows(model: records.ModelRef, dataset: records.DatasetRef, cache: Path) -> tuple[Path, str]:
    """A file of tokenized rows with label indices for `predict`, and the digest of its content.

    Raises DatasetError (missing, empty, a column, labels that are not the model's), ModelError, Unsupported.
    """
    from worker.engine import texts

    return texts.prepare_rows(model, dataset, cache)


def load_calls(path: Path) -> list[dict[str, npt.NDArray[np.int64]]]:
    """The calls that `prepare_inputs` wrote: arrays [batch, length] by input name."""
    from worker.engine import inputs

    return inputs.load_calls(path)


def open_session(artifact: Path, strategy: strategies.Strategy, threads: int) -> sessions.Session:
    """Load an artifact's folder for a number of intra-op threads; Unsupported where the host cannot."""
    libraries.settle()
    return base.load(strategy).open(artifact, strategy, threads)


def prepare_operand(model: records.ModelRef, spec: records.TensorSpec, cache: Path) -> dict[str, Any]:
    """A file of a tensor operation's weight (`path`), its `shape` [out, in], `digest` and `bytes`.

    Raises ModelError for a layer that does not exist or has no matrix.
    """
    from worker.engine import tensor

    return tensor.prepare_operand(model, spec, cache)


def open_operation(operand: Path, spec: records.TensorSpec, name: str, threads: int) -> tensor.Opened:
    """A tensor operation by its name, ready to be timed on so many intra-op threads."""
    from worker.engine import tensor

    return tensor.open_operation(operand, spec, name, threads)


def predict(
    session: sessions.Session, rows: Path, batch: int, tell: Callable[[int, int], None]
) -> tuple[list[int], list[int]]:
    """Predicted class indices and the right ones, row by row; `tell(done, total)` reports progress."""
    from worker.engine import accuracy

    return accuracy.predict(session, rows, batch, tell)


def ceiling(what: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """One measurement of the machine itself, see `worker.engine.ceilings`: `settle`, `product`, `read`, …"""
    from worker.engine import ceilings

    return ceilings.MEASUREMENTS[what](**options)


def inspect(model: records.ModelRef, strategy: strategies.Strategy, cache: Path) -> dict[str, Any]:
    """What a model is made of and what a strategy stores of each layer, as plain JSON data."""
    from worker.engine import inspect as inspection

    return inspection.inspect(model, strategy, cache)


def weigh(model: records.ModelRef, layer: str, picture: Path | None) -> dict[str, Any]:
    """A layer's weight before and after quantization, as plain JSON data, and as a PNG file where one is named.

    Raises ModelError as `layers.find`, SettingsError for a picture that cannot be written.
    """
    libraries.settle()
    from worker.engine import layers, pictures, schemes

    if picture is not None:
        pictures.require_writable(picture)
    weighed = schemes.weigh(layers.find(model, layer))
    if picture is not None:
        pictures.draw(weighed, model.name, picture)
    return {"name": model.name, **weighed, "picture": None if picture is None else str(picture)}
