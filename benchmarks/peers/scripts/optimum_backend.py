"""optimum-benchmark's PyTorch backend with `quantize_dynamic`, which it has no setting for."""

from __future__ import annotations

from typing import Any

from optimum_benchmark.backends.pytorch.backend import PyTorchBackend

from benchmarks.peers.scripts import call as calls


class Int8Backend(PyTorchBackend):  # type: ignore[misc]
    """Loads as the original does, then quantizes."""

    def load(self) -> None:
        """Load the model, and replace its linear layers."""
        super().load()
        self.pretrained_model: Any = calls.quantized(self.pretrained_model)
