"""How processes of a worker live and die together (Linux prctl(2)); nothing outlives its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with(parent: int, with_signal: int = signal.SIGKILL) -> None:
    """Ask the kernel for `with_signal` when `parent` (this process's parent) dies; exits if it is dead already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def first_to_go() -> None:
    """Make the kernel's out-of-memory killer choose this process before anything else of the user's."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def bound_memory(limit_bytes: int) -> None:
    """Let allocations beyond `limit_bytes` of private memory fail here instead of starving the host."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or limit_bytes < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, hard))
