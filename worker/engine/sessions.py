"""What a loaded model can do, the same for every runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Call = Mapping[str, npt.NDArray[np.int64]]
"""One call's arrays by the model's input names, each [batch, length]."""


class Session(Protocol):
    """A model that is loaded and set up for a number of threads."""

    @property
    def threads(self) -> int:
        """The runtime's own thread setting, read back."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What really runs: engine, quantized layers, kernels, … as plain JSON data."""

    def calling(self) -> AbstractContextManager[object]:
        """What bound calls are made inside of; entered once for many calls."""

    def bind(self, call: Call) -> Callable[[], object]:
        """A call that is ready to be timed: every conversion of its inputs is done."""

    def logits(self, call: Call) -> npt.NDArray[np.float32]:
        """The answer to one call: [batch, classes]."""
