"""Checkpoints of an unfinished training: one safetensors file, its JSON state in the header, whole or not at all."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

FILE = "checkpoint.safetensors"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What a training needs to go on."""

    tensors: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]  # plain JSON data


class Checkpoints:
    """The last checkpoint of one training, in a folder of its own; without a folder nothing is kept.

    A folder that cannot be written costs the chance to go on, not the training: it is said in the log.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def write(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Replace the last checkpoint."""
        if self._folder is None:
            return
        from safetensors.torch import save

        content = save(dict(tensors), metadata={"state": json.dumps(state)})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _replace(self._folder / FILE, content)
        except OSError as exc:
            log.warning("no checkpoint in %s: %s; a training that is stopped begins anew", self._folder, exc.strerror)

    def read(self) -> Checkpoint | None:
        """The last checkpoint; None where there is none, or where it is damaged, which the log tells."""
        if self._folder is None or not (self._folder / FILE).is_file():
            return None
        import safetensors

        try:
            with safetensors.safe_open(self._folder / FILE, framework="pt") as stream:
                state = json.loads(stream.metadata()["state"])
                return Checkpoint(tensors={name: stream.get_tensor(name) for name in stream.keys()}, state=state)  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as exc:
            log.warning("checkpoint in %s is damaged (%s): the training begins anew", self._folder, exc)
            return None


def _replace(path: Path, content: bytes) -> None:
    """Durable before it gets its name: after a loss of power, the file is the old one or the new one."""
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
