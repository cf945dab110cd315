"""Which oneDNN kernels really run, as oneDNN itself reports them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch


def kernels(call: Callable[[], object]) -> dict[str, int]:
    """The kernels of linear layers and matrix products that one call runs, and how often, the most frequent first.

    Each as `primitive implementation source×weight`, types in oneDNN's words. Nothing for a call that other
    libraries compute. What packs weights at its first call should have been called before.
    """
    verbose: Any = torch.backends.mkldnn.verbose
    with printed() as lines, verbose(torch.backends.mkldnn.VERBOSE_ON):
        call()
    return dict(Counter(filter(None, map(name_of, lines))).most_common())


def name_of(line: str) -> str | None:
    """`onednn_verbose,v1,primitive,exec,cpu,inner_product,brg_matmul:avx2,…,src:f32:… wei:f32:…` in short."""
    fields = line.split(",")
    if len(fields) < 9 or fields[0] != "onednn_verbose" or fields[3] != "exec":
        return None
    if fields[5] not in ("inner_product", "matmul"):
        return None
    types = dict(part.split(":")[:2] for part in fields[8].split() if ":" in part)
    return f"{fields[5]} {fields[6]} {types.get('src')}×{types.get('wei')}"


@contextlib.contextmanager
def printed() -> Iterator[list[str]]:
    """Collects the lines that C code prints to standard output meanwhile; they are there after the end."""
    lines: list[str] = []
    c_library = ctypes.CDLL(None)
    sys.stdout.flush()
    c_library.fflush(None)
    kept = os.dup(1)
    with tempfile.TemporaryFile("w+", errors="replace") as caught:
        os.dup2(caught.fileno(), 1)
        try:
            yield lines
        finally:
            c_library.fflush(None)
            os.dup2(kept, 1)
            os.close(kept)
            caught.seek(0)
            lines += caught.read().splitlines()
