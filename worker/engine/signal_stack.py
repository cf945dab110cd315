"""The thread's alternate signal stack, kept from libraries that replace it and unmap what they put there.

OpenVINO's CPU plugin installs one for AMX and gives back its predecessor when it goes. Of two plugins that overlap and
go in the order in which they came, the second gives back the first one's, unmapped by then: the next signal that Python
handles ends the process with SIGSEGV, with no word from faulthandler, which would need that stack.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """stack_t of sigaltstack(2), on Linux for 64 bits."""

    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Whatever the block does to this thread's alternate signal stack, it is as before afterwards."""
    system, before = ctypes.CDLL(None), _Stack()
    known = system.sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            system.sigaltstack(ctypes.byref(before), None)
