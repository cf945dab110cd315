"""A content-addressed store of prepared models: made once for a key, verified whenever it is read.

`root/<key>/` holds the files and `manifest.json` (each file with size and SHA-256, the recipe, what preparing
took, and facts). A folder appears whole or not at all: it is built beside and renamed. Only who holds a key's lock
makes or removes its folder; the folder's time of change is when it was last used.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
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

INPUTS = "inputs"
"""Folder of token ids inside the cache."""

COMPILED = "compiled"
"""Folder of compiled code inside the cache; it never leaves this host."""

RECENT_S = 3600.0
"""What was used within this time is never evicted: a running job opens its artifact again for each pair."""

log = logging.getLogger(__name__)

Build = Callable[[Path], Mapping[str, Any]]
"""Fills an empty folder with an artifact's files and returns facts about it (plain JSON data)."""

Tick = Callable[[], None]
"""Called now and then while something is waited for; raises to give up."""

_NOT_WRITABLE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}
)
_POLL_S = 0.2
_EVICTION = ".evict"
"""The name of the lock of those who evict; no key begins with a dot."""


class ArtifactStore:
    """Prepared artifacts under one folder; safe for several processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, key: str) -> Path:
        """Where the artifact of a key lies, whether it exists or not."""
        return self.root / key

    def find(self, key: str) -> Path | None:
        """The verified folder of a key, which now counts as used, or None.

        A damaged one is named in the log; whoever makes it again removes it.
        """
        folder = self.folder(key)
        if not folder.is_dir():
            return None
        reason = damage(folder)
        if reason is None:
            self.touch(key)
            return folder
        if folder.is_dir():  # otherwise it was evicted while we read it
            log.warning("artifact %s is damaged (%s): to be made again", key, reason)
        return None

    def touch(self, key: str) -> bool:
        """Let an artifact count as used now, unverified; whether it is there at all."""
        folder = self.folder(key)
        with contextlib.suppress(OSError):  # another user's, or a disk that takes nothing: it may be evicted earlier
            os.utime(folder)
        return folder.is_dir()

    def read(self, key: str) -> records.Artifact | None:
        """What the manifest of a verified artifact says, or None when there is none."""
        folder = self.find(key)
        if folder is None:
            return None
        try:
            return _artifact(key, _manifest(folder), cached=True)
        except FileNotFoundError:  # evicted just now
            return None

    def make(self, key: str, recipe: Mapping[str, Any], build: Build, *, inherited_s: float = 0.0) -> records.Artifact:
        """The artifact of a key: found ready, or built by exactly one of the processes that ask for it.

        `inherited_s` is what preparing the artifact that this one is built from took; it counts as part of the
        preparation. One that replaces a damaged one says so in its facts: `remade`, with the damage. Raises
        SettingsError when the store cannot be written, and whatever `build` raises.
        """
        with _translated(self.root), self._locked(key):
            ready = self.read(key)
            if ready is not None:
                return ready
            reason = self._clear(key)
            with self._making(key) as making:
                manifest = _built(making, recipe, build, inherited_s, reason)
            return _artifact(key, manifest, cached=False)

    def receive(self, key: str, fetch: Callable[[Path], None], tick: Tick | None = None) -> Path:
        """The folder of a key: found ready, or filled by `fetch` with verified files and their manifest.

        Raises SettingsError when the store cannot be written, and whatever `fetch` and `tick` raise.
        """
        with _translated(self.root), self._locked(key, tick):
            ready = self.find(key)
            if ready is not None:
                return ready
            self._clear(key)
            with self._making(key) as making:
                fetch(making)
            return self.folder(key)

    def evict(self, limit_bytes: int) -> list[str]:
        """Remove what was used longest ago until the rest fits into the limit; the keys that were removed.

        Left alone is what was used within `RECENT_S`, what somebody makes or reads under its lock, and what cannot
        be removed: so the rest may still be larger. Also sweeps what killed processes left. Raises nothing.
        """
        evicted: list[str] = []
        if not self.root.is_dir():
            return evicted
        try:
            with self._locked(_EVICTION):  # two at once would each remove enough
                self._sweep()
                evicted.extend(self._evicted(limit_bytes))
        except OSError as exc:
            log.warning("cache folder %s cannot be tidied: %s", self.root, exc)
        if evicted:
            log.info("evicted from %s, used longest ago: %s", self.root, ", ".join(evicted))
        return evicted

    def _evicted(self, limit_bytes: int) -> Iterator[str]:
        entries = sorted(self._entries())
        total = sum(size for _, _, size in entries)
        for used, key, size in entries:
            if total <= limit_bytes or _is_recent(used):
                return
            if self._evict(key):
                total -= size
                yield key

    def _entries(self) -> Iterator[tuple[float, str, int]]:
        """Time of the last use, key and bytes of each artifact."""
        for folder in self.root.iterdir():
            with contextlib.suppress(FileNotFoundError):  # damaged, and made again just now
                if not folder.name.startswith(".") and folder.is_dir():
                    yield folder.stat().st_mtime, folder.name, _size(folder)

    def _evict(self, key: str) -> bool:
        """Remove one artifact, unless somebody holds its lock or has used it meanwhile: whether it went."""
        folder = self.folder(key)
        try:
            with self._free(key) as free:
                if not free or _is_recent(folder.stat().st_mtime):
                    return False
                self._discard(folder)
                return True
        except OSError as exc:
            log.warning("artifact %s cannot be removed: %s", key, exc)
            return False

    def _sweep(self) -> None:
        """Remove what killed processes left: half removed, and half made by somebody who holds no lock any more."""
        for left_over in self.root.glob(".gone-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        for left_over in self.root.glob(".making-*"):
            with self._free(left_over.name.removeprefix(".making-").rpartition("-")[0]) as free:
                if free:
                    shutil.rmtree(left_over, ignore_errors=True)

    def _clear(self, key: str) -> str | None:
        """Remove what lies in the way of a new artifact; what is wrong with it, None where nothing lay."""
        folder = self.folder(key)
        if not folder.is_dir():
            return None
        reason = damage(folder) or "could not be read"
        self._discard(folder)
        return reason

    def _discard(self, folder: Path) -> None:
        """Remove an artifact: out of sight first, so that nobody finds a part of it. The lock is ours."""
        gone = self.root / f".gone-{folder.name}-{secrets.token_hex(4)}"
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    @contextlib.contextmanager
    def _making(self, key: str) -> Iterator[Path]:
        """An empty folder that becomes the artifact when the block ends without an error. The lock is ours."""
        for left_over in self.root.glob(f".making-{key}-*"):  # of a process that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        making = Path(tempfile.mkdtemp(prefix=f".making-{key}-", dir=self.root))
        try:
            yield making
            _open_to_readers(making)
            making.rename(self.folder(key))
        finally:
            shutil.rmtree(making, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, key: str, tick: Tick | None = None) -> Iterator[None]:
        """Hold the lock of a key; with `tick` the wait for it is interrupted to call that."""
        with self._lock_file(key) as descriptor:
            while tick is not None and not _try_lock(descriptor):
                tick()
                time.sleep(_POLL_S)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _free(self, key: str) -> Iterator[bool]:
        """Hold the lock of a key if nobody else does: whether it is ours."""
        with self._lock_file(key) as descriptor:
            yield _try_lock(descriptor)

    @contextlib.contextmanager
    def _lock_file(self, key: str) -> Iterator[int]:
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / key).open("w") as stream:
            yield stream.fileno()


def damage(folder: Path) -> str | None:
    """What is wrong with a stored artifact, or None."""
    try:
        for file in _manifest(folder)["files"]:
            path = folder / file["name"]
            if path.stat().st_size != file["bytes"]:
                return f"{file['name']} has {path.stat().st_size} bytes, {file['bytes']} expected"
            if sha256(path) != file["sha256"]:
                return f"{file['name']} has other content"
    except FileNotFoundError as exc:
        return f"{Path(exc.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError) as exc:
        return f"{MANIFEST}: {exc}" if isinstance(exc, ValueError) else str(exc)
    return None


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _built(
    folder: Path, recipe: Mapping[str, Any], build: Build, inherited_s: float, damaged: str | None
) -> dict[str, Any]:
    """The manifest of what `build` put into a folder, written there too."""
    began = time.perf_counter()
    facts = dict(build(folder)) | ({} if damaged is None else {"remade": damaged})
    prepare_s = inherited_s + time.perf_counter() - began
    manifest = {"recipe": dict(recipe), "prepare_s": prepare_s, "facts": facts, "files": _files(folder)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
    return manifest


def _artifact(key: str, manifest: Mapping[str, Any], *, cached: bool) -> records.Artifact:
    # JSON files describe (configuration, recipe, tokenizer); weights and graph are what is left
    size = sum(file["bytes"] for file in manifest["files"] if not file["name"].endswith(".json"))
    return records.Artifact(
        key=key, size_bytes=size, prepare_s=manifest["prepare_s"], cached=cached, facts=manifest["facts"]
    )


def _files(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return [
        {"name": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}
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


def _try_lock(descriptor: int) -> bool:
    """Take a lock if that is possible at once; as in `worker.locks`, whose settings no measured process loads."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_recent(used: float) -> bool:
    return time.time() - used < RECENT_S


def _size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


@contextlib.contextmanager
def _translated(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno not in _NOT_WRITABLE:
            raise
        raise errors.SettingsError(f"cache folder {root} cannot be written: {os.strerror(exc.errno or 0)}") from exc
