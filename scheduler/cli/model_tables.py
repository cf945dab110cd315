"""What `quantfleet model inspect` shows: a model, its layers under a strategy, one weight under every scheme."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Found = Mapping[str, Any]

TIGHT = (0, 1, 0, 0)
"""Padding that leaves the names of layers some room on 80 columns."""


def print_model(found: Found, *, every: bool) -> None:
    """A model as `worker.tool inspect` describes it; layers that are alike in one line unless `every`."""
    labels, console = found["labels"], Console()
    some = ", ".join(labels[:6]) + (f", … ({len(labels)})" if len(labels) > 6 else "")
    limit = f"{found['max_tokens']} at most" if found["max_tokens"] else "no limit known"
    print_pairs(
        f"{found['name']} ({found['source']}, digest {found['digest']})",
        [
            ("architecture", f"{found['architecture']} ({found['model_type']})"),
            ("parameters", f"{found['parameters']:,} ({_mb(found['bytes_fp32'])} in float32)"),
            ("stored as", str(found["source_dtype"])),
            ("classes", some),
            ("tokens in a row", f"{limit}; vocabulary {found['vocabulary']:,}"),
            ("inputs", ", ".join(found["inputs"])),
        ],
    )
    console.print(Text(f"layers under {found['strategy']['name']}", style="bold"))
    console.print(_layers(found, every=every))
    for sentence in why(found):
        console.print(Text(sentence))


def print_weight(weighed: Found) -> None:
    """A weight as `worker.tool weigh` describes it."""
    console = Console()
    print_pairs(
        f"{weighed['layer']} of {weighed['name']}",
        [
            ("kind", f"{weighed['type']}, {_shape(weighed['shape'])}"),
            ("digest", weighed["digest"]),
            ("range", f"{weighed['min']:.4g} … {weighed['max']:.4g}"),
            ("mean", f"{weighed['mean']:.3g}, standard deviation {weighed['std']:.3g}"),
        ],
    )
    console.print(_schemes(weighed["schemes"]))
    console.print(Text("One scale a tensor, except per channel and per row; levels: how many of 256 are used."))
    if weighed["picture"]:
        console.print(Text(f"written: {weighed['picture']}"))


def print_pairs(title: str, rows: list[tuple[str, str]]) -> None:
    """A title over names and values."""
    table = Table(show_header=False, box=box.SIMPLE_HEAD, pad_edge=False)
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))  # Text: brackets are no markup
    console = Console()
    console.print(Text(title, style="bold"))
    console.print(table)


def why(found: Found) -> list[str]:
    """Sentences that say why the file of a strategy has the size that it has, with this model's numbers."""
    told, whole = found["strategy"], found["bytes_fp32"]
    ratio = told["bytes_file"] / whole
    quantized = [kind for kind in told["kinds"] if kind["quantized"]]
    kept = [kind for kind in told["kinds"] if not kind["quantized"] and kind["stored"]]
    sentences = [f"{_mb(whole)} of float32 become a file of {_mb(told['bytes_file'])} (×{ratio:.2f}{_verdict(ratio)})."]
    if quantized:
        changed = "; ".join(
            f"{kind['layers']} {kind['type']} {_mb(kind['bytes'])} → {_mb(kind['stored_bytes'])} ({kind['stored']})"
            for kind in quantized
        )
        sentences.append(f"Quantized, with scales and float biases: {changed}.")
    if kept:
        stays = "; ".join(
            f"{kind['layers']} {kind['type']} {_mb(kind['bytes'])} of {_mb(whole)} ({kind['bytes'] / whole:.1%}) "
            f"{'stays' if kind['stored'] == 'float32' else 'becomes'} {kind['stored']}"
            for kind in kept
        )
        sentences.append(f"Not quantized: {stays}.")
    return sentences + _unnamed(found)


def _verdict(ratio: float) -> str:
    return "" if ratio < 0.26 or ratio > 1 else ", not a quarter" if ratio < 0.5 else ", not even half"


def _unnamed(found: Found) -> list[str]:
    """What the artifact does not tell layer by layer, where there is any."""
    told = found["strategy"]
    absent = [layer for layer in found["layers"] if layer["stored"] is None]
    if not absent:
        return []
    return [
        f"{len(absent)} layers are not in the artifact under their names, merged with others or gone; "
        f"{_mb(told['bytes_elsewhere'])} of it belong to no layer by name."
    ]


def _layers(found: Found, *, every: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=TIGHT, show_footer=True)
    told = found["strategy"]
    table.add_column("layer", overflow="fold", footer="sum, and the file")
    for name in ("type", "shape"):
        table.add_column(name, no_wrap=True)
    for name, footer in (
        ("values", f"{found['parameters']:,}"),
        ("MB fp32", f"{found['bytes_fp32'] / 1e6:.2f}"),
        ("stored as", ""),
        ("MB then", f"{told['bytes_file'] / 1e6:.2f}"),
    ):
        table.add_column(name, footer=footer, justify="left" if name == "stored as" else "right", no_wrap=True)
    for row in [(layer["name"], 1, layer) for layer in found["layers"]] if every else _folded(found["layers"]):
        table.add_row(*_cells(*row))
    return table


def _cells(name: str, count: int, layer: Found) -> Sequence[Text | str]:
    by_row = " by row" if layer["scales"] > 1 and layer["scales"] == layer["shape"][0] else ""
    times = f" ×{count}" if count > 1 else ""
    return (
        Text(name + times),
        layer["type"],
        _shape(layer["shape"]),
        f"{count * layer['parameters']:,}",
        f"{count * layer['bytes'] / 1e6:.3f}",
        Text((layer["stored"] or "–") + by_row, style="green" if layer["quantized"] else ""),
        f"{count * layer['stored_bytes'] / 1e6:.3f}",
    )


def _folded(layers: Iterable[Found]) -> list[tuple[str, int, Found]]:
    """Name, count and one of each group of layers whose names differ in numbers alone, and that are otherwise alike."""
    groups: dict[tuple[Any, ...], list[Found]] = {}
    for layer in layers:
        pattern = re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", layer["name"])
        rest = (layer[name] for name in ("type", "parameters", "stored", "stored_bytes", "scales"))
        groups.setdefault((pattern, *layer["shape"], *rest), []).append(layer)
    return [(key[0] if len(alike) > 1 else alike[0]["name"], len(alike), alike[0]) for key, alike in groups.items()]


def _schemes(schemes: Iterable[Found]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=TIGHT)
    table.add_column("scheme", no_wrap=True)
    for name in ("range", "scale", "zero pt", "max err", "RMS err", "SQNR dB", "clipped", "levels"):
        table.add_column(name, justify="right", no_wrap=True)
    for scheme in schemes:
        table.add_row(
            scheme["name"],
            "all" if scheme["percentile"] == 100 else f"{scheme['percentile']:g}%",
            _span(scheme["scale"]),
            _span(scheme["zero_point"]),
            f"{scheme['max_error']:.2g}",
            f"{scheme['rms_error']:.2g}",
            "exact" if scheme["sqnr_db"] is None else f"{scheme['sqnr_db']:.1f}",
            f"{100 * scheme['clipped']:.2g}%" if scheme["clipped"] else "0",
            str(scheme["levels"]),
        )
    return table


def _span(ends: Sequence[float]) -> str:
    low, high = (f"{end:.2g}" if abs(end) < 100 else f"{end:.0f}" for end in ends)
    return low if low == high else f"{low}…{high}"


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _mb(count: int) -> str:
    return f"{count / 1e6:.2f} MB"
