"""Pictures of a report for the documentation: `python -m tests.pictures REPORT.html docs/images`.

Each is one window of a headless Chromium at a section; names after the folder pick some of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests import chromium

SETTLE_S = 0.7
"""Plots are drawn when they come near the window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One window onto a page."""

    section: str  # id of an element that is scrolled to; "": the top
    width: int = 1280  # px
    height: int = 900
    dark: bool = False


PICTURES = {
    "report-top": Picture(section=""),
    "report-gains": Picture(section="gains"),
    "report-latencies": Picture(section="latencies"),
    "report-curves": Picture(section="plot-curves"),
    "report-pareto": Picture(section="pareto"),
    "report-scaling": Picture(section="scaling"),
    "report-waterfall": Picture(section="waterfall"),
    "report-weights": Picture(section="weights"),
    "report-noise": Picture(section="noise"),
    "report-machines": Picture(section="machines"),
    "report-phone": Picture(section="gains", width=390, height=844),
    "report-phone-pareto": Picture(section="pareto", width=390, height=844),
    "report-dark": Picture(section="gains", dark=True),
}


def take(page: chromium.Page, source: Path, picture: Picture, target: Path) -> None:
    """Open a report as the picture wants it, and keep what the window shows."""
    page.look(picture.width, picture.height, dark=picture.dark)
    page.open(source.resolve().as_uri())
    page.until("typeof Plotly !== 'undefined'")  # the page unpacks it
    if picture.section:
        page.value(f"document.getElementById('{picture.section}').scrollIntoView({{behavior: 'instant'}})")
        time.sleep(SETTLE_S)  # what is drawn above moves the section
        page.value(f"document.getElementById('{picture.section}').scrollIntoView({{behavior: 'instant'}})")
    time.sleep(SETTLE_S)
    page.picture(target)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="a page of `quantfleet report`")
    parser.add_argument("folder", type=Path, help="where the PNG files go")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PICTURES)}; all unless given")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(PICTURES))
    executable = chromium.find()
    if unknown or executable is None:
        parser.error(f"no picture is called {unknown[0]}" if unknown else "no Chromium is installed here")
    with tempfile.TemporaryDirectory() as profile, chromium.browser(executable, Path(profile)) as page:
        for name in given.names or PICTURES:
            take(page, given.report, PICTURES[name], given.folder / f"{name}.png")
            print(given.folder / f"{name}.png", *(f"{one}" for one in page.complaints))


if __name__ == "__main__":
    main()
