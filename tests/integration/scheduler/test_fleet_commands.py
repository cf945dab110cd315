"""`watch`, `status`, `cancel`, `retry`, `hosts` and `worker` against real Postgres and Redis, without any worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from scheduler import progress
from storage import database, errors, hosts, lifecycle, queries, records
from storage.catalogue import registry
from tests import builders, services
from tests.integration.scheduler.conftest import STUDY, Bench, bench

T = TypeVar("T")

BROKEN = records.Failure(reason="error", message="it broke [red]here[/red]")


@pytest.fixture
def busy(fleet: Bench) -> Bench:
    """Hosts a and b of two platforms; of a's 6 jobs one is done, one failed, one runs; b is away."""
    fleet.join("a", region="eu")
    fleet.join("b", builders.platform("Intel Xeon"))
    fleet.good("submit", fleet.study())
    here = builders.platform().key
    first, second, third, _ = [
        job for job in fleet.jobs() if job.platform_key == here and job.strategy.startswith("torch/")
    ]
    fleet.work(first, "a")
    fleet.work(second, "a", failure=BROKEN)
    claim = lifecycle.claim(fleet.db, third.id, host="a", platform_key=here, lease=60)
    assert claim is not None
    so_far = {"phase": "measuring", "gain": 2.0, "gain_low": 1.9, "gain_high": 2.1, "pairs": 3, "rounds": 12}
    lifecycle.renew(fleet.db, claim, lease=60, progress=so_far)
    _unseen(fleet, "b", 200)
    return fleet


def test_status_of_all_lists_studies_newest_first_and_the_hosts(busy: Bench) -> None:
    busy.good("submit", busy.study(STUDY.replace("demo", "second"), "second.yaml"))

    lines = busy.good("status").out.splitlines()
    document = busy.good("status", "--json").document

    assert lines[0].startswith("second  2 of 12 jobs at their end: 1 running, 9 queued, 1 done, 1 failed")
    assert any(line.startswith("demo  2 of 12 jobs") for line in lines)
    assert lines[-1] == "2 hosts: 1 measuring, 0 idle, 1 away"
    assert [study["name"] for study in document["studies"]] == ["second", "demo"]
    assert document["studies"][1]["states"] == {"done": 1, "failed": 1, "queued": 9, "running": 1}


def test_status_leaves_out_old_studies_that_are_at_their_end(busy: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "RECENT", 0)
    jobs = [builders.planned(platform_key=builders.platform().key, replica=77)]
    (job_id,) = lifecycle.submit(busy.db, study=lifecycle.StudyText(name="old", text="name: old"), jobs=jobs).new
    assert "old  0 of 1 jobs" in busy.good("status").out
    lifecycle.cancel(busy.db, [job_id])

    recent = busy.good("status").out

    assert ("old  " in recent, "demo  2 of 12 jobs" in recent) == (False, True)
    assert "1 older study is at its end: --all" in recent
    assert "old  1 of 1 jobs" in busy.good("status", "--all").out
    assert {one["name"] for one in busy.good("status", "--json").document["studies"]} == {"demo", "old"}


def test_status_of_a_study_tells_places_running_jobs_failures_and_what_waits_for_whom(busy: Bench) -> None:
    out = busy.good("status", "demo").out

    said = " ".join(out.split())
    assert "demo: 1 running, 9 queued, 1 done, 1 failed; waits for hosts" in said
    assert "a: r torch/fp32 · 2 threads · b1×l16" in said
    assert "×2.00 [×1.90 – ×2.10], 3 pairs, 12 rounds" in said
    assert "6 jobs for platform" in said
    assert "wait: b is away for 3 min" in said
    assert "1 failed: it broke [red]here[/red]" in said
    assert "try again: quantfleet retry demo --state failed" in said
    assert max(map(len, out.splitlines())) <= 80


def test_status_as_json_has_the_same(busy: Bench) -> None:
    document = busy.good("status", "demo", "--json").document

    places = {place["hosts"][0]["name"]: place for place in document["places"]}
    assert places["a"]["states"] == {"done": 1, "failed": 1, "queued": 3, "running": 1}
    assert places["a"]["ended_on"] == {"a": 2}
    assert places["a"]["waits_for"] is None
    assert places["b"]["waits_for"] == "b is away for 3 min"
    assert (places["b"]["left_s"], document["left_s"]) == (None, None)
    (running,) = document["running"]
    assert (running["host"], running["progress"]["pairs"], running["studies"]) == ("a", 3, ["demo"])
    (failure,) = document["failures"]
    assert (failure["state"], failure["message"], failure["count"]) == ("failed", BROKEN.message, 1)


def test_status_knows_a_study_by_its_file_and_its_id_and_the_nearest_of_an_unknown_name(busy: Bench) -> None:
    study_id = queries.studies(busy.db)[0].id
    for given in ("study.yaml", study_id, study_id[:8]):
        assert busy.good("status", given).out.startswith("demo: ")
    ended = busy.call("status", "dmeo")
    assert ended.code == 2
    assert "no study is called 'dmeo'; did you mean 'demo'? (there is demo)" in ended.err


def test_jobs_for_a_host_that_was_forgotten_or_changed_are_told(fleet: Bench) -> None:
    fleet.join("a")
    fleet.join("b", builders.platform("Intel Xeon"))
    fleet.good("submit", fleet.study(), "--target", "every-host")
    hosts.forget(fleet.db, "a")
    fleet.join("b", builders.platform("Intel Xeon", torch="2.14.0"))

    said = " ".join(fleet.good("status", "demo").out.split())

    assert "6 jobs for a wait: no host is called a now" in said
    assert "6 jobs for b wait: b has other hardware or software now; `quantfleet backfill`" in said


def test_watch_prints_a_line_for_each_job_that_ends_and_tells_by_its_exit_code(fleet: Bench) -> None:
    fleet.join("a")
    fleet.good("submit", fleet.study())
    jobs = fleet.jobs()
    fleet.work(jobs[0], "a")  # it ended before anybody watched
    with fleet.start("watch", "demo") as watching:
        opening = _first_line(watching)
        fleet.work(jobs[1], "a", failure=BROKEN)
        for job in jobs[2:]:
            fleet.work(job, "a")
        out, err = watching.communicate(timeout=60)

    lines = out.splitlines()
    assert watching.returncode == 1, err
    assert opening == "1 of 6 jobs at their end; Ctrl-C ends the watching only\n"
    assert len(lines) == 6
    assert any(line.strip().startswith("failed r ") and "on a" in line for line in lines)
    assert lines[-1] == "demo: 5 done, 1 failed"


def test_watch_as_json_is_a_line_for_each_job(fleet: Bench) -> None:
    fleet.join("a")
    fleet.good("submit", fleet.study())
    with fleet.start("watch", "--json") as watching:
        opening = json.loads(_first_line(watching))
        for job in fleet.jobs():
            fleet.work(job, "a")
        out, err = watching.communicate(timeout=60)

    documents = [json.loads(line) for line in out.splitlines()]
    assert watching.returncode == 0, err
    assert opening == {"schema": 1, "jobs": 6, "finished": 0}
    assert Counter(one["job"]["state"] for one in documents) == {"done": 6}
    assert {one["job"]["id"] for one in documents} == {job.id for job in fleet.jobs()}
    assert {one["schema"] for one in documents} == {1}


def test_watch_of_a_study_that_is_done_ends_at_once(fleet: Bench) -> None:
    fleet.join("a")
    fleet.good("submit", fleet.study())
    for job in fleet.jobs():
        fleet.work(job, "a")
    assert fleet.good("watch").out == "demo: 6 done\n"


def test_ctrl_c_ends_the_watching_and_not_the_jobs(busy: Bench) -> None:
    before = busy.jobs()
    with busy.start("watch", "demo") as watching:
        _first_line(watching)
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=60)
    assert watching.returncode == 130, err
    assert "stopped watching; the jobs go on" in out
    assert busy.jobs() == before


@pytest.mark.slow
def test_watching_outlives_a_restart_of_the_database(
    fleet_servers: tuple[services.Postgres, services.Redis],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with services.folder() as folder, services.running(services.Postgres(folder=folder / "postgres")) as server:
        assert isinstance(server, services.Postgres)
        database.upgrade(server.address)
        with bench(server.address, fleet_servers[1], tmp_path, monkeypatch, capsys) as fleet:
            fleet.join("a")
            fleet.good("submit", fleet.study())
            with fleet.start("watch", "demo") as watching:
                _first_line(watching)
                server.kill()
                told = _first_line(watching)
                server.start()
                for job in _patiently(fleet.jobs):
                    fleet.work(job, "a")
                out, err = watching.communicate(timeout=60)

    assert told.startswith("still trying: database postgresql")
    assert watching.returncode == 0, err
    assert out.splitlines()[-1] == "demo: 6 done"
    assert "still trying" not in out


def test_submit_and_wait_ends_with_the_comparison(fleet: Bench) -> None:
    fleet.join("a")
    path = fleet.study(STUDY.replace(", onnxruntime/fp32", ""))
    done = threading.Thread(target=_do_all, args=[fleet, 4])
    done.start()
    try:
        with fleet.start("submit", path, "--wait", "--json") as waiting:
            out, err = waiting.communicate(timeout=60)
    finally:
        done.join()
    assert waiting.returncode == 0, err
    rows = json.loads(out)["comparisons"]
    assert {row["gain"] for row in rows} == {2.5}
    assert len(rows) == 4


def test_cancel_ends_waiting_jobs_at_once_and_flags_running_ones(busy: Bench) -> None:
    said = busy.good("cancel", "demo").out

    assert said == "10 jobs cancelled; 1 of them running: they end at their next heartbeat\n"
    assert Counter(job.state for job in busy.jobs()) == {"cancelled": 9, "running": 1, "done": 1, "failed": 1}
    assert [job.cancelling for job in busy.jobs("running")] == [True]
    assert busy.good("cancel", "demo").out == "0 jobs cancelled\n"


def test_filters_narrow_what_is_cancelled_and_words_that_name_nothing_are_told(busy: Bench) -> None:
    assert busy.good("cancel", "--strategy", "onnxruntime/*", "--json").document["cancelled"] == 4
    assert {job.strategy for job in busy.jobs("cancelled")} == {"onnxruntime/fp32"}
    assert busy.good("cancel", "demo", "--host", "a", "--json").document == {"schema": 1, "cancelled": 1, "running": 1}
    for arguments, said in (
        (["demo", "--strategy", "torch/fp23"], "--strategy: no job has 'torch/fp23'; did you mean 'torch/fp32'?"),
        (["--model", "x"], "--model: no job has 'x' (there is r)"),
        (["demo", "--host", "nobody"], "--host: no job has 'nobody' (there is a)"),
        ([], "say which jobs"),
        (["demo", "--job", "1"], "leave the study and the other filters out"),
    ):
        ended = busy.call("cancel", *arguments)
        assert (ended.code, said in ended.err) == (2, True), ended.err


def test_jobs_are_named_by_the_beginnings_of_their_ids(fleet: Bench) -> None:
    fleet.join("a")
    fleet.good("submit", fleet.study())
    with fleet.db.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM study_job")
        for number, job in enumerate(fleet.jobs()):
            change = "UPDATE job SET id = %(new)s WHERE id = %(old)s"
            connection.exec_driver_sql(change, {"new": f"abc{number}%", "old": job.id})

    assert fleet.good("cancel", "--job", "abc2", "--job", "abc4%", "--json").document["cancelled"] == 2

    assert [job.id for job in fleet.jobs("cancelled")] == ["abc2%", "abc4%"]
    for prefix, said in (("abc", "several ids begin so (abc0%, abc1%, abc2%, …)"), ("%", "no job's id begins so")):
        ended = fleet.call("cancel", "--job", prefix)
        assert (ended.code, said in ended.err) == (2, True), ended.err


def test_retry_queues_what_ended_without_a_result_and_wakes_it(busy: Bench) -> None:
    busy.good("cancel", "demo", "--strategy", "onnxruntime/*")
    busy.redis.client().flushall()

    assert busy.good("retry", "demo", "--state", "failed").out == "1 job queued again\n"
    assert sum(busy.queues().values()) == 1
    assert busy.good("retry", "demo", "--json").document == {
        "schema": 1,
        "retried": 4,
        "sent": 4,
        "not_sent": None,
    }
    assert Counter(job.state for job in busy.jobs()) == {"queued": 10, "running": 1, "done": 1}
    ended = busy.call("retry", "demo", "--state", "faild")
    assert (ended.code, "did you mean 'failed'?" in ended.err) == (2, True)


def test_retry_without_a_broker_leaves_the_publishing_to_the_workers(busy: Bench) -> None:
    ended = busy.good("retry", "demo", QUANTFLEET_BROKER="")
    assert ended.out == "1 job queued again\n"
    assert "the fleet's workers publish them within 15 s" in ended.err


def test_on_a_terminal_it_asks_before_it_cancels(busy: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def no(text: str, abort: bool) -> None:
        asked.append(text)
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", no)

    assert busy.call("cancel", "demo").code == 130

    assert asked == ["cancel 10 jobs (1 running, 9 queued)?"]
    assert busy.jobs("cancelled") == []
    assert busy.good("cancel", "demo", "--yes").out.startswith("10 jobs cancelled")


def test_hosts_shows_what_each_is_runs_and_does_within_80_columns(busy: Bench) -> None:
    busy.join("twin", builders.platform(), region="us")
    busy.join("stale", builders.platform(torch="2.12.1"))
    hosts.goodbye(busy.db, "stale")

    out = busy.good("hosts").out

    said = " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert "measuring r torch/" in said
    assert "away for 3 min" in said
    assert "6 jobs waiting" in said
    assert "stopped" in said
    assert "region=eu" in said
    assert "avx512 (bf16 vnni)" in said
    assert "a, twin are one platform: each case is measured on one of them" in said
    assert "a, twin: other software than on the same hardware: torch 2.13.0 here, 2.12.1 on stale" in said


def test_hosts_as_json_has_everything(busy: Bench) -> None:
    busy.join("twin")

    document = busy.good("hosts", "--json").document

    found: dict[str, dict[str, Any]] = {host["name"]: host for host in document["hosts"]}
    assert document["schema"] == 1
    assert {name: host["standing"] for name, host in found.items()} == {"a": "here", "b": "away", "twin": "here"}
    assert found["a"]["measuring"]["host"] == "a"
    assert (found["a"]["waiting"], found["b"]["waiting"]) == (3, 6)
    assert found["a"]["shares_platform_with"] == ["twin"]
    assert records.from_document(records.Hardware, found["a"]["hardware"]) == builders.platform().hardware


def test_a_host_that_is_gone_for_good_can_be_forgotten_and_its_results_stay(busy: Bench) -> None:
    for name, said in (("a", "a serves now"), ("bb", "did you mean 'b'?")):
        ended = busy.call("hosts", "--forget", name)
        assert (ended.code, said in ended.err) == (2, True), ended.err
    hosts.goodbye(busy.db, "a")

    busy.good("hosts", "--forget", "a")

    assert [host.name for host in queries.hosts(busy.db)] == ["b"]
    assert len(queries.results(busy.db)) == 2


def test_hosts_unseen_for_long_are_left_out_unless_jobs_wait_for_them(busy: Bench) -> None:
    busy.join("ancient", builders.platform("old"))
    _unseen(busy, "ancient", 40 * 86400)
    _unseen(busy, "b", 40 * 86400)

    short, full = busy.good("hosts").out, busy.good("hosts", "--all").out

    assert "1 host unseen for 30 days left out (--all)" in short
    assert "ancient" not in short
    assert "away for 40 days" in short
    assert "ancient" in full


def test_status_hosts_and_cancel_serve_one_machines_sqlite_too(fleet: Bench, sqlite: str) -> None:
    assert "no host is registered" in fleet.good("hosts", "--database", sqlite).out
    assert "holds no study yet" in fleet.good("status", "--database", sqlite).out
    ended = fleet.call("cancel", "demo", "--database", sqlite)
    assert (ended.code, "holds no study yet" in ended.err) == (2, True)


def test_the_worker_becomes_the_launcher_with_its_settings_in_the_environment_only(
    fleet: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *given: became.append(given))

    fleet.good(
        "worker", "--label", "region=eu", "--label", "rack=3", "--host", "epyc-1", QUANTFLEET_LABELS="zone=z,rack=1"
    )

    ((program, argv, environ),) = became
    assert (program, argv) == (sys.executable, [sys.executable, "-P", "-m", "worker.launcher"])
    assert environ["QUANTFLEET_DATABASE"] == fleet.database
    assert environ["QUANTFLEET_BROKER"] == fleet.broker
    assert environ["QUANTFLEET_HOST"] == "epyc-1"
    assert json.loads(environ["QUANTFLEET_LABELS"]) == {"zone": "z", "rack": "3", "region": "eu"}
    assert environ["PATH"]


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        ([], {"QUANTFLEET_BROKER": ""}, "a worker needs a broker to be woken by"),
        (["--label", "region"], {}, "--label region: expected NAME=VALUE"),
        (["--label", "a=1", "--label", "a=2"], {}, "--label a is given twice"),
        (["--host", "a b"], {}, "host"),
    ],
)
def test_a_worker_that_can_never_work_is_refused_early(
    fleet: Bench, arguments: list[str], environ: dict[str, str], said: str
) -> None:
    ended = fleet.call("worker", *arguments, **environ)
    assert (ended.code, said in ended.err) == (2, True), ended.err


def test_a_worker_without_its_libraries_says_which_extra_has_them(
    fleet: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "absent", lambda part: ["torch"])
    ended = fleet.call("worker")
    assert ended.code == 2
    assert "a worker needs torch, not installed here: pip install 'quantfleet[worker]'" in ended.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("quantfleet ba", ["backfill"]),
        ("quantfleet submit --w", ["--where", "--wait"]),
        ("quantfleet status d", ["demo"]),
        ("quantfleet cancel x", []),
    ],
)
def test_a_shell_completes_commands_options_and_names_of_studies(fleet: Bench, words: str, expected: list[str]) -> None:
    fleet.join("a")
    fleet.good("submit", fleet.study())
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    with fleet.start(_QUANTFLEET_COMPLETE="complete_bash", **asked) as completing:
        out, err = completing.communicate(timeout=60)
    assert out.split() == expected, err


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _patiently(ask: Callable[[], T]) -> T:
    """An answer of a server that is just starting again."""
    deadline = time.monotonic() + services.START_S
    while True:
        try:
            return ask()
        except errors.Unreachable:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _do_all(fleet: Bench, count: int) -> None:
    services.wait_for(lambda: len(fleet.jobs("queued")) == count, 30, "the jobs")
    for job in fleet.jobs("queued"):
        fleet.work(job, "a")


def _unseen(fleet: Bench, name: str, seconds: float) -> None:
    with fleet.db.transaction() as connection:
        change = "UPDATE host SET last_seen_at = last_seen_at - %(seconds)s WHERE name = %(name)s"
        connection.exec_driver_sql(change, {"seconds": seconds, "name": name})
