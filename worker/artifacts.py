"""A content-addressed store of prepared models: made once for a key, verified whenever it is read.

`root/<key>/` holds the files and `manifest.json` (each file with size and SHA-256, the recipe, what preparing
took, and facts). A folder appears whole or not at all: it is built beside and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from storage import errors, records

MANIFEST = "manifest.json"

ARTIFACTS = "artifacts"
"""Folder of prepared models inside the cache."""

log = logging.getLogger(__name__)

Build = Callable[[Path], Mapping[str, Any]]
"""Fills an empty folder with an artifact's files and returns facts about it (plain JSON data)."""

_NOT_WRITABLE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}
)


class ArtifactStore:
    """Prepared artifacts under one folder; safe for several processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, key: str) -> Path:
        """Where the artifact of a key lies, whether it exists or not."""
        return self.root / key

    def find(self, key: str) -> Path | None:
        """The verified folder of a key, or None; a damaged one is removed and named in the log."""
        folder = self.folder(key)
        if not folder.is_dir():
            return None
        damage = _damage(folder)
        if damage is None:
            return folder
        log.warning("artifact %s is damaged (%s): removed, to be made again", key, damage)
        shutil.rmtree(folder, ignore_errors=True)
        return None

    def read(self, key: str) -> records.Artifact | None:
        """What the manifest of a verified artifact says, or None when there is none."""
        folder = self.find(key)
        return None if folder is None else _artifact(key, _manifest(folder), cached=True)

    def make(self, key: str, recipe: Mapping[str, Any], build: Build, *, inherited_s: float = 0.0) -> records.Artifact:
        """The artifact of a key: found ready, or built by exactly one of the processes that ask for it.

        `inherited_s` is what preparing the artifact that this one is built from took; it counts as part of the
        preparation. Raises SettingsError when the store cannot be written, and whatever `build` raises.
        """
        with _translated(self.root), self._locked(key):
            ready = self.read(key)
            if ready is not None:
                return ready
            return self._build(key, recipe, build, inherited_s)

    def _build(self, key: str, recipe: Mapping[str, Any], build: Build, inherited_s: float) -> records.Artifact:
        for left_over in self.root.glob(f".making-{key}-*"):  # of a process that was killed: we hold the lock
            shutil.rmtree(left_over, ignore_errors=True)
        making = Path(tempfile.mkdtemp(prefix=f".making-{key}-", dir=self.root))
        try:
            began = time.perf_counter()
            facts = build(making)
            prepare_s = inherited_s + time.perf_counter() - began
            manifest = {"recipe": dict(recipe), "prepare_s": prepare_s, "facts": dict(facts), "files": _files(making)}
            (making / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
            _open_to_readers(making)
            making.rename(self.folder(key))
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return _artifact(key, manifest, cached=False)

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / key).open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _artifact(key: str, manifest: Mapping[str, Any], *, cached: bool) -> records.Artifact:
    # JSON files describe (configuration, recipe, tokenizer); weights and graph are what is left
    size = sum(file["bytes"] for file in manifest["files"] if not file["name"].endswith(".json"))
    return records.Artifact(
        key=key, size_bytes=size, prepare_s=manifest["prepare_s"], cached=cached, facts=manifest["facts"]
    )


def _files(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return [
        {"name": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in paths
    ]


def _open_to_readers(folder: Path) -> None:
    """Temporary folders and some writers make things private; a cache may be shared between users."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    folder.chmod(0o755)


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return manifest


def _damage(folder: Path) -> str | None:
    """What is wrong with a stored artifact, or None."""
    try:
        for file in _manifest(folder)["files"]:
            path = folder / file["name"]
            if path.stat().st_size != file["bytes"]:
                return f"{file['name']} has {path.stat().st_size} bytes, {file['bytes']} expected"
            if _sha256(path) != file["sha256"]:
                return f"{file['name']} has other content"
    except (OSError, ValueError, KeyError, TypeError) as exc:
        return str(exc)
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _translated(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno not in _NOT_WRITABLE:
            raise
        raise errors.SettingsError(f"cache folder {root} cannot be written: {os.strerror(exc.errno or 0)}") from exc
