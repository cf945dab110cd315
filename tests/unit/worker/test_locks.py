from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage import errors, settings
from worker import locks


def config(tmp_path: Path, host: str = "one") -> settings.Settings:
    return settings.load(lock=tmp_path / "lock", host=host)


def test_one_worker_of_a_name_and_others_beside_it(tmp_path: Path) -> None:
    with locks.only_worker(config(tmp_path)):
        told = rf"'one'.*process {os.getpid()}\)"
        with pytest.raises(errors.AlreadyRunning, match=told), locks.only_worker(config(tmp_path)):
            pass
        with locks.only_worker(config(tmp_path, "two")):
            pass
    with locks.only_worker(config(tmp_path)):
        pass


def test_a_lock_that_cannot_be_opened_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = f"worker lock {tmp_path}/file/lock"
    with pytest.raises(errors.SettingsError, match=told), locks.only_worker(config(tmp_path / "file")):
        pass


def test_a_host_measures_while_it_holds_the_measuring_lock(tmp_path: Path) -> None:
    one, two = config(tmp_path), config(tmp_path, "two")
    assert not locks.measuring(one)
    descriptor = locks.open_file(one.lock, "measuring lock")
    assert locks.try_lock(descriptor)
    locks.leave_word(descriptor, "one")
    assert locks.measuring(one)
    assert not locks.measuring(two)
    os.ftruncate(descriptor, 0)
    assert locks.measuring(one), "on a full disk nobody knows whose it is"
    os.close(descriptor)
    assert not locks.measuring(one)


@pytest.mark.parametrize("host", ["../etc", ".", "..", "a/b", "ünter", "a:b c"])
def test_any_host_name_makes_one_harmless_file_name(host: str) -> None:
    name = locks.file_name(host)
    assert "/" not in name
    assert not name.startswith(".")
