"""The shared store in a folder and in fsspec's memory: what travels, what is refused, who wins."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import hypothesis
import pytest
from hypothesis import strategies as st

from storage import errors
from tests.shipments import FILES, KEY, content, digest, made, manifest, nothing_of, promise
from worker import artifacts, store_target
from worker.artifacts import ArtifactStore
from worker.shared_store import SharedStore


@pytest.fixture(params=["folder", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty store of each kind."""
    if request.param == "memory":
        yield "memory://fleet/models"
        fsspec.filesystem("memory").store.clear()
        fsspec.filesystem("memory").pseudo_dirs[:] = [""]
        return
    (tmp_path / "share").mkdir()
    yield str(tmp_path / "share")


def write(address: str, name: str, data: bytes) -> None:
    with fsspec.open(f"{address}/{name}", "wb") as stream:
        stream.write(data)


def objects(address: str) -> dict[str, bytes]:
    """Everything in a store, by name."""
    files, root = fsspec.url_to_fs(address)
    return {str(path).removeprefix(f"{root}/"): files.cat_file(path) for path in files.find(root)}


def test_what_one_host_pushes_another_pulls_byte_for_byte(address: str, tmp_path: Path) -> None:
    one, two = made(tmp_path / "one"), ArtifactStore(tmp_path / "two")
    store = SharedStore(address)
    assert store.pull(KEY, two) is False
    assert store.push(KEY, one.folder(KEY)) is True
    assert store.push(KEY, one.folder(KEY)) is False
    assert SharedStore(address).pull(KEY, two) is True
    assert content(two) == content(one)
    read = two.read(KEY)
    assert read is not None
    assert (read.facts, read.size_bytes) == ({"layers": 3}, 1012)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9_]{1,8}(/[a-z0-9_]{1,8})?\.(json|safetensors|npz|txt)", fullmatch=True),
        st.binary(max_size=200),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_the_files_the_manifest_arrives_with_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("hosts")
    (root / "share").mkdir()
    one, two = made(root / "one", files=files), ArtifactStore(root / "two")
    store = SharedStore(str(root / "share"))
    assert store.push(KEY, one.folder(KEY))
    assert store.pull(KEY, two)
    assert content(two) == content(one)
    assert two.find(KEY) is not None


def test_files_are_named_by_their_content_and_kept_once(address: str, tmp_path: Path) -> None:
    store = SharedStore(address)
    store.push("first", made(tmp_path / "one", "first").folder("first"))
    store.push("second", made(tmp_path / "one", "second").folder("second"))
    assert sorted(objects(address)) == sorted(
        ["artifacts/first.json", "artifacts/second.json", *(f"files/{digest(data)}" for data in FILES.values())]
    )


def test_without_its_manifest_an_artifact_does_not_exist(address: str, tmp_path: Path) -> None:
    for data in FILES.values():
        write(address, f"files/{digest(data)}", data)
    assert SharedStore(address).pull(KEY, ArtifactStore(tmp_path / "two")) is False


def test_the_first_of_two_artifacts_of_one_key_stays(address: str, tmp_path: Path) -> None:
    store = SharedStore(address)
    one, other = made(tmp_path / "one"), made(tmp_path / "other", files={"model.onnx": b"other"})
    assert store.push(KEY, one.folder(KEY))
    assert store.push(KEY, other.folder(KEY)) is False
    assert f"files/{digest(b'other')}" not in objects(address)
    two = ArtifactStore(tmp_path / "two")
    assert store.pull(KEY, two)
    assert content(two) == content(one)


@pytest.mark.parametrize("what", ["other content", "shorter", "missing"])
def test_a_damaged_file_in_the_store_is_refused_and_named(address: str, tmp_path: Path, what: str) -> None:
    store, two = SharedStore(address), ArtifactStore(tmp_path / "two")
    store.push(KEY, made(tmp_path / "one").folder(KEY))
    name = f"files/{digest(FILES['model.safetensors'])}"
    if what == "missing":
        files, root = fsspec.url_to_fs(address)
        files.rm_file(f"{root}/{name}")
    else:
        write(address, name, b"x" * (1000 if what == "other content" else 3))
    with pytest.raises(errors.SettingsError, match=rf"artifact {KEY} is refused, model.safetensors .*remove {name}"):
        store.pull(KEY, two)
    assert nothing_of(two)


def test_a_host_that_has_it_mends_what_went_missing(address: str, tmp_path: Path) -> None:
    store, one, two = SharedStore(address), made(tmp_path / "one"), ArtifactStore(tmp_path / "two")
    store.push(KEY, one.folder(KEY))
    write(address, f"files/{digest(FILES['config.json'])}", b"{")  # half an upload, by its size
    assert store.push(KEY, one.folder(KEY)) is True
    assert store.pull(KEY, two)
    write(address, f"artifacts/{KEY}.json", b"{")
    assert store.push(KEY, one.folder(KEY)) is True
    assert store.pull(KEY, ArtifactStore(tmp_path / "three"))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"{", "cannot be read"),
        (manifest([promise("../evil.json")]), "'../evil.json' is no name of a file inside"),
        (manifest([promise("/etc/evil.json")]), "is no name of a file inside"),
        (manifest([promise("model.pkl")]), "'model.pkl' is of no format that travels"),
        (manifest([promise("kernels.so")]), "'kernels.so' is of no format that travels"),
    ],
)
def test_a_manifest_that_promises_too_much_is_refused_before_anything_is_fetched(
    address: str, tmp_path: Path, data: bytes, told: str
) -> None:
    two = ArtifactStore(tmp_path / "two")
    write(address, f"files/{digest(b'')}", b"")
    write(address, f"artifacts/{KEY}.json", data)
    with pytest.raises(errors.SettingsError, match=f"artifact {KEY} is refused.*{told}"):
        SharedStore(address).pull(KEY, two)
    assert nothing_of(two)
    assert not (tmp_path / "evil.json").exists()


def test_files_beside_the_promised_ones_do_not_travel(address: str, tmp_path: Path) -> None:
    store, two = SharedStore(address), ArtifactStore(tmp_path / "two")
    store.push(KEY, made(tmp_path / "one").folder(KEY))
    write(address, f"artifacts/{KEY}/extra.py", b"import os")
    write(address, "files/extra.py", b"import os")
    assert store.pull(KEY, two)
    assert set(content(two)) == {*FILES, "manifest.json"}


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_in_a_shared_folder_is_not_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "share").mkdir()
    store, two = SharedStore(str(tmp_path / "share")), ArtifactStore(tmp_path / "two")
    store.push(KEY, made(tmp_path / "one").folder(KEY))
    for name in (f"files/{digest(FILES['config.json'])}", f"artifacts/{KEY}.json"):
        path = tmp_path / "share" / name
        kept = path.rename(tmp_path / "kept")
        match kind:
            case "link":
                path.symlink_to(kept)
            case "pipe":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
        with pytest.raises(errors.SettingsError, match=r"no plain file"):
            store.pull(KEY, two)
        path.rmdir() if kind == "folder" else path.unlink()
        kept.rename(path)
    assert store.pull(KEY, two)


@pytest.mark.parametrize("name", ["model.pt2", "cache/kernel.so", "model.pkl", "modeling.py"])
def test_an_artifact_with_code_is_not_pushed(address: str, tmp_path: Path, name: str) -> None:
    one = made(tmp_path / "one", files={**FILES, name: b"code"})
    with pytest.raises(errors.SettingsError, match=f"'{name}' is of no format that travels"):
        SharedStore(address).push(KEY, one.folder(KEY))
    assert objects(address) == {}


def test_an_artifact_that_is_damaged_here_is_not_pushed(address: str, tmp_path: Path) -> None:
    one = made(tmp_path / "one")
    (one.folder(KEY) / "config.json").write_bytes(b"[]")
    with pytest.raises(errors.SettingsError, match=f"artifact {KEY} is damaged here .config.json has other content"):
        SharedStore(address).push(KEY, one.folder(KEY))
    (one.folder(KEY) / "manifest.json").unlink()
    with pytest.raises(errors.SettingsError, match=f"artifact {KEY} cannot be shared"):
        SharedStore(address).push(KEY, one.folder(KEY))


def test_what_this_host_has_is_not_fetched_again_but_what_is_damaged_is(address: str, tmp_path: Path) -> None:
    store, two = SharedStore(address), ArtifactStore(tmp_path / "two")
    store.push(KEY, made(tmp_path / "one").folder(KEY))
    assert store.pull(KEY, two)
    before = two.folder(KEY).stat().st_ino
    assert store.pull(KEY, two)
    assert two.folder(KEY).stat().st_ino == before
    (two.folder(KEY) / "config.json").write_bytes(b"[]")
    assert store.pull(KEY, two)
    assert content(two)["config.json"] == b"{}"


def test_a_name_stands_for_the_artifact_that_came_first(address: str) -> None:
    store = SharedStore(address)
    assert store.named("study-distil") is None
    assert store.name("study-distil", KEY, {"host": "one", "model_digest": "abc"}) == KEY
    assert store.name("study-distil", "other", {"host": "two"}) == KEY
    assert SharedStore(address).named("study-distil") == KEY
    stored = objects(address)["refs/study-distil.json"]
    assert all(word in stored for word in (b'"host": "one"', b'"model_digest": "abc"', b'"at": "20'))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"artifact": 3}', b'{"artifact": "../up"}'])
def test_a_name_that_cannot_be_read_is_told(address: str, data: bytes) -> None:
    write(address, "refs/mine.json", data)
    with pytest.raises(errors.SettingsError, match=r"refs/mine.json cannot be read .*remove it there"):
        SharedStore(address).named("mine")


@pytest.mark.parametrize("word", ["", "../up", "a/b", ".hidden", "a b", "x" * 300, "nul\0"])
def test_keys_and_names_cannot_leave_their_place(address: str, tmp_path: Path, word: str) -> None:
    store, one = SharedStore(address), made(tmp_path / "one")
    for act in (
        lambda: store.push(word, one.folder(KEY)),
        lambda: store.pull(word, one),
        lambda: store.name(word, KEY, {}),
        lambda: store.name("fine", word, {}),
        lambda: store.named(word),
    ):
        with pytest.raises(errors.SettingsError, match="is no key or name"):
            act()


def test_of_many_hosts_that_push_one_key_at_once_one_wins_and_all_pull_the_same(address: str, tmp_path: Path) -> None:
    hosts = [
        made(tmp_path / f"host{number}", files={"model.safetensors": bytes([number]) * 1000, "config.json": b"{}"})
        for number in range(5)
    ]
    start, first, named = threading.Barrier(5), [], []

    def push(number: int) -> None:
        start.wait()
        first.append(SharedStore(address).push(KEY, hosts[number].folder(KEY)))
        named.append(SharedStore(address).name("student", f"key{number}", {"host": number}))

    threads = [threading.Thread(target=push, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not address.startswith("memory"):  # fsspec's memory looks first and writes then
        assert sorted(first) == [False, False, False, False, True]
        assert len(set(named)) == 1
    two = ArtifactStore(tmp_path / "two")
    assert SharedStore(address).pull(KEY, two)
    assert content(two) in [content(host) for host in hosts]


def test_a_shared_folder_without_hard_links_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none_here)
    (tmp_path / "share").mkdir()
    store = SharedStore(str(tmp_path / "share"))
    assert store.push(KEY, made(tmp_path / "one").folder(KEY))
    assert (store.name("mine", KEY, {}), store.name("mine", "other", {})) == (KEY, KEY)


def test_what_a_killed_push_left_is_swept_after_a_day(tmp_path: Path) -> None:
    incoming = tmp_path / "share" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "old").write_bytes(b"half")
    (incoming / "new").write_bytes(b"half")
    then = time.time() - store_target.OLD_S - 60
    os.utime(incoming / "old", (then, then))
    SharedStore(str(tmp_path / "share")).push(KEY, made(tmp_path / "one").folder(KEY))
    assert [path.name for path in incoming.iterdir()] == ["new"]


def test_a_folder_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    store, one = SharedStore(str(tmp_path / "share")), made(tmp_path / "one")
    for act in (
        lambda: store.push(KEY, one.folder(KEY)),
        lambda: store.pull("other", one),
        lambda: store.name("mine", KEY, {}),
        lambda: store.named("mine"),
        store.check,
    ):
        with pytest.raises(errors.SettingsError, match=f"there is no folder {tmp_path}/share; make it or mount it"):
            act()
    assert not (tmp_path / "share").exists()


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (errno.ENOSPC, errors.SettingsError, "it is full"),
        (errno.EDQUOT, errors.SettingsError, "it is full"),
        (errno.EACCES, errors.SettingsError, "it refuses us"),
        (errno.EROFS, errors.SettingsError, "it refuses us"),
        (errno.EIO, errors.Unreachable, "does not answer"),
        (errno.ESTALE, errors.Unreachable, "does not answer"),
        (errno.ECONNREFUSED, errors.Unreachable, "does not answer"),
    ],
)
def test_what_the_store_refuses_is_told_by_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], told: str
) -> None:
    def failing(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "share").mkdir()
    one = made(tmp_path / "one")
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(kind, match=f"store {tmp_path}/share.* {told}"):
        SharedStore(str(tmp_path / "share")).push(KEY, one.folder(KEY))
    assert not any((tmp_path / "share" / "incoming").iterdir())


def test_a_disk_of_ours_that_is_full_while_pulling_is_not_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "share").mkdir()
    store, two = SharedStore(str(tmp_path / "share")), ArtifactStore(tmp_path / "two")
    store.push(KEY, made(tmp_path / "one").folder(KEY))
    monkeypatch.setattr(store_target.Folder, "fetch", full)
    with pytest.raises(errors.SettingsError, match=f"cache folder {tmp_path}/two cannot be written: No space left"):
        store.pull(KEY, two)
    assert nothing_of(two)


def test_the_caller_is_heard_while_it_waits_and_may_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, ticks = threading.Event(), []

    def slow(self: object, name: str, path: Path) -> None:
        go_on.wait(30)

    def tick() -> None:
        ticks.append(threading.current_thread())
        if len(ticks) == 2:
            raise errors.LeaseLost("somebody else has the job")

    (tmp_path / "share").mkdir()
    store, two = SharedStore(str(tmp_path / "share")), ArtifactStore(tmp_path / "two")
    store.push(KEY, made(tmp_path / "one").folder(KEY))
    monkeypatch.setattr(store_target.Folder, "fetch", slow)
    monkeypatch.setattr("worker.shared_store.TICK_S", 0.05)
    with pytest.raises(errors.LeaseLost):
        store.pull(KEY, two, tick)
    go_on.set()
    assert set(ticks) == {threading.current_thread()}
    assert nothing_of(two)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("", "no address"),
        ("share", "a relative path"),
        ("s4://bucket", "no known protocol 's4'; did you mean 's3'"),
        ("gs://bucket/x", "a package is missing: .*gcsfs"),
        ("s3://AKIA:geheim/x@bucket", "keys do not belong into an s3:// URL"),
        ("sftp://me:geheim@host/x", "store sftp://me:\\*\\*\\*@host/x: a package is missing: .*paramiko"),
    ],
)
def test_an_address_that_cannot_be_meant_is_told_at_once_and_without_secrets(address: str, told: str) -> None:
    with pytest.raises(errors.SettingsError, match=told) as caught:
        SharedStore(address)
    assert "geheim" not in str(caught.value)


def test_without_the_extra_for_s3_its_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(errors.SettingsError, match=r"pip install 'quantfleet\[s3\]'"):
        SharedStore("s3://bucket/models")


def test_a_folder_needs_no_fsspec_and_the_module_none_of_it(tmp_path: Path) -> None:
    code = (
        "import sys; from worker.shared_store import SharedStore; import worker.services\n"
        f"SharedStore({str(tmp_path)!r}).check()\n"
        "print({'fsspec', 's3fs', 'botocore', 'torch'} & set(sys.modules) - before)"
    )
    line = [sys.executable, "-c", f"import sys, storage.broker; before = set(sys.modules)\n{code}"]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_checking_writes_and_reads(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SharedStore(address)
    store.check()
    store.check()
    assert list(objects(address)) == ["probe.json"]
    monkeypatch.setattr(type(store._target), "put", lambda *_: None)
    write(address, "probe.json", b"old")
    with pytest.raises(errors.Unreachable, match="does not give back"):
        store.check()


def test_a_manifest_is_never_larger_than_what_is_read(tmp_path: Path) -> None:
    assert artifacts.MANIFEST == "manifest.json"
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / f"{KEY}.json").write_bytes(b" " * (17 << 20))
    with pytest.raises(errors.SettingsError, match=f"artifact {KEY} is refused"):
        SharedStore(str(tmp_path)).pull(KEY, ArtifactStore(tmp_path / "two"))
