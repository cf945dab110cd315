from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from storage import errors
from worker.artifacts import ArtifactStore

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


def test_the_size_is_that_of_weights_without_descriptions(tmp_path: Path) -> None:
    assert ArtifactStore(tmp_path).make(KEY, {}, Builder()).size_bytes == 1000


def test_preparing_includes_the_artifact_below(tmp_path: Path) -> None:
    assert ArtifactStore(tmp_path).make(KEY, {}, Builder(), inherited_s=30.0).prepare_s > 30.0


@pytest.mark.parametrize("damage", ["bytes", "truncated", "missing", "manifest"])
def test_a_damaged_artifact_is_found_out_named_and_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
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
    assert store.find(KEY) is None
    assert KEY in caplog.text
    assert store.make(KEY, {}, build).cached is False
    assert store.find(KEY) == store.folder(KEY)
    assert weights.read_bytes() == b"w" * 1000


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
