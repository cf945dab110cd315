"""Plain data as both databases take it: JSON without NaN, text without NUL, numbers packed into bytes.

NumPy is imported by the functions that need it, here and in the other modules that every command loads: a command that
lists results does without, and is quicker by that.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def dumps(document: Any) -> str:
    """JSON that SQLite and Postgres both accept: NaN and infinities become null, NUL and lone surrogates U+FFFD."""
    try:
        text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_clean(document), separators=(",", ":"))
    if "\\u0000" in text or "\\ud" in text:
        return json.dumps(_clean(document), separators=(",", ":"))
    return text


loads = json.loads


def text(value: str | None) -> str | None:
    """A text that both databases can store: the output of a dying process may hold anything."""
    if value is None:
        return None
    return value.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def pack(numbers: Iterable[int], dtype: str) -> bytes:
    """Integers as little-endian `dtype` ("<i8", "<i4"), compressed; OverflowError beyond its range."""
    import numpy as np

    return zlib.compress(np.array(list(numbers), dtype=dtype).tobytes(), 6)


def unpack(packed: bytes, dtype: str) -> tuple[int, ...]:
    """What `pack` packed."""
    return tuple(array(packed, dtype).tolist())


def array(packed: bytes, dtype: str) -> npt.NDArray[np.integer]:
    """The same as an array, which is quicker to compare and not to be changed."""
    import numpy as np

    return np.frombuffer(zlib.decompress(packed), dtype=dtype)


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {text(k): _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
