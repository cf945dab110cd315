from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from storage import database, settings
from storage.catalogue import registry
from worker import services


def test_a_missing_package_comes_with_the_line_that_installs_it() -> None:
    everything = dict.fromkeys(registry.PACKAGES, "1.0")
    assert all(finding.level == "ok" for finding in services.runtimes(everything))

    without = {name: version for name, version in everything.items() if name != "onnxruntime"}
    missing = {finding.check: finding for finding in services.runtimes(without)}
    assert missing["extra onnxruntime"].level == "warn"
    assert missing["extra onnxruntime"].advice == "pip install 'quantfleet[onnxruntime]'"
    assert missing["extra worker"].level == "ok"

    assert {finding.level for finding in services.runtimes({})} == {"bad"}


def test_the_measuring_lock_tells_who_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert services.measuring_lock(lock).level == "ok"
    lock.write_text("4711 rome\n")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = services.measuring_lock(lock)
    assert found.level == "warn"
    assert "4711 (rome)" in found.seen
    assert services.measuring_lock(lock).level == "ok"


def test_other_processes_of_quantfleet_are_counted() -> None:
    code = "import sys; print(flush=True); sys.stdin.read()  # from worker import child"
    line = [sys.executable, "-c", code]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        seen = services.neighbours().seen
        other.kill()
    assert "other processes of quantfleet" in seen
    assert str(os.getpid()) not in seen.partition(": ")[2].split(", ")


def test_a_database_is_found_fit_missing_outdated_or_broken(tmp_path: Path) -> None:
    def check(name: str) -> tuple[str, str, str]:
        found = services.database_finding(settings.load(database=f"sqlite:///{tmp_path}/{name}"))
        return found.level, found.seen, found.advice

    assert check("new.db")[0] == "ok"
    assert check("no/folder.db")[0] == "bad"
    database.upgrade(f"sqlite:///{tmp_path}/fit.db")
    assert check("fit.db")[0] == "ok"
    with sqlite3.connect(tmp_path / "empty.db") as empty:
        empty.execute("create table other (x)")
    empty.close()
    level, seen, advice = check("empty.db")
    assert (level, advice) == ("bad", "quantfleet db upgrade"), seen
    (tmp_path / "noise.db").write_bytes(b"noise" * 1000)
    assert check("noise.db")[0] == "bad"


def test_an_unreachable_service_is_bad_and_shows_no_password() -> None:
    port = _closed_port()
    config = settings.load(
        database=f"postgresql://me:geheim@127.0.0.1:{port}/q", broker=f"redis://:geheim@127.0.0.1:{port}/0"
    )
    for found in (services.database_finding(config), services.broker_finding(config)):
        assert found.level == "bad"
        assert "127.0.0.1" in found.seen
        assert "geheim" not in found.seen + found.advice


@pytest.mark.parametrize("address", ["redis:/ /:geheim@", "nonsense://:geheim@x", "sqlite://:geheim@:x"])
def test_an_address_that_cannot_be_read_is_bad_and_not_shown(address: str) -> None:
    config = settings.load(database=address, broker=address)
    for found in (services.database_finding(config), services.broker_finding(config)):
        assert found.level == "bad"
        assert "geheim" not in found.seen + found.advice


def test_no_broker_is_the_embedded_mode() -> None:
    assert services.broker_finding(settings.load(broker="")).level == "ok"


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_shared_store_is_found_fit_missing_or_not_set(tmp_path: Path) -> None:
    none = services.store_finding(settings.load(store=""))
    assert (none.level, none.check) == ("ok", "store")
    (tmp_path / "share").mkdir()
    assert services.store_finding(settings.load(store=str(tmp_path / "share"))).level == "ok"
    missing = services.store_finding(settings.load(store=str(tmp_path / "gone")))
    assert missing.level == "bad"
    assert f"there is no folder {tmp_path}/gone" in missing.seen
    assert "QUANTFLEET_STORE" in missing.advice


def test_a_shared_store_of_an_unknown_kind_is_bad_and_shows_no_password() -> None:
    found = services.store_finding(settings.load(store="sfpt://me:geheim@host/models"))
    assert found.level == "bad"
    assert "did you mean 'sftp'" in found.seen
    assert "geheim" not in found.seen + found.advice
