"""The store that a fleet shares: prepared models that travel from the host that made them to the others.

::

    files/<SHA-256>         a file of an artifact, named by its content
    artifacts/<key>.json    an artifact's manifest, byte for byte; stored after its files
    refs/<name>.json        which artifact a name stands for

An artifact without manifest does not exist. Since files are named by their content, hosts that push one key at once
never mix their files: one manifest stays, and what it names is there. Nothing is ever removed.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from storage import errors, store_address
from worker import artifacts, shipment, store_errors, store_target
from worker.artifacts import ArtifactStore, Tick

TICK_S = 1.0

_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,199}")
_PROBE = "probe.json"
_PROBE_SAYS = b'{"written by": "quantfleet doctor, to see whether it can"}\n'

T = TypeVar("T")


class SharedStore:
    """A store at an address (a folder's full path, or a URL); safe for many hosts at once.

    Every operation raises Unreachable for a store that does not answer now, and SettingsError for what a person must
    mend: an unknown address, missing rights or keys, a full disk. `tick` is called about every second meanwhile, and
    may raise to give up.
    """

    def __init__(self, address: str) -> None:
        """SettingsError for an address that cannot be meant, or needs a package that is not installed."""
        try:
            self._address = store_address.normal(address)
        except ValueError as exc:
            raise errors.SettingsError(f"store: {exc}") from None
        if not self._address:
            raise errors.SettingsError(f"store: no address; {store_address.EXPECTED}")
        self._target = store_target.open_target(self._address)

    def push(self, key: str, folder: Path, tick: Tick | None = None) -> bool:
        """Store an artifact unless its key is there: whether it was this call that did.

        What is there but incomplete (a file went missing) is replaced. Raises SettingsError also for an artifact that
        is damaged here or holds files that do not travel, see `worker.shipment`.
        """
        data, files = self._own(key, folder)
        where = _manifest(key)
        theirs = self._read(where, tick)
        if theirs is not None and self._is_complete(theirs, tick):
            return False
        for file in files:
            name = _file(file)
            if self._ask(partial(self._target.size, name), tick) != file.size:
                self._ask(partial(self._target.put, name, folder / file.name), tick)
        if theirs is None:
            return self._ask(partial(self._target.put_new, where, data), tick)
        self._ask(partial(self._target.put, where, data), tick)
        return True

    def pull(self, key: str, into: ArtifactStore, tick: Tick | None = None) -> bool:
        """Bring an artifact into a host's store, verified, with the same manifest; False when it is not there.

        One that this host has already is not fetched. Raises SettingsError, naming the artifact, for one that is
        damaged, or that holds what no manifest may name; nothing of it stays.
        """
        if into.find(_checked(key)) is not None:
            return True
        data = self._read(_manifest(key), tick)
        if data is None:
            return False
        files = self._promised(key, data)
        into.receive(key, lambda folder: self._fetch(key, data, files, folder, tick), tick)
        return True

    def name(self, ref: str, key: str, about: Mapping[str, Any]) -> str:
        """Let a name stand for an artifact unless it does for one already; the key that it stands for now.

        `about` (plain JSON data, such as model digest and host) is kept beside the key, with the time. Of several
        hosts the first one wins in a folder and on S3; where a store cannot refuse a second write, the last one.
        """
        document = {**about, "artifact": _checked(key), "at": datetime.now(UTC).isoformat(timespec="seconds")}
        data = json.dumps(document, indent=1, sort_keys=True).encode()
        self._ask(partial(self._target.put_new, _ref(ref), data))
        stands_for = self.named(ref)
        if stands_for is None:
            raise errors.Unreachable(f"{self} does not show what was just stored: the name {ref}")
        return stands_for

    def named(self, ref: str) -> str | None:
        """The key of the artifact that a name stands for, or None."""
        data = self._read(_ref(ref))
        if data is None:
            return None
        try:
            return _checked(json.loads(data)["artifact"])
        except (ValueError, KeyError, TypeError, RecursionError, errors.SettingsError) as exc:
            raise errors.SettingsError(f"{self}: {_ref(ref)} cannot be read ({exc}); remove it there") from exc

    def check(self) -> None:
        """Write a small object and read it again; raises what is wrong."""
        self._ask(partial(self._target.put, _PROBE, _PROBE_SAYS))
        if self._read(_PROBE) != _PROBE_SAYS:
            raise errors.Unreachable(f"{self} does not give back what was just written")

    def __str__(self) -> str:
        return f"store {store_address.redact(self._address)}"

    def _own(self, key: str, folder: Path) -> tuple[bytes, tuple[shipment.File, ...]]:
        """The manifest of this host's artifact and its files, as they are now on the disk."""
        try:
            data = (folder / artifacts.MANIFEST).read_bytes()
            files = shipment.read(data)
        except (OSError, ValueError) as exc:
            raise errors.SettingsError(f"artifact {_checked(key)} cannot be shared: {exc}") from exc
        reason = artifacts.damage(folder)
        if reason is not None:
            raise errors.SettingsError(f"artifact {key} is damaged here ({reason}), and cannot be shared")
        return data, files

    def _promised(self, key: str, data: bytes) -> tuple[shipment.File, ...]:
        try:
            return shipment.read(data)
        except ValueError as exc:
            raise self._damaged(key, str(exc), _manifest(key)) from exc

    def _is_complete(self, data: bytes, tick: Tick | None) -> bool:
        """Whether a manifest in the store can be read and its files are there in their sizes."""
        try:
            files = shipment.read(data)
        except ValueError:
            return False
        return all(self._size(file, tick) == file.size for file in files)

    def _fetch(self, key: str, data: bytes, files: tuple[shipment.File, ...], folder: Path, tick: Tick | None) -> None:
        """Fill a folder with an artifact's files, each one verified, and its manifest."""
        for file in files:
            seen = self._size(file, tick)
            if seen != file.size:
                told = "is missing, or is no plain file" if seen is None else f"has {seen} bytes, {file.size} expected"
                raise self._damaged(key, f"{file.name} {told}", _file(file))
            path = folder / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._ask(partial(self._target.fetch, _file(file), path), tick, reading=True)
            if not path.is_file() or path.is_symlink() or artifacts.sha256(path) != file.sha256:
                raise self._damaged(key, f"{file.name} has other content", _file(file))
        (folder / artifacts.MANIFEST).write_bytes(data)

    def _damaged(self, key: str, what: str, name: str) -> errors.SettingsError:
        return errors.SettingsError(
            f"{self}: artifact {key} is refused, {what}; remove {name} there: a host that has it, or prepares it, "
            "stores it again"
        )

    def _size(self, file: shipment.File, tick: Tick | None) -> int | None:
        return self._ask(partial(self._target.size, _file(file)), tick)

    def _read(self, name: str, tick: Tick | None = None) -> bytes | None:
        most = shipment.LARGEST_MANIFEST
        return self._ask(partial(self._target.read, name, most), tick, reading=True)

    def _ask(self, what: Callable[[], T], tick: Tick | None = None, *, reading: bool = False) -> T:
        """Ask something of the target, with its errors translated."""
        with store_errors.translated(self._address, reading=reading):
            return what() if tick is None else _waited(what, tick)


def _waited(work: Callable[[], T], tick: Tick) -> T:
    """Work in a thread, so that `tick` is called in this one; when that raises, what still goes on is left to end."""
    outcome: list[tuple[T | None, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as exc:
            outcome.append((None, exc))

    thread = threading.Thread(target=run, daemon=True, name="shared store")
    thread.start()
    while thread.is_alive():
        thread.join(TICK_S)
        if thread.is_alive():
            tick()
    result, raised = outcome[0]
    if raised is not None:
        raise raised
    return result  # type: ignore[return-value]


def _checked(key: Any) -> str:
    """A key as it may stand in a path."""
    if not isinstance(key, str) or not _NAME.fullmatch(key):
        raise errors.SettingsError(f"{key!r} is no key or name: expected letters, digits, '.', '_' and '-'")
    return key


def _manifest(key: str) -> str:
    return f"artifacts/{_checked(key)}.json"


def _ref(ref: str) -> str:
    return f"refs/{_checked(ref)}.json"


def _file(file: shipment.File) -> str:
    return f"files/{file.sha256}"
