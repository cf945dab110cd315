from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("plotly", reason="plotly is not installed")

from starlette.testclient import TestClient

from scheduler import progress
from scheduler.cli import serve
from scheduler.report import reading
from scheduler.serve import app
from storage import errors, hosts, lifecycle, records
from storage.database import Database
from tests import builders, fleets, reports, services
from tests.integration.scheduler.test_results_command import measure

ANYWHERE = "0.0.0.0"  # noqa: S104


@pytest.fixture
def fleet(address: str) -> str:
    """Two machines measured one case, one of them stopped; a job waits, one runs; a study's name is markup."""
    with Database.open(address) as db:
        measure(db, "big", fleets.EPYC, 1.4, builders.case())
        measure(db, "old", fleets.OLD_TORCH, 0.5, builders.case())
        jobs = [builders.planned(builders.case(threads=2), fleets.EPYC.key)]
        lifecycle.submit(db, study=lifecycle.StudyText(name=reports.NASTY, text=f"name: {reports.NASTY}"), jobs=jobs)
        (running,) = lifecycle.submit(
            db,
            study=lifecycle.StudyText(name="more", text="name: more"),
            jobs=[builders.planned(builders.case(threads=4), fleets.EPYC.key)],
        ).new
        assert lifecycle.claim(db, running, host="big", platform_key=fleets.EPYC.key, lease=60)
        hosts.goodbye(db, "old")
    return address


@pytest.fixture
def visitor(fleet: str) -> Iterator[TestClient]:
    with TestClient(app.application(fleet, token=None), base_url="http://localhost") as opened:
        yield opened


def test_the_first_page_shows_studies_with_their_progress(visitor: TestClient) -> None:
    found = visitor.get("/")
    assert found.status_code == 200
    assert "2 hosts: 1 measuring, 0 idle, 1 not here" in found.text
    assert 'value="2"' in found.text  # demo's two results
    assert "1 running" in found.text
    assert '<meta http-equiv="refresh" content="5">' in found.text
    assert "<script>alert" not in found.text
    assert "refresh" not in visitor.get("/?refresh=0").text.replace("refresh=0", "")


def test_old_studies_stand_behind_a_link(visitor: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "RECENT", 0)
    text = visitor.get("/").text
    assert ("/compare?study=" in text, '<a href="/?all=1">1 older study</a>' in text) == (True, True)
    assert "demo" not in text  # it has come to its end; the others have jobs to do
    assert "demo" in visitor.get("/?all=1").text


def test_hosts_say_what_they_are_and_do(visitor: TestClient) -> None:
    text = visitor.get("/hosts").text
    assert re.search(r"big.*?latency minilm torch/int8-dynamic b1×l16, 4 threads", text, re.DOTALL)
    assert "stopped" in text
    assert "torch 2.12.1" in text


def test_a_study_shows_where_its_jobs_are(visitor: TestClient) -> None:
    text = visitor.get("/studies/more").text
    assert "0 of 1" in text
    assert "big: latency minilm" in text


def test_compare_and_report_show_the_gains(visitor: TestClient) -> None:
    for path in ("/compare?study=demo", "/report?study=demo", "/report"):
        found = visitor.get(path)
        assert found.status_code == 200
        assert "×1.40* [1.26, 1.54]" in found.text
        assert '<script src="/static/report.js">' in found.text
    assert "How the numbers were obtained" not in visitor.get("/compare").text


def test_a_large_result_has_pages_with_links(fleet: str, visitor: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database.open(fleet) as db:
        measure(db, "big", fleets.EPYC, 1.7, builders.case(input=records.InputSpec(batch=1, length=128, calls=4)))
    monkeypatch.setattr(reading, "LINES", 2)
    first, second = (visitor.get(f"/compare?study=demo&page={number}").text for number in (1, 2))
    assert ("×1.40*" in first, "×1.70*" in first) == (True, False)
    assert ("×1.40*" in second, "×1.70*" in second) == (False, True)
    assert '<a href="/compare?study=demo&amp;page=2">2</a>' in first
    assert '<a href="/report?study=demo&amp;page=2">' in second
    assert visitor.get("/report?page=3").status_code == 404
    assert visitor.get("/report?page=one").status_code == 404


def test_scripts_and_style_come_from_here(visitor: TestClient) -> None:
    assert "Plotly" in visitor.get("/static/plotly.js").text
    assert visitor.get("/static/report.css").headers["content-type"].startswith("text/css")
    for name in ("report.html", "..%2fpage.py", "%2e%2e/page.py"):
        assert visitor.get(f"/static/{name}").status_code == 404


def test_what_is_unknown_is_told_with_the_nearest_name(visitor: TestClient) -> None:
    for path in ("/studies/mroe", "/report?study=mroe", "/compare?study=mroe"):
        found = visitor.get(path)
        assert found.status_code == 404
        assert "did you mean &#39;more&#39;?" in found.text
    assert visitor.get("/nowhere").status_code == 404


def test_looking_writes_nothing(sqlite: str) -> None:
    with Database.open(sqlite) as db:
        measure(db, "big", fleets.EPYC, 1.4, builders.case())
    file = Path(sqlite.removeprefix("sqlite:///"))
    before = file.read_bytes()
    with TestClient(app.application(sqlite, token=None), base_url="http://localhost") as visitor:
        assert [visitor.get(path).status_code for path in ("/", "/hosts", "/compare", "/report")] == [200] * 4
    assert file.read_bytes() == before


def test_a_database_that_is_away_gets_a_page_that_says_so_and_tries_again(tmp_path: Path) -> None:
    port = services.free_port()
    away = f"postgresql://someone:{quote(services.PASSWORD, safe='')}@127.0.0.1:{port}/quantfleet"
    for address in (away, f"sqlite:///{tmp_path / 'gone.db'}"):
        with TestClient(app.application(address, token=None), base_url="http://localhost") as visitor:
            for path in ("/", "/hosts", "/report"):
                found = visitor.get(path)
                assert (found.status_code, found.headers["x-frame-options"]) == (503, "DENY")
                assert "The database is away" in found.text
                assert "Traceback" not in found.text
                assert services.PASSWORD not in found.text
                assert 'http-equiv="refresh"' in found.text


def test_a_database_that_comes_back_is_found_again(tmp_path: Path) -> None:
    file = tmp_path / "later.db"
    with TestClient(app.application(f"sqlite:///{file}", token=None), base_url="http://localhost") as visitor:
        assert visitor.get("/").status_code == 503
        Database.create_or_open(f"sqlite:///{file}").close()
        assert "No study is stored yet" in visitor.get("/").text


@pytest.mark.parametrize(
    ("host", "given", "asked"),
    [("127.0.0.1", "", False), (ANYWHERE, "", True), ("127.0.0.1", "a-token-of-my-own", True)],
)
def test_anywhere_but_on_loopback_a_token_is_made(host: str, given: str, asked: bool) -> None:
    from scheduler.serve import access

    token = serve._token(given, loopback=access.is_loopback(host))
    assert (token is not None) is asked
    assert given in ("", token)
    if asked and not given:
        assert token != serve._token("", loopback=False)
        assert len(str(token)) >= 40


def test_a_short_token_is_refused() -> None:
    with pytest.raises(errors.SettingsError, match="at least 16 letters"):
        serve._token("secret", loopback=True)


def test_a_port_that_is_taken_and_an_address_of_another_machine_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.SettingsError, match=rf"port {port}: Address already in use; --port 0"):
            serve._listen("127.0.0.1", port)
    with pytest.raises(errors.SettingsError, match="Cannot assign requested address; --host"):
        serve._listen("192.0.2.1", 0)
    with pytest.raises(errors.SettingsError, match=r"no\.such\.name\.invalid port 0: no such name"):
        serve._listen("no.such.name.invalid", 0)


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(sqlite: str, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("quantfleet")), "serve", "--port", "0", "--database", sqlite]
    environ = {**os.environ, "QUANTFLEET_SERVE_TOKEN": "a-token-of-my-own"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as served:
        try:
            assert served.stdout is not None
            address = served.stdout.readline().strip()
            assert "token" not in address  # it is known already: a log need not hold it
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(address)  # noqa: S310
            asked = urllib.request.Request(address, headers={"Authorization": "Bearer a-token-of-my-own"})  # noqa: S310
            with urllib.request.urlopen(asked) as answer:  # noqa: S310
                assert b"No study is stored yet" in answer.read()
            served.send_signal(signal.SIGINT)
            _, told = served.communicate(timeout=20)
        finally:
            served.kill()
    assert served.returncode == 0, told
    assert "Traceback" not in told
