from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from storage import errors
from worker.artifacts import RECENT_S, ArtifactStore

KEY = "0123456789abcdef"


class Builder:
    """Writes a weights file and a description, and counts how often it was asked."""

    def __init__(self) -> None:
        self.built = 0

    def __call__(self, folder: Path) -> Mapping[str, Any]:
        self.built += 1
        (folder / "model.safetensors").write_bytes(b"w" * 1000)
        (folder / "config.json").write_text("{}")
        return {"layers": 3}


def test_an_artifact_is_built_once_and_remembers_what_it_took(tmp_path: Path) -> None:
    store, build = ArtifactStore(tmp_path), Builder()
    first = store.make(KEY, {"a": 1}, build)
    second = store.make(KEY, {"a": 1}, build)
    assert build.built == 1
    assert (first.cached, second.cached) == (False, True)
    assert second.prepare_s == first.prepare_s > 0
    assert second.facts == {"layers": 3}


def test_an_artifact_that_was_never_damaged_is_not_called_remade(tmp_path: Path) -> None:
    assert "remade" not in ArtifactStore(tmp_path).make(KEY, {}, Builder()).facts


def test_the_size_is_that_of_weights_without_descriptions(tmp_path: Path) -> None:
    assert ArtifactStore(tmp_path).make(KEY, {}, Builder()).size_bytes == 1000


def test_preparing_includes_the_artifact_below(tmp_path: Path) -> None:
    assert ArtifactStore(tmp_path).make(KEY, {}, Builder(), inherited_s=30.0).prepare_s > 30.0


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("bytes", "model.safetensors has other content"),
        ("truncated", "model.safetensors has 10 bytes, 1000 expected"),
        ("missing", "model.safetensors is missing"),
        ("manifest", "manifest.json: "),
        ("unlisted", "manifest.json is missing"),
    ],
)
def test_a_damaged_artifact_is_found_out_named_and_made_again(
    tmp_path: Path, damage: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, build = ArtifactStore(tmp_path), Builder()
    store.make(KEY, {}, build)
    weights = store.folder(KEY) / "model.safetensors"
    match damage:
        case "bytes":
            weights.write_bytes(b"x" + b"w" * 999)
        case "truncated":
            weights.write_bytes(b"w" * 10)
        case "missing":
            weights.unlink()
        case "manifest":
            (store.folder(KEY) / "manifest.json").write_text("{")
        case "unlisted":
            (store.folder(KEY) / "manifest.json").unlink()
    assert store.find(KEY) is None
    assert KEY in caplog.text
    made = store.make(KEY, {}, build)
    assert made.cached is False
    assert told in made.facts["remade"]
    assert store.find(KEY) == store.folder(KEY)
    assert weights.read_bytes() == b"w" * 1000
    again = store.read(KEY)
    assert again is not None
    assert again.facts["remade"] == made.facts["remade"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".locks", KEY]


def test_a_build_that_fails_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)

    def failing(folder: Path) -> Mapping[str, Any]:
        (folder / "half").write_text("half")
        raise errors.ModelError("no such model")

    with pytest.raises(errors.ModelError):
        store.make(KEY, {}, failing)
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]
    assert store.make(KEY, {}, Builder()).cached is False


def test_what_a_killed_builder_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / f".making-{KEY}-killed"
    left.mkdir()
    (left / "half").write_text("half")
    ArtifactStore(tmp_path).make(KEY, {}, Builder())
    assert not left.exists()


def test_of_several_at_once_one_builds_and_the_others_find(tmp_path: Path) -> None:
    build, cached = Builder(), []
    start = threading.Barrier(4)

    def slow(folder: Path) -> Mapping[str, Any]:
        time.sleep(0.1)  # long enough for the others to come by
        return build(folder)

    def ask() -> None:
        start.wait()
        cached.append(ArtifactStore(tmp_path).make(KEY, {}, slow).cached)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert build.built == 1
    assert sorted(cached) == [False, True, True, True]


def test_a_cache_that_cannot_be_written_is_the_persons_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(errors.SettingsError, match="cannot be written"):
        ArtifactStore(tmp_path / "file" / "artifacts").make(KEY, {}, Builder())


def test_the_manifest_tells_recipe_and_checksums(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.make(KEY, {"strategy": "torch/fp32"}, Builder())
    manifest = json.loads((store.folder(KEY) / "manifest.json").read_text())
    assert manifest["recipe"] == {"strategy": "torch/fp32"}
    assert [(file["name"], file["bytes"], len(file["sha256"])) for file in manifest["files"]] == [
        ("config.json", 2, 64),
        ("model.safetensors", 1000, 64),
    ]


EACH = 1002
"""Bytes of an artifact of `Builder` beside its manifest."""


def made(root: Path, **hours_ago: float) -> ArtifactStore:
    """A store with artifacts that were last used so many hours ago."""
    store = ArtifactStore(root)
    for key, hours in hours_ago.items():
        store.make(key, {}, Builder())
        then = time.time() - hours * 3600
        os.utime(store.folder(key), (then, then))
    return store


def room_for(store: ArtifactStore, artifacts: int) -> int:
    """A limit into which so many artifacts fit."""
    key = next(path for path in store.root.iterdir() if not path.name.startswith("."))
    return artifacts * sum(path.stat().st_size for path in key.iterdir()) + artifacts * 100  # durations vary in length


@contextlib.contextmanager
def lock_held(store: ArtifactStore, key: str) -> Iterator[None]:
    with (store.root / ".locks" / key).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def test_what_was_used_longest_ago_goes_first_until_the_rest_fits(tmp_path: Path) -> None:
    store = made(tmp_path, new=2, oldest=9, old=5, older=7)
    assert store.evict(room_for(store, 2)) == ["oldest", "older"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".locks", "new", "old"]
    assert store.evict(room_for(store, 2)) == []
    assert store.find("old") is not None


@pytest.mark.parametrize("use", ["find", "read", "make", "touch"])
def test_every_use_puts_an_artifact_to_the_end_of_the_row(tmp_path: Path, use: str) -> None:
    store = made(tmp_path, used=9, unused=5)
    match use:
        case "find":
            store.find("used")
        case "read":
            store.read("used")
        case "make":
            store.make("used", {}, Builder())
        case "touch":
            assert store.touch("used")
    assert store.evict(0) == ["unused"]


def test_what_was_used_within_the_hour_stays_whatever_the_limit(tmp_path: Path) -> None:
    store = made(tmp_path, gone=RECENT_S / 3600 + 0.1, stays=RECENT_S / 3600 - 0.1, future=-5)
    assert store.evict(0) == ["gone"]
    assert store.find("stays") is not None
    assert store.find("future") is not None


def test_what_took_long_to_make_counts_as_used_when_it_is_done(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)

    def slow(folder: Path) -> Mapping[str, Any]:
        (folder / "model.safetensors").write_bytes(b"w")
        os.utime(folder, (0, 0))  # the folder's last change, many hours ago
        return {}

    store.make(KEY, {}, slow)
    assert store.evict(0) == []


def test_what_is_used_while_others_are_evicted_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, entries = made(tmp_path, used=9, unused=8), ArtifactStore._entries

    def and_used_meanwhile(self: ArtifactStore) -> list[tuple[float, str, int]]:
        listed = list(entries(self))
        assert ArtifactStore(tmp_path).find("used") is not None
        return listed

    monkeypatch.setattr(ArtifactStore, "_entries", and_used_meanwhile)
    assert store.evict(0) == ["unused"]


def test_an_artifact_whose_lock_is_held_is_passed_over(tmp_path: Path) -> None:
    store = made(tmp_path, held=9, free=5)
    with lock_held(store, "held"):
        assert store.evict(0) == ["free"]
    assert store.evict(0) == ["held"]


def test_touching_what_is_gone_says_so(tmp_path: Path) -> None:
    store = made(tmp_path, there=9)
    assert store.evict(0) == ["there"]
    assert not store.touch("there")


def test_evicting_from_a_store_that_was_never_used_does_nothing(tmp_path: Path) -> None:
    assert ArtifactStore(tmp_path / "artifacts").evict(0) == []
    assert not (tmp_path / "artifacts").exists()


def test_what_cannot_be_removed_stays_is_named_and_keeps_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, rename = made(tmp_path, fixed=9, other=5), Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.name == "fixed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    assert store.evict(0) == ["other"]
    assert "artifact fixed cannot be removed" in caplog.text


def test_evicting_sweeps_what_killed_processes_left_but_not_what_is_being_made(tmp_path: Path) -> None:
    store = made(tmp_path, other=0)
    (tmp_path / ".gone-old-1234").mkdir()
    (tmp_path / f".making-{KEY}-killed").mkdir()
    (tmp_path / ".making-busy-abc").mkdir()
    with lock_held(store, "busy"):
        store.evict(room_for(store, 9))
        assert sorted(path.name for path in tmp_path.iterdir()) == [".locks", ".making-busy-abc", "other"]


def test_what_is_evicted_between_a_find_and_its_reading_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from worker import artifacts

    store = made(tmp_path, key=9)
    verify = artifacts.sha256

    def evicted_meanwhile(path: Path) -> str:
        store.evict(0)
        return verify(path)

    monkeypatch.setattr(artifacts, "sha256", evicted_meanwhile)
    assert store.find("key") is None
    assert "damaged" not in caplog.text


def _use(root: Path, seconds: float, seed: int, told: Any) -> None:
    """Make, read and evict at random in a process of its own; what went wrong, or nothing, is told."""
    import random

    from worker import artifacts

    artifacts.RECENT_S = 0.0  # everything may go at any time
    draw, store = random.Random(seed), ArtifactStore(root)
    deadline = time.monotonic() + seconds
    wrong, evicted = [], 0
    while time.monotonic() < deadline:
        key = f"key{draw.randrange(4)}"
        try:
            match draw.randrange(3):
                case 0:
                    artifact = store.make(key, {"key": key}, Builder())
                    if artifact.size_bytes != 1000 or "remade" in artifact.facts:
                        wrong.append(str(artifact))
                case 1:
                    store.read(key)
                case 2:
                    evicted += len(store.evict(2 * EACH))
        except BaseException as exc:
            wrong.append(f"{key}: {type(exc).__name__}: {exc}")
    told.put((wrong, evicted))


def test_processes_that_make_find_and_evict_at_once_never_crash_and_see_no_damage(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    users = [context.Process(target=_use, args=(tmp_path, 2.0, seed, told)) for seed in range(3)]
    for user in users:
        user.start()
    outcomes = [told.get(timeout=60) for _ in users]
    for user in users:
        user.join(60)
    assert [wrong for wrong, _ in outcomes] == [[], [], []]
    assert all(evicted > 0 for _, evicted in outcomes)
    left = ArtifactStore(tmp_path)
    left.evict(10 * EACH)
    assert all(left.find(path.name) for path in tmp_path.iterdir() if path.name != ".locks")


def test_two_that_evict_at_once_do_not_remove_twice_as_much(tmp_path: Path) -> None:
    names = {f"key{number}": 20.0 - number for number in range(8)}
    store = made(tmp_path, **names)
    limit, start = room_for(store, 4), threading.Barrier(3)
    removed: list[list[str]] = []

    def evict() -> None:
        start.wait()
        removed.append(ArtifactStore(tmp_path).evict(limit))

    threads = [threading.Thread(target=evict) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key for keys in removed for key in keys) == ["key0", "key1", "key2", "key3"]


def test_a_folder_from_elsewhere_is_received_once_and_whole(tmp_path: Path) -> None:
    store, fetched = ArtifactStore(tmp_path / "here"), []
    source = made(tmp_path / "there", key=0).folder("key")

    def fetch(folder: Path) -> None:
        fetched.append(folder.name)
        for path in source.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())

    assert store.receive("key", fetch) == store.folder("key")
    assert store.receive("key", fetch) == store.find("key")
    assert len(fetched) == 1


def test_waiting_for_another_that_makes_the_key_can_be_given_up(tmp_path: Path) -> None:
    store = made(tmp_path, other=0)

    def tick() -> None:
        raise errors.JobCancelled("enough")

    with lock_held(store, KEY), pytest.raises(errors.JobCancelled):
        store.receive(KEY, lambda folder: None, tick)
