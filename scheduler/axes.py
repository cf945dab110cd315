"""What may stand on the columns of a comparison: names and fields alone, for the help of a command."""

from __future__ import annotations

from collections.abc import Mapping

INPUT_FIELDS = ("batch", "length", "padding", "instances", "tail")
"""What an input's label says."""

AXES: Mapping[str, tuple[str, ...]] = {
    "threads": ("threads",),
    "input": INPUT_FIELDS,
    "model": ("model",),
    "hardware": ("hardware", "environment"),
    "strategy": ("strategy",),
    "environment": ("environment",),
    "instances": ("instances",),
    "padding": ("padding",),
    "batch": ("batch",),
    "length": ("length",),
    "baseline": ("baseline",),
}
"""Axis → the fields of a case that its columns stand for."""
