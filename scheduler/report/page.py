"""A report as one HTML page that needs nothing but itself: templates, script and plotting library inside.

Every value is escaped by the templates; the page's own policy (CSP) names the digests of its two scripts, so that
nothing else could run even if a value were not. The plotting library is one of them: packed in the page, and put into
it as a script by the other one.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import importlib.resources
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from scheduler import alike, amounts, compare, labels, points
from scheduler.report import figures, front, front_plots, plots, spread, weights
from scheduler.report.contents import Report, Slice
from storage import errors, metrics

MANY_LINES = 60
"""With more lines than so many, the page opens on the first model, input and thread count."""

POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""Plotly sets styles of elements, and makes images of data when a plot is saved as a picture."""

NOTHING = "–"

PACKED = 4
"""Level of gzip for the plotting library: a twentieth larger than at 9, in half the time."""


def html(
    report: Report,
    assets: str | None = None,
    *,
    template: str = "report.html",
    templates: jinja2.Environment | None = None,
    **more: Any,
) -> str:
    """The page. `assets`: address of the folder that has style and scripts, None to put them into the page itself;
    `template` of `templates` may be another one that extends the report's, `more` is handed to it."""
    shown = plots.plots(report)
    context: dict[str, Any] = {
        "report": report,
        "plots": {plot.name: plot for plot in shown},
        "data": data(report, shown),
        "assets": assets,
        "quantiles": spread.SHOWN,
        "meanings": compare.MARKS,
        "weights_how": weights.HOW,
        "packages": _packages(report),
        "fronts": [plot.name for plot in shown if plot.name.startswith(front_plots.NAME)],
        "objectives": front.objectives(report.fronts),
        "beaten": front.BEATEN,
        **more,
    }
    if assets is None:
        scripts = (plotly_script(), text("report.js"))
        context |= {"style": _own(text("report.css")), "policy": POLICY.format(scripts=_digests(scripts))}
        context |= {"library": packed_plotly(), "script": _own(scripts[-1])}
    return (templates or environment()).get_template(template).render(context)


def write(page: str, path: Path) -> int:
    """Put a page into a file at once: nobody meets half of it. Its bytes; SettingsError where that cannot be."""
    body = page.encode()
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(body)
        mask = os.umask(0)
        os.umask(mask)
        Path(file.name).chmod(0o666 & ~mask)
        Path(file.name).replace(path)
    except OSError as exc:
        raise errors.SettingsError(f"--output {path} cannot be written: {exc.strerror or exc}") from exc
    return len(body)


def data(report: Report, shown: Iterable[figures.Plot]) -> dict[str, Any]:
    """What the page's script reads: slices as indices of names (-1: fits every choice; several inputs as a list), and
    the figures."""
    names: dict[str, list[Any]] = {
        "model": list(dict.fromkeys(one.model for one in report.slices)),
        "input": list(dict.fromkeys(one.input for one in report.slices if isinstance(one.input, str))),
        "threads": sorted({one.threads for one in report.slices if one.threads is not None}),
        "place": [place.name for place in report.places],
    }
    at = {field: {name: number for number, name in enumerate(found)} for field, found in names.items()}
    return {
        "names": names,
        "slices": [
            [at["model"][one.model], _inputs(one, at["input"]), at["threads"].get(one.threads, -1), one.place]
            for one in report.slices
        ],
        "start": _start(report) if len(report.lines) > MANY_LINES else {},
        "most": plots.MOST_POINTS,
        "styles": {"colours": figures.COLOURS, "dashes": figures.DASHES, "symbols": figures.SYMBOLS},
        **_coded(shown),
    }


def _inputs(one: Slice, at: dict[Any, int]) -> int | list[int]:
    return [at[name] for name in one.input] if isinstance(one.input, tuple) else at.get(one.input, -1)


def _coded(shown: Iterable[figures.Plot]) -> dict[str, Any]:
    """The figures, with the names of strategies once in a list: thousands of points repeat them."""
    labels: dict[str, int] = {}

    def code(plot: figures.Plot, trace: figures.Figure) -> figures.Figure:
        if plot.rows:
            return trace | {"y": [labels.setdefault(name, len(labels)) for name in trace["y"]]}
        return trace | {"name": labels.setdefault(trace["name"], len(labels))} if "meta" in trace else trace

    found = [
        {name: getattr(plot, name) for name in _TOLD} | {"data": [code(plot, one) for one in plot.data]}
        for plot in shown
    ]
    return {"plots": found, "labels": list(labels)}


_TOLD = ("name", "layout", "rows", "sorted", "free", "told", "curves", "common")
"""What the page's script is told of each plot besides its traces."""


@functools.cache
def environment() -> jinja2.Environment:
    """Templates with escaping on, and the project's way to write numbers."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("scheduler.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
    filters: dict[str, Callable[..., str]] = {
        "seconds": metrics.seconds,
        "size": metrics.bytes_,
        "ratio": metrics.ratio,
        "percent": metrics.percent,
        "three": lambda value: NOTHING if value is None else metrics.three(value),
        "counted": metrics.counted,
        "interval": _interval,
        "amount": amounts.text,
        "short": lambda label: NOTHING if label is None else compare.short(label),
        "points": _points,
        "when": _when,
        "isa": lambda names: ", ".join(alike.isa_summary(names)),
        "short_cpu": labels.short_cpu,
    }
    found.filters.update(filters)
    return found


def text(name: str) -> str:
    """One of the package's own files."""
    return (importlib.resources.files("scheduler.report") / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def plotly_script() -> str:
    """plotly.js as the installed package carries it; SettingsError where it is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as exc:
        raise errors.SettingsError("a report needs plotly: pip install 'quantfleet[report]'") from exc
    found: str = get_plotlyjs()
    # inside of a page the library's text may not end its own element
    return re.sub("</script", r"<\\/script", found, flags=re.IGNORECASE)


@functools.cache
def packed_plotly() -> str:
    """plotly.js as a page carries it, gzip in base64: two fifths of its size; the page's script unpacks it."""
    return base64.b64encode(gzip.compress(plotly_script().encode(), PACKED, mtime=0)).decode()


def _own(source: str) -> markupsafe.Markup:
    """Text of the package's own files, which goes into the page as it is."""
    return markupsafe.Markup(source)  # noqa: S704 - no value of a result comes here


def _digests(scripts: Iterable[str]) -> str:
    """Sources of a policy: browsers take the digest of exactly what stands between the tags."""
    found = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{digest}'" for digest in found)


def _start(report: Report) -> dict[str, Any]:
    """The choice that the page opens with: the case with the most gains, a call of a model rather than an operation."""
    rows = [line.found for line in report.lines if line.found.gain is not None]
    cases = Counter((row.model, row.input, row.threads) for row in rows if row.kind in points.KINDS)
    cases = cases or Counter((row.model, row.input, row.threads) for row in rows)
    return dict(zip(("model", "input", "threads"), cases.most_common(1)[0][0], strict=True)) if cases else {}


def _packages(report: Report) -> list[tuple[str, list[str]]]:
    """Every version and setting of the platforms' software: name → what each has."""
    known = [labels.software(place.platform.environment) for place in report.places]
    names = dict.fromkeys(name for found in known for name in found)
    return [(name, [found.get(name, NOTHING) for found in known]) for name in names]


def _interval(low: float | None, high: float | None, scale: float = 1.0, digits: int = 2) -> str:
    """` [2.29, 2.53]`, or nothing."""
    return "" if low is None or high is None else f" [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def _points(value: float | None) -> str:
    """A difference of shares in points, with its sign."""
    return NOTHING if value is None else f"{100 * value:+.1f}"


def _when(moment: float | None) -> str:
    """Epoch seconds as a date and time, UTC."""
    return NOTHING if moment is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))
