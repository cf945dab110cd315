"""The picture of a weight before and after quantization, from the numbers that `schemes.weigh` gives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storage import errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#595959"
"""Okabe and Ito's colours, which people with any kind of colour vision tell apart."""

SUFFIX = ".png"


def require_writable(path: Path) -> None:
    """Refuse before anything is computed: SettingsError for a path that no picture can be written to."""
    if path.suffix.lower() != SUFFIX:
        raise errors.SettingsError(f"--picture {path}: pictures are PNG files; name one that ends in {SUFFIX}")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"folder {path.parent} does not exist"
        raise errors.SettingsError(f"--picture {path}: {what}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise errors.SettingsError(f"--picture {path} cannot be written: no right to")


def draw(weighed: Mapping[str, Any], model: str, path: Path) -> None:
    """Three histograms side by side: the float32 values, the article's integers, the errors of one scale and of many.

    Raises SettingsError when the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")  # no display, whatever the environment says
    from matplotlib import pyplot

    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY}
    with mpl.rc_context(style):
        figure, (before, after, lost) = pyplot.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
        try:
            shape = " × ".join(map(str, weighed["shape"]))
            figure.suptitle(f"{weighed['layer']} ({weighed['type']}, {shape}) of {model}", fontsize=10)
            _values(before, weighed)
            _integers(after, weighed)
            _errors(lost, weighed)
            figure.savefig(path, dpi=150, format="png")
        except OSError as exc:
            raise errors.SettingsError(f"--picture {path} cannot be written: {exc.strerror or exc}") from exc
        finally:
            pyplot.close(figure)


def _values(axes: Axes, weighed: Mapping[str, Any]) -> None:
    axes.stairs(weighed["values"]["counts"], weighed["values"]["edges"], fill=True, color=BLUE)
    axes.set_title(f"float32: {weighed['min']:.3g} … {weighed['max']:.3g}")
    axes.set_xlabel("value of a weight (no unit)")
    axes.set_ylabel("weights in a bin")


def _integers(axes: Axes, weighed: Mapping[str, Any]) -> None:
    scheme = _scheme(weighed, "article")
    counts, first = scheme["integers"]["counts"], scheme["integers"]["first"]
    axes.stairs(counts, np.arange(len(counts) + 1) + first - 0.5, fill=True, color=BLUE)
    axes.set_title(f"int8 per tensor: scale {scheme['scale'][0]:.3g}, {scheme['levels']} levels used")
    axes.set_xlabel("integer (-128 … 127)")
    axes.set_ylabel("weights with this integer")


def _errors(axes: Axes, weighed: Mapping[str, Any]) -> None:
    edges = weighed["error_edges"]
    for name, colour, filled in (("per channel", ORANGE, True), ("symmetric", BLUE, False)):
        scheme = _scheme(weighed, name)
        label = "per tensor" if scheme["granularity"] == "tensor" else name
        loss = "exact" if scheme["sqnr_db"] is None else f"{scheme['sqnr_db']:.1f} dB"
        told = f"{label}: {loss} signal to noise"
        axes.stairs(scheme["errors"]["counts"], edges, fill=filled, color=colour, label=told, linewidth=1.5)
    axes.set_title("error of a weight: int8, symmetric - float32")
    axes.set_xlabel("error (no unit, as the weight)")
    axes.set_ylabel("weights in a bin")
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 2))
    # below, since the bars of one scale a row reach the top of their axes
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8)


def _scheme(weighed: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The scheme of a name whose range holds all values."""
    found: Mapping[str, Any] = next(
        scheme for scheme in weighed["schemes"] if scheme["name"] == name and scheme["percentile"] == 100.0
    )
    return found
