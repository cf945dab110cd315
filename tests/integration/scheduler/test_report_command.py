from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

pytest.importorskip("plotly", reason="plotly is not installed")

from scheduler.cli import decide, report
from scheduler.report import chains as drawn
from scheduler.report import contents, page, reading
from storage import errors, hosts, lifecycle, metrics, records
from storage.database import Database
from tests import builders, chains, chromium, fleets, reports
from tests.unit.scheduler.report.weights import WEIGHT, document

app = typer.Typer()
app.command()(report.report)
command = typer.Typer()
command.command()(decide.show_pareto)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def measured(db: Database, host: str, platform: records.Platform, gain: float, case: records.Case) -> None:
    """A result with raw samples."""
    hosts.register(db, name=host, platform=platform)
    jobs = [builders.planned(case, platform.key)]
    (job_id,) = lifecycle.submit(db, study=lifecycle.StudyText(name="demo", text="name: demo # <b>"), jobs=jobs).new
    held = lifecycle.claim(db, job_id, host=host, platform_key=platform.key, lease=60)
    assert held is not None
    interval = records.Interval(value=gain, low=gain * 0.9, high=gain * 1.1)
    lifecycle.finish(db, held, builders.latency(gain=interval, flags=()), reports.legs())


@pytest.fixture
def filled(sqlite: str) -> str:
    """Two machines, two thread counts, a strategy whose name is markup."""
    with Database.open(sqlite) as db:
        for threads in (1, 2):
            measured(db, "big", fleets.EPYC, 1.4 * threads, builders.case(threads=threads))
            measured(db, "old", fleets.OLD, 0.5, builders.case(threads=threads))
        measured(db, "big", fleets.EPYC, 2.2, builders.case(strategy=f"torch/{reports.NASTY}"))
    return sqlite


def data(path: Path) -> dict[str, object]:
    """What the page's script reads."""
    text = re.search(r'id="report-data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert text is not None
    found: dict[str, object] = json.loads(text.group(1))
    return found


def test_a_study_becomes_one_file(filled: str, tmp_path: Path) -> None:
    result = call("demo", "--database", filled, "-o", str(tmp_path / "r.html"))
    assert result.exit_code == 0, result.output
    assert "5 cases on 2 machines" in result.output
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Study demo" in text
    assert "×1.40* [1.26, 1.54]" in text
    assert "name: demo # &lt;b&gt;" in text
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html"] == ["r.html"]
    assert str(tmp_path) not in text  # where the database lies is nobody's business


def test_raw_samples_come_as_quantiles(filled: str, tmp_path: Path) -> None:
    call("--database", filled, "-o", str(tmp_path / "r.html"))
    (boxes,) = (plot for plot in data(tmp_path / "r.html")["plots"] if plot["name"] == "latencies")  # type: ignore[attr-defined]
    by_side = {trace["name"]: trace for trace in boxes["data"]}
    assert by_side["strategy"]["median"] == pytest.approx([10.99] * 5, rel=1e-3)
    assert by_side["baseline"]["median"] == pytest.approx([21.98] * 5, rel=1e-3)


def test_the_fronts_are_those_that_the_pareto_command_shows(filled: str, tmp_path: Path) -> None:
    call("--database", filled, "-o", str(tmp_path / "r.html"))
    (plot,) = (one for one in data(tmp_path / "r.html")["plots"] if one["name"].startswith("pareto-"))  # type: ignore[attr-defined]
    shown = {text for trace in plot["data"] if "text" in trace for text in trace["hovertext"]}
    told = CliRunner().invoke(command, ["--database", filled, "--json"], env={"TERM": "dumb"})
    fronts = json.loads(told.stdout)["fronts"]
    named = {f"{one['strategy']}, {metrics.counted(one['threads'], 'thread')}" for f in fronts for one in f["points"]}
    assert shown == {html.escape(name, quote=False) for name in named}
    assert "the same fronts" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_jobs_that_all_failed_make_a_page_with_their_reasons(sqlite: str, tmp_path: Path) -> None:
    with Database.open(sqlite) as db:
        hosts.register(db, name="big", platform=fleets.EPYC)
        jobs = [builders.planned(builders.case(), fleets.EPYC.key)]
        (job_id,) = lifecycle.submit(db, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=jobs).new
        held = lifecycle.claim(db, job_id, host="big", platform_key=fleets.EPYC.key, lease=60)
        assert held is not None
        lifecycle.fail(db, held, records.Failure(reason="unsupported", message="this CPU lacks <avx2>"))
    result = call("demo", "--database", sqlite, "-o", str(tmp_path / "r.html"))
    assert result.exit_code == 0, result.output
    assert "unsupported: this CPU lacks &lt;avx2&gt;" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_filters_of_the_command_line_leave_out_for_good(filled: str, tmp_path: Path) -> None:
    call("--database", filled, "-o", str(tmp_path / "r.html"), "--threads", "2", "--hardware", "EPYC")
    names = data(tmp_path / "r.html")["names"]
    assert names["threads"] == [2]  # type: ignore[index]
    assert names["place"] == ["EPYC 9B14"]  # type: ignore[index]
    assert "narrowed to hardware EPYC, threads 2" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_large_study_has_pages_of_whole_inputs(filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database.open(filled) as db:
        measured(db, "big", fleets.EPYC, 1.7, builders.case(input=records.InputSpec(batch=1, length=128, calls=4)))
    monkeypatch.setattr(reading, "LINES", 2)
    inputs = []
    for number, words in (("1", "5 cases on 2 machines"), ("2", "1 case on 1 machine")):
        result = call("demo", "--database", filled, "-o", str(tmp_path / f"{number}.html"), "--page", number)
        assert words in result.output
        assert f"page {number} of 2" in result.output
        inputs.append(data(tmp_path / f"{number}.html")["names"]["input"])  # type: ignore[index]
        assert f"Page {number} of 2" in (tmp_path / f"{number}.html").read_text(encoding="utf-8")
    assert inputs == [["b1×l16"], ["b1×l128"]]
    whole = call("demo", "--database", filled, "-o", str(tmp_path / "all.html"), "--page", "all")
    assert "6 cases on 2 machines" in whole.output
    assert "page 1" not in whole.output
    narrowed = call("demo", "--database", filled, "-o", str(tmp_path / "n.html"), "--threads", "1", "--page", "2")
    assert "1 case on 1 machine" in narrowed.output


def test_histograms_of_a_weight_can_be_given(filled: str, tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps(document(layer="encoder.0")))
    call(
        "--database", filled, "-o", str(tmp_path / "r.html"), "--weights", str(tmp_path / "w.json"), "--title", "A & B"
    )
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<h1>A &amp; B</h1>" in text
    assert "<h3>encoder.0</h3>" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dmeo",), "no study is called 'dmeo'; did you mean 'demo'?"),
        (("--strategy", "torch/int8-dynamik"), "did you mean 'torch/int8-dynamic'?"),
        (("-o", "none/r.html"), "there is no folder none; make it first"),
        (("-o", "."), "is a folder: name a file in it"),
        (("--weights", "none.json"), "none.json: No such file"),
        (("--page", "2"), "there is no page 2 of 1"),
        (("--page", "two"), "--page two: a number from 1 on, or `all`"),
    ],
)
def test_what_the_person_can_mend_is_told(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error = call("--database", filled, *arguments).exception
    assert isinstance(error, errors.UserError)
    assert message in str(error)
    assert {path.name.partition(".")[0] for path in tmp_path.iterdir()} == {"quantfleet"}  # the database alone


def test_a_study_without_results_makes_no_page(sqlite: str, tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    error = call("--database", sqlite, "-o", str(target)).exception
    assert isinstance(error, errors.QueryError)
    assert "`quantfleet run STUDY` measures a study" in str(error)
    with Database.open(sqlite) as db:
        jobs = [builders.planned(builders.case(), fleets.EPYC.key)]
        lifecycle.submit(db, study=lifecycle.StudyText(name="demo", text="name: demo"), jobs=jobs)
    assert "study demo has no results yet: 1 job wait" in str(
        call("demo", "--database", sqlite, "-o", str(target)).exception
    )
    assert not target.exists()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    """A page of a headless Chromium."""
    executable = chromium.find()
    if executable is None:
        pytest.skip("no Chromium is installed here")
    with chromium.browser(executable, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def choose(browser: chromium.Page, field: str, option: str) -> None:
    """As a person picks an option of a filter."""
    browser.value(
        f"(() => {{ const select = document.forms.filters.elements['{field}'];"
        f" select.value = [...select.options].find(one => one.text === '{option}').value;"
        " select.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


@pytest.mark.slow
def test_a_browser_opens_it_without_complaint_or_request_and_filters_work(
    filled: str, tmp_path: Path, browser: chromium.Page
) -> None:
    target = tmp_path / "r.html"
    assert call("--database", filled, "-o", str(target)).exit_code == 0
    browser.look(1000, 800)
    browser.open(target.as_uri())
    browser.until("document.querySelector('#plot-gains .main-svg')")
    points = "document.querySelectorAll('#plot-gains .points path').length"
    rows = "[...document.querySelectorAll('tr[data-n]')].filter(row => !row.hidden).length"
    assert (browser.value(points), browser.value(rows)) == (5, 5)
    for field, option, left in (("threads", "2", 2), ("place", "EPYC 9B14", 1)):
        choose(browser, field, option)
        assert (browser.value(rows), browser.value(points)) == (left, left)
    browser.value("document.querySelector('#filters [type=reset]').click()")
    browser.until(f"{rows} === 5")
    for name in ("latencies", "curves", "scaling"):
        browser.value(f"document.getElementById('plot-{name}').scrollIntoView({{behavior: 'instant'}})")
        browser.until(f"document.querySelector('#plot-{name} .main-svg')")
    assert browser.value("document.querySelector('#plot-gains').textContent.includes('<script>alert(1)')")  # as text
    browser.look(390, 844, dark=True)
    browser.until("document.querySelector('#plot-gains .main-svg').clientWidth <= 390")
    assert browser.value("document.documentElement.scrollWidth") <= 390  # nothing sticks out of a phone
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert browser.requests == [target.as_uri()]
    assert browser.complaints == []


@pytest.mark.slow
def test_steps_and_weights_are_drawn_and_the_steps_follow_the_filters(tmp_path: Path, browser: chromium.Page) -> None:
    views = [*chains.chain(chains.DUAL), *chains.chain(chains.QUAD, factor=1.5, host="two")]
    rows, platforms = chains.compared(views), [chains.DUAL, chains.QUAD]
    found = drawn.waterfalls(rows, platforms)
    whole = contents.report(rows, platforms, reports.about(), waterfalls=found, weights=[WEIGHT])
    target = tmp_path / "r.html"
    page.write(page.html(whole), target)
    browser.look(1000, 800)
    browser.open(target.as_uri())
    for name in ("waterfall-0", "waterfall-1", "weight-0"):
        browser.value(f"document.getElementById('plot-{name}').scrollIntoView({{behavior: 'instant'}})")
        browser.until(f"document.querySelector('#plot-{name} .main-svg')")
    bars = "document.querySelectorAll('#plot-{} .bars .point').length"
    assert [browser.value(bars.format(f"waterfall-{n}")) for n in (0, 1)] == [
        len(one.steps) for one in whole.waterfalls
    ]
    assert browser.value(bars.format("weight-0")) > 10
    shown = "[0, 1].filter(n => document.getElementById(`plot-waterfall-${n}`).checkVisibility())"
    places = [whole.places[whole.slices[one.slice].place].name for one in whole.waterfalls]
    choose(browser, "place", places[1])
    assert browser.value(shown) == [1]
    choose(browser, "place", "all machines")
    assert browser.value(shown) == [0, 1]
    assert browser.requests == [target.as_uri()]
    assert browser.complaints == []


@pytest.mark.slow
def test_the_browser_tells_of_requests_and_complaints(tmp_path: Path, browser: chromium.Page) -> None:
    """What the test above rests on."""
    (tmp_path / "bad.html").write_text("<img src='http://127.0.0.1:9/x'><script>console.error('no'); f()</script>")
    browser.open((tmp_path / "bad.html").as_uri())
    assert "http://127.0.0.1:9/x" in browser.requests
    assert {found["method"] for found in browser.complaints} >= {"Runtime.exceptionThrown", "Runtime.consoleAPICalled"}


def test_the_page_s_own_files_come_with_the_package() -> None:
    for name in ("report.css", "report.js", "report.html", "base.html", "macros.html"):
        assert page.text(name)
