"""Frozen dataclasses of many fields, made in a fifth of the time (pure).

A frozen dataclass sets each field through `object.__setattr__`, by name: thirty microseconds for seventy fields, which
was a quarter of what a comparison of thousands of results takes. Here a twin with the same slots, whose fields can be
set, is made and then declared to be the frozen class: Python allows that between classes of the same slots.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def maker(cls: type[T]) -> Callable[..., T]:
    """What makes instances as `cls` does, from the same arguments; TypeError for a class that has no twin.

    `cls`: a dataclass with `frozen`, `kw_only` and `slots`, with no base of its own and without `__post_init__`.
    """
    if cls.__bases__ != (object,) or hasattr(cls, "__post_init__") or not hasattr(cls, "__slots__"):
        raise TypeError(f"{cls.__name__} is no plain dataclass with slots")
    fields = [(one.name, Any, _copy(one)) for one in dataclasses.fields(cls)]  # type: ignore[arg-type]
    twin = dataclasses.make_dataclass(cls.__name__, fields, kw_only=True, slots=True)

    def make(**values: Any) -> T:
        made: Any = twin(**values)
        made.__class__ = cls
        return made  # type: ignore[no-any-return]

    return make


def changer(cls: type[T]) -> Callable[..., T]:
    """What does as `dataclasses.replace`, for instances of `cls`; TypeError as `maker` has it."""
    make = maker(cls)
    names = tuple(one.name for one in dataclasses.fields(cls))  # type: ignore[arg-type]
    values = operator.attrgetter(*names)

    def changed(one: T, **changes: Any) -> T:
        return make(**{**dict(zip(names, values(one), strict=True)), **changes})

    return changed


def _copy(one: dataclasses.Field[Any]) -> Any:
    """A field of a twin with the same default."""
    return dataclasses.field(default=one.default, default_factory=one.default_factory)
