from __future__ import annotations

import base64
import gzip
import hashlib
import html.parser
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from scheduler.report import page, plots
from storage import errors
from storage.views import StudyView
from tests import fleets, reports

pytest.importorskip("plotly", reason="plotly is not installed")


class Reader(html.parser.HTMLParser):
    """Elements with their attributes, and the text of the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def whole() -> str:
    return page.html(reports.two_machines())


@pytest.fixture(scope="module")
def linked() -> str:
    """Without the plotting library: quicker to search."""
    return page.html(reports.two_machines(), "/static/")


def test_the_page_names_nothing_that_it_would_have_to_fetch(whole: str) -> None:
    read = Reader(whole)
    assert read.all("link") == read.all("img") == read.all("iframe") == []
    assert all("src" not in attributes for attributes in read.all("script"))
    assert {str(a["href"])[0] for a in read.all("a")} == {"#"}
    assert "url(" not in page.text("report.css")
    assert "@import" not in page.text("report.css")


def test_only_the_two_scripts_whose_digests_the_policy_names_may_run(whole: str) -> None:
    read = Reader(whole)
    (policy,) = (m["content"] for m in read.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    data, packed, script = read.scripts
    scripts = (gzip.decompress(base64.b64decode(packed)), script.encode())
    assert [base64.b64encode(hashlib.sha256(one).digest()).decode() for one in scripts] == allowed
    assert b"Plotly" in scripts[0]
    assert json.loads(data)["plots"]


def test_names_with_markup_in_them_are_text() -> None:
    names: dict[str, Any] = dict.fromkeys(("strategy", "model", "host"), reports.NASTY)
    views = [fleets.latency(fleets.EPYC, **{**names, "notes": (reports.NASTY,)}),
             fleets.failed(fleets.EPYC, strategy="a", model=reports.NASTY, message=reports.NASTY)]  # fmt: skip
    study = StudyView(id="i", name=reports.NASTY, text=reports.NASTY, submitted_at=0.0, document=None, states={})
    found = reports.report(views, studies=[study])
    text = page.html(found, "/static/")
    read = Reader(text)
    assert read.all("img") == []
    assert len(read.scripts) == 3  # the data and the two links
    assert json.loads(read.scripts[0])["names"]["model"] == [reports.NASTY]
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5


def test_a_reader_of_the_page_finds_its_way_by_headings_landmarks_and_tables(linked: str) -> None:
    read = Reader(linked)
    assert len(read.all("h1")) == len(read.all("main")) == len(read.all("title")) == 1
    assert read.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in read.found if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(read.all("caption")) == len(read.all("table"))
    assert all(th.get("scope") in ("col", "row") for th in read.all("th"))
    labelled = [div for div in read.all("div") if "plot" in (div.get("class") or "").split()]
    assert len(labelled) == len(plots.plots(reports.two_machines()))
    assert all(div["role"] == "img" and div["aria-label"] for div in labelled)
    ids = [attributes["id"] for _, attributes in read.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for a in read.all("a")} <= set(ids)


def test_every_row_that_a_filter_may_hide_names_a_slice(linked: str) -> None:
    read = Reader(linked)
    slices = json.loads(read.scripts[0])["slices"]
    rows = [int(str(tr["data-k"])) for tr in read.all("tr") if "data-k" in tr]
    assert rows
    assert all(0 <= row < len(slices) for row in rows)
    assert sum("data-n" in tr for tr in read.all("tr")) == len(reports.two_machines().lines)


def test_each_section_says_what_it_lacks(linked: str) -> None:
    assert "quantfleet model inspect MODEL --layer LAYER --json &gt; weight.json" in linked
    bare = page.html(reports.report([fleets.latency(fleets.EPYC)], spreads={}), "/static/")
    assert "No raw samples are stored" in bare
    assert "threads: [1, 2]" in bare
    assert "kinds: [tensor]" in bare
    nothing = page.html(reports.report([]), "/static/")
    assert "There are no results here yet" in nothing


def test_a_page_of_many_lines_opens_on_one_case() -> None:
    few = page.data(reports.two_machines(), [])
    assert few["start"] == {}
    calls = [fleets.latency(fleets.EPYC, strategy=f"s{n}", threads=2 - (n > 60)) for n in range(70)]
    operations = [fleets.latency(fleets.EPYC, kind="tensor", input="8×8", strategy=f"mul/{n}") for n in range(99)]
    many = reports.report([*calls, *operations])
    assert page.data(many, [])["start"] == {"model": "minilm", "input": "b1×l16", "threads": 2}


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("old")
    assert page.write("né", tmp_path / "r.html") == 3
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == "né"
    with pytest.raises(errors.SettingsError, match="cannot be written"):
        page.write("new", tmp_path / "none" / "r.html")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
