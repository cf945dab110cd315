"""Ranges of activations, seen while a sample runs through the float model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.ao.quantization.observer import HistogramObserver, MinMaxObserver

from storage import errors
from worker.engine import sessions
from worker.engine.strategies import base

_OBSERVERS: Mapping[str, type[MinMaxObserver | HistogramObserver]] = {
    "minmax": MinMaxObserver,
    "histogram": HistogramObserver,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranges:
    """What one layer saw, each [least, greatest] in float32."""

    given: torch.Tensor
    answered: torch.Tensor


def ranges(
    model: torch.nn.Module, layers: Sequence[str], calls: Sequence[sessions.Call], observer: str, tell: base.Tell
) -> dict[str, Ranges]:
    """The ranges of the layers' inputs and outputs over all calls, by name; a layer that no call reaches is absent.

    `observer` is minmax (the extremes) or histogram (the range of least squared error of 8 bits, found in torch's
    histogram). On one thread, so that sums have one order whatever the number of cores. Raises ModelError for
    activations that are not finite.
    """
    kind = _OBSERVERS[observer]
    seen = {name: (kind(), kind()) for name in layers}
    handles = [model.get_submodule(name).register_forward_hook(_watching(name, *pair)) for name, pair in seen.items()]
    try:
        with _one_thread(), torch.inference_mode():
            for at, call in enumerate(calls):
                model(**{name: torch.from_numpy(array) for name, array in call.items()})
                tell({"phase": "calibrating", "done": at + 1, "total": len(calls)})
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: Ranges(given=_range(given), answered=_range(answered))
        for name, (given, answered) in seen.items()
        if bool(given.min_val <= given.max_val)  # from inf down to -inf before anything was seen
    }


def _watching(name: str, given: torch.nn.Module, answered: torch.nn.Module) -> Callable[..., None]:
    def watch(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], answer: torch.Tensor) -> None:
        for observer, values in ((given, inputs[0]), (answered, answer)):
            if not bool(torch.isfinite(values).all()):
                raise errors.ModelError(f"layer {name}: the calibration sample gives activations that are not finite")
            observer(values)

    return watch


def _range(observer: MinMaxObserver | HistogramObserver) -> torch.Tensor:
    if isinstance(observer, HistogramObserver):
        # its scales would be those of one number of bits; the range that they come from is only to be had here
        low, high = observer._non_linear_param_search()
    else:
        low, high = observer.min_val, observer.max_val
    return torch.stack([low, high]).float().clone()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
