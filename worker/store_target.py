"""Where a shared store keeps its objects: a folder that hosts share, or whatever fsspec can write to.

An object is some bytes under a name such as `files/ab12`; it appears whole where that can be had. Both kinds raise
what their libraries raise: `worker.store_errors` makes quantfleet's errors of it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import time
from pathlib import Path
from typing import Any, Protocol

from storage import errors, store_address

CONNECT_S, READ_S, TRIES = 5, 15, 2
"""How long S3 may take to connect, and to say something; and how often it is asked. fsspec's own tries come on top."""

OLD_S = 24 * 3600.0
"""What arrives in a folder and is older than this was left by a process that died."""

_INCOMING = "incoming"
_WITHOUT_FOLDERS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
_EXTRAS = {"s3": "s3", "s3a": "s3"}
_TIMES_TO_TRY = 3  # of a write that S3 refuses because another one goes on


class Target(Protocol):
    """A place for objects, named by relative paths."""

    def read(self, name: str, most: int) -> bytes | None:
        """The bytes of an object, cut after `most`; None when there is none."""

    def size(self, name: str) -> int | None:
        """Bytes of an object; None when there is none, or something that is no plain file, such as a link."""

    def fetch(self, name: str, path: Path) -> None:
        """Copy an object into a new file."""

    def put(self, name: str, source: Path | bytes) -> None:
        """Store an object, in place of one that is there."""

    def put_new(self, name: str, data: bytes) -> bool:
        """Store an object unless there is one: whether it was this call that did."""


def open_target(address: str) -> Target:
    """The place of an address in its normal form; SettingsError for one that nothing installed can open."""
    return Folder(Path(address)) if address.startswith("/") else _remote(address)


class Folder:
    """A folder, usually on a file system that hosts share. It must exist: a share that is not mounted does not."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str, most: int) -> bytes | None:
        """See `Target`."""
        path = self._root / name
        if self.size(name) is None:
            if path.is_symlink() or path.exists():
                raise ValueError(f"{name} is no plain file")  # a pipe would be read for ever
            return None
        with path.open("rb") as stream:
            return stream.read(most)

    def size(self, name: str) -> int | None:
        """See `Target`."""
        self._check()
        try:
            seen = (self._root / name).lstat()
        except FileNotFoundError:
            return None
        return seen.st_size if stat.S_ISREG(seen.st_mode) else None

    def fetch(self, name: str, path: Path) -> None:
        """See `Target`."""
        shutil.copyfile(self._root / name, path, follow_symlinks=False)

    def put(self, name: str, source: Path | bytes) -> None:
        """See `Target`; an object is renamed into its place once it is on the disk."""
        with self._arrived(source) as arrived:
            arrived.rename(self._place(name))

    def put_new(self, name: str, data: bytes) -> bool:
        """See `Target`; by a hard link, so the first one wins, except on file systems without: there the last does."""
        with self._arrived(data) as arrived:
            place = self._place(name)
            try:
                os.link(arrived, place)
            except FileExistsError:
                return False
            except OSError:
                if place.exists():
                    return False
                arrived.rename(place)
        return True

    def _place(self, name: str) -> Path:
        place = self._root / name
        place.parent.mkdir(exist_ok=True)
        return place

    @contextlib.contextmanager
    def _arrived(self, source: Path | bytes) -> Any:
        """The source as a file beside the others, gone in the end."""
        self._check()
        incoming = self._root / _INCOMING
        incoming.mkdir(exist_ok=True)
        _remove_old(incoming)
        path = incoming / secrets.token_hex(16)
        try:
            with path.open("xb") as stream:
                if isinstance(source, bytes):
                    stream.write(source)
                else:
                    with source.open("rb") as read:
                        shutil.copyfileobj(read, stream, 1 << 20)
                stream.flush()
                os.fsync(stream.fileno())
            yield path
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _check(self) -> None:
        if not self._root.is_dir():
            raise FileNotFoundError(f"there is no folder {self._root}")


class Remote:
    """What fsspec reaches; on S3 objects appear whole, and the first one of a name wins where it can be asked for."""

    def __init__(self, filesystem: Any, root: str, *, folders: bool) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._folders = folders

    def read(self, name: str, most: int) -> bytes | None:
        """See `Target`."""
        try:
            # a range asks with one request: asking for the size first would hide that there is no such bucket
            return bytes(self._fs.cat_file(self._at(name), start=0, end=most))
        except FileNotFoundError as exc:
            if "NoSuchBucket" in code(exc):
                raise
            return None

    def size(self, name: str) -> int | None:
        """See `Target`."""
        try:
            found = self._fs.info(self._at(name))
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" and not found.get("islink") else None

    def fetch(self, name: str, path: Path) -> None:
        """See `Target`."""
        self._fs.get_file(self._at(name), str(path))

    def put(self, name: str, source: Path | bytes) -> None:
        """See `Target`."""
        place = self._place(name)
        if isinstance(source, bytes):
            self._fs.pipe_file(place, source)
        else:
            self._fs.put_file(str(source), place)

    def put_new(self, name: str, data: bytes) -> bool:
        """See `Target`; a store that cannot be asked for that keeps the last one."""
        place = self._place(name)
        for _ in range(_TIMES_TO_TRY):
            try:
                self._fs.pipe_file(place, data, mode="create")
                return True
            except FileExistsError:
                return False
            except (OSError, NotImplementedError, TypeError, ValueError) as exc:
                word = code(exc)
                if word == "ConditionalRequestConflict":
                    time.sleep(0.2)
                    continue
                if isinstance(exc, OSError) and word != "NotImplemented":
                    raise
            self._fs.pipe_file(place, data)
            return True
        return False

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _place(self, name: str) -> str:
        place = self._at(name)
        if self._folders:
            self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
        return place


def _remote(address: str) -> Remote:
    protocol = address.partition("://")[0]
    try:
        import fsspec
        from fsspec.registry import known_implementations

        if protocol not in {*known_implementations, *fsspec.registry}:
            near = errors.nearest(protocol, known_implementations)
            raise errors.SettingsError(f"store {store_address.redact(address)}: no known protocol {protocol!r}{near}")
        options = _bounded() if protocol in store_address.S3 else {}
        filesystem, root = fsspec.url_to_fs(address, skip_instance_cache=True, use_listings_cache=False, **options)
    except ImportError as exc:
        raise errors.SettingsError(f"store {store_address.redact(address)}: {_missing(protocol, exc)}") from exc
    if protocol in store_address.S3:
        filesystem.retries = TRIES
    return Remote(filesystem, root, folders=protocol not in _WITHOUT_FOLDERS)


def _bounded() -> dict[str, Any]:
    config = {"connect_timeout": CONNECT_S, "read_timeout": READ_S, "retries": {"total_max_attempts": TRIES}}
    return {"config_kwargs": config}


def _missing(protocol: str, exc: ImportError) -> str:
    if protocol in _EXTRAS:
        return f"a package is missing: pip install 'quantfleet[{_EXTRAS[protocol]}]'"
    return f"a package is missing: {exc}"


def code(exc: BaseException) -> str:
    """S3's own word for an error, which fsspec keeps as the cause; empty elsewhere."""
    told = getattr(exc.__cause__ or exc, "response", None)
    return str(told["Error"].get("Code", "")) if isinstance(told, dict) and "Error" in told else ""


def _remove_old(folder: Path) -> None:
    for left_over in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - left_over.stat().st_mtime > OLD_S:
                left_over.unlink()
