"""The software of this host, as far as it can move a number; nothing heavy is imported to find out."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from storage import records
from storage.catalogue import registry
from worker import isa

SETTINGS = ("OMP_", "KMP_", "GOMP_", "MALLOC_", "MKL_", "ONEDNN_", "DNNL_")
"""Beginnings of the environment variables that move numbers."""

SET_BY_US = frozenset({"OMP_NUM_THREADS", "MKL_NUM_THREADS"})
"""Each job sets its own thread count, whatever these say: they make no difference between two hosts."""

_OPENMP = ("libiomp5", "libomp", "libgomp")
_ALLOCATORS = ("libjemalloc", "libtcmalloc", "libmimalloc", "libsnmalloc", "libhoard")


def probe(environ: Mapping[str, str] = os.environ) -> records.Environment:
    """Versions, kernel, preloaded runtimes and settings; `environ` is what the measured processes get."""
    return records.Environment(
        python=platform.python_version(),
        packages=versions(),
        kernel=platform.release(),
        openmp=_preloaded(environ, _OPENMP),
        allocator=_preloaded(environ, _ALLOCATORS),
        settings=_settings(environ),
    )


def versions() -> dict[str, str]:
    """Package → version of those that are installed."""
    found = {}
    for name in registry.packages():
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _preloaded(environ: Mapping[str, str], starts: tuple[str, ...]) -> str | None:
    """File name of the first preloaded library that begins so; its folder differs between hosts, and is left out."""
    files = environ.get("LD_PRELOAD", "").replace(":", " ").split()
    return next((Path(file).name for file in files if Path(file).name.startswith(starts)), None)


def _settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Settings that are set; those that hide instruction sets belong to the hardware, and are not told twice."""
    left_out = SET_BY_US | set(isa.HIDDEN)
    return {name: environ[name] for name in sorted(environ) if name.startswith(SETTINGS) and name not in left_out}
