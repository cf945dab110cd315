"""The shared store on a real server of S3, and on ones that fail."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from storage import errors, settings
from tests import s3, services
from tests.shipments import FILES, KEY, content, digest, made, manifest, nothing_of, promise
from worker import services as checks
from worker import store_target
from worker.artifacts import ArtifactStore
from worker.shared_store import SharedStore


@pytest.fixture(scope="module")
def server() -> Iterator[s3.S3]:
    """One server for the module; each test takes a bucket of its own."""
    with s3.running() as running:
        yield running


@pytest.fixture
def bucket(server: s3.S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket that this process can write."""
    s3.use(monkeypatch, server.address)
    return server.make_bucket()


def objects(server: s3.S3, bucket: str) -> list[str]:
    return [found["Key"] for found in server.client().list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.mark.parametrize("prefix", ["", "/models/of/the-fleet", "/slash/"])
def test_what_one_host_pushes_another_pulls_byte_for_byte(
    server: s3.S3, bucket: str, tmp_path: Path, prefix: str
) -> None:
    one, two = made(tmp_path / "one"), ArtifactStore(tmp_path / "two")
    store = SharedStore(f"s3://{bucket}{prefix}")
    assert store.pull(KEY, two) is False
    assert store.push(KEY, one.folder(KEY)) is True
    assert store.push(KEY, one.folder(KEY)) is False
    assert SharedStore(f"s3://{bucket}{prefix}").pull(KEY, two) is True
    assert content(two) == content(one)
    start = f"{prefix.strip('/')}/".lstrip("/")
    names = [f"artifacts/{KEY}.json", *(f"files/{digest(data)}" for data in FILES.values())]
    assert objects(server, bucket) == sorted(start + name for name in names)


@hypothesis.settings(
    max_examples=10, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9_]{1,8}\.(json|safetensors|onnx)", fullmatch=True), st.binary(max_size=200), min_size=1
    )
)
def test_whatever_the_files_the_manifest_arrives_with_the_same_bytes(
    bucket: str, tmp_path: Path, files: dict[str, bytes]
) -> None:
    key, store = uuid.uuid4().hex, SharedStore(f"s3://{bucket}/x")
    one, two = made(tmp_path / "one", key, files), ArtifactStore(tmp_path / "two")
    assert store.push(key, one.folder(key))
    assert store.pull(key, two)
    assert content(two, key) == content(one, key)


def test_a_file_of_several_parts_travels_whole(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    monkeypatch.setattr(S3FileSystem, "default_block_size", 5 << 20)
    weights = bytes(range(256)) * (44 << 10)  # 11 MiB: three parts
    one, two = made(tmp_path / "one", files={"model.safetensors": weights}), ArtifactStore(tmp_path / "two")
    store = SharedStore(f"s3://{bucket}")
    assert store.push(KEY, one.folder(KEY))
    assert store.pull(KEY, two, lambda: None)
    assert content(two) == content(one)


@pytest.mark.parametrize("what", ["other content", "shorter", "missing"])
def test_a_damaged_object_is_refused_and_named(server: s3.S3, bucket: str, tmp_path: Path, what: str) -> None:
    store, one, two = SharedStore(f"s3://{bucket}"), made(tmp_path / "one"), ArtifactStore(tmp_path / "two")
    store.push(KEY, one.folder(KEY))
    name = f"files/{digest(FILES['model.safetensors'])}"
    if what == "missing":
        server.client().delete_object(Bucket=bucket, Key=name)
    else:
        body = b"x" * (1000 if what == "other content" else 3)
        server.client().put_object(Bucket=bucket, Key=name, Body=body)
    with pytest.raises(errors.SettingsError, match=rf"artifact {KEY} is refused, model.safetensors .*remove {name}"):
        store.pull(KEY, two)
    assert nothing_of(two)
    server.client().delete_object(Bucket=bucket, Key=name)
    assert store.push(KEY, one.folder(KEY)) is True
    assert store.pull(KEY, two)


def test_a_manifest_that_promises_too_much_is_refused(server: s3.S3, bucket: str, tmp_path: Path) -> None:
    two = ArtifactStore(tmp_path / "two")
    for name in ("../up.json", "weights.pkl"):
        body = manifest([promise(name)])
        server.client().put_object(Bucket=bucket, Key=f"artifacts/{KEY}.json", Body=body)
        with pytest.raises(errors.SettingsError, match=f"artifact {KEY} is refused"):
            SharedStore(f"s3://{bucket}").pull(KEY, two)
    assert nothing_of(two)


def test_of_hosts_that_push_at_once_one_wins_and_all_pull_the_same(bucket: str, tmp_path: Path) -> None:
    hosts = [made(tmp_path / f"host{number}", files={"model.onnx": bytes([number]) * 1000}) for number in range(4)]
    start, first, named = threading.Barrier(4), [], []

    def push(number: int) -> None:
        store = SharedStore(f"s3://{bucket}")
        start.wait()
        first.append(store.push(KEY, hosts[number].folder(KEY)))
        named.append(store.name("student", f"key{number}", {"host": number}))

    threads = [threading.Thread(target=push, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(first) == [False, False, False, True]
    assert len(named) == 4
    assert len(set(named)) == 1
    two = ArtifactStore(tmp_path / "two")
    assert SharedStore(f"s3://{bucket}").pull(KEY, two)
    assert content(two) in [content(host) for host in hosts]


def test_a_name_stands_for_what_came_first(bucket: str) -> None:
    store = SharedStore(f"s3://{bucket}/names")
    assert store.named("mine") is None
    assert store.name("mine", KEY, {"host": "one"}) == KEY
    assert store.name("mine", "other", {"host": "two"}) == KEY


@pytest.mark.parametrize("bucket_name", ["no-such-bucket-here", "No_Bucket!!"])
def test_a_bucket_that_is_not_there_is_the_persons_to_mend(bucket: str, tmp_path: Path, bucket_name: str) -> None:
    store, one = SharedStore(f"s3://{bucket_name}/x"), made(tmp_path / "one")
    for act in (
        lambda: store.push(KEY, one.folder(KEY)),
        lambda: store.pull("other", one),
        lambda: store.name("mine", KEY, {}),
        lambda: store.named("mine"),
        store.check,
    ):
        with pytest.raises(errors.SettingsError, match=r"there is no such bucket|cannot be the name of a bucket"):
            act()


def test_without_keys_it_says_which_to_set(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(errors.SettingsError, match="no keys are set; set AWS_ACCESS_KEY_ID"):
        SharedStore(f"s3://{bucket}").named("mine")


@pytest.mark.parametrize(
    ("status", "code", "kind", "told"),
    [
        (403, "AccessDenied", errors.SettingsError, "refuses us .*right to list, read and write"),
        (403, "InvalidAccessKeyId", errors.SettingsError, "does not know our key; check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", errors.SettingsError, "does not take our secret key"),
        (400, "ExpiredToken", errors.SettingsError, "set a new AWS_SESSION_TOKEN"),
        (507, "XMinioStorageFull", errors.SettingsError, "it is full"),
        (503, "SlowDown", errors.Unreachable, "does not answer"),
        (500, "InternalError", errors.Unreachable, "does not answer"),
    ],
)
def test_what_the_server_refuses_is_told_with_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    kind: type[errors.QuantfleetError],
    told: str,
) -> None:
    with s3.failing(status, code) as address:
        s3.use(monkeypatch, address)
        store, one = SharedStore("s3://fleet/models"), made(tmp_path / "one")
        for act in (lambda: store.push(KEY, one.folder(KEY)), store.check):
            with pytest.raises(kind, match=f"store s3://fleet/models.*{told}") as caught:
                act()
            assert s3.SECRET not in str(caught.value)


def test_an_address_where_nobody_listens_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.use(monkeypatch, f"http://127.0.0.1:{services.free_port()}")
    store = SharedStore("s3://fleet/models")
    with pytest.raises(errors.Unreachable, match="store s3://fleet/models does not answer"):
        store.pull(KEY, ArtifactStore(tmp_path))
    found = checks.store_finding(settings.load(store="s3://fleet/models"))
    assert (found.level, found.check) == ("bad", "store")
    assert "does not answer" in found.seen


def test_a_server_that_keeps_silent_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_target, "READ_S", 1)
    ticks: list[float] = []
    with s3.silent() as address:
        s3.use(monkeypatch, address)
        began = time.monotonic()
        with pytest.raises(errors.Unreachable, match="does not answer"):
            SharedStore("s3://fleet/models").pull(KEY, ArtifactStore(tmp_path), lambda: ticks.append(time.monotonic()))
        assert time.monotonic() - began < 60
    assert ticks


def test_doctor_finds_a_bucket_that_can_be_written(bucket: str) -> None:
    found = checks.store_finding(settings.load(store=f"s3://{bucket}/models/"))
    assert (found.level, found.seen) == ("ok", f"s3://{bucket}/models can be written and read")
