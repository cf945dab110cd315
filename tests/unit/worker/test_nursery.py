from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from storage import errors, settings
from tests import builders
from worker import nursery, station


def test_a_measured_process_sees_no_address_and_no_secret() -> None:
    seen = nursery.environment(
        {
            "QUANTFLEET_DATABASE": "postgresql://me:hunter2@host/db",
            "CELERY_BROKER_URL": "redis://:hunter2@host",
            "PGPASSWORD": "hunter2",
            "MY_API_TOKEN": "hunter2",
            "HF_TOKEN": "hunter2",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "OMP_PROC_BIND": "close",
            "PATH": "/bin",
        }
    )

    assert "hunter2" not in "".join(seen.values())
    assert seen["OMP_PROC_BIND"] == "close", "what moves numbers must pass"
    assert seen["PATH"] == "/bin"


def test_a_measured_process_sees_no_password_of_database_or_broker_under_any_name() -> None:
    addresses = ("postgresql://me:hunter2%2Fx@host/db", "redis://:swordfish@host/0")
    seen = nursery.environment(
        {
            "DATABASE_URL": "postgresql://me:other@host/db",
            "REDIS_URL": "redis://:swordfish@host",
            "PGPASSFILE": "/home/me/.pgpass",
            "REDISCLI_AUTH": "swordfish",
            "MY_SETTING": "hunter2/x",
            "OTHER": "x hunter2%2Fx y",
            "SIGNING_KEY": "anything",
            "HTTPS_PROXY": "http://me:word@proxy:3128",
            "PATH": "/bin:/usr/swordfish/bin",
            "LANG": "C",
        },
        addresses,
    )
    ours = {name for name in seen if name in ("HTTPS_PROXY", "PATH", "LANG")}
    assert ours == {"HTTPS_PROXY", "PATH", "LANG"}, "downloads and programs need these"
    assert not {"DATABASE_URL", "REDIS_URL", "PGPASSFILE", "REDISCLI_AUTH", "MY_SETTING", "OTHER", "SIGNING_KEY"} & set(
        seen
    )


def test_the_launcher_of_a_fleet_is_the_tools_own_and_a_shell_is_not(tmp_path: Path) -> None:
    embedded = settings.load(cache=tmp_path, broker="")
    fleet = settings.load(cache=tmp_path, broker="redis://host")
    parent = os.getppid()
    assert station.Station(embedded, builders.platform()).own_pids() == [parent]
    assert station.Station(fleet, builders.platform()).own_pids() == [parent, psutil.Process(parent).ppid()]


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("os.kill(os.getpid(), 9)", errors.ChildDied, "ended by signal SIGKILL while it started"),
        ("sys.exit(3)", errors.ChildFailed, r"did not start \(exit code 3\)"),
    ],
)
def test_a_nursery_that_is_killed_while_it_starts_has_died_and_one_that_gives_up_has_failed(
    monkeypatch: pytest.MonkeyPatch, line: str, error: type[Exception], message: str
) -> None:
    def spawn(family: str, environ: object, control: int, sink: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", f"import os, sys; {line}"], pass_fds=[control], stderr=sink)

    monkeypatch.setattr(nursery, "_spawn", spawn)
    with pytest.raises(error, match=message) as raised:
        nursery.Nursery("torch", {}, None).fork(lock=0, memory_bytes=2**30, tick=lambda: None)
    assert getattr(raised.value, "signal", None) == (9 if error is errors.ChildDied else None)


def test_a_nursery_that_hangs_while_it_starts_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def spawn(family: str, environ: object, control: int, sink: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "60"], pass_fds=[control], start_new_session=True))
        return started[0]

    monkeypatch.setattr(nursery, "_spawn", spawn)
    monkeypatch.setattr(nursery, "_READY_S", 0.1)
    with pytest.raises(errors.ChildDied, match=r"did not answer for 0\.1 s"):
        nursery.Nursery("torch", {}, None).fork(lock=0, memory_bytes=2**30, tick=lambda: None)
    assert started[0].poll() is not None
