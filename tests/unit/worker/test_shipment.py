"""What a manifest from elsewhere may promise."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.shipments import manifest, promise
from worker import shipment

GOOD = promise("model.safetensors", b"w")


@pytest.mark.parametrize(
    "names",
    [
        ["model.safetensors", "config.json", "recipe.json"],
        ["model.onnx", "model.onnx.data", "model_int8.onnx_data"],
        ["openvino_model.xml", "openvino_model.bin", "tokenizer/spiece.model"],
        ["rows.npz", "vocab.txt", "merges.txt", "sub/folder/deep.json"],
    ],
)
def test_data_travels(names: list[str]) -> None:
    files = shipment.read(manifest([promise(name) for name in names]))
    assert [file.name for file in files] == names


@pytest.mark.parametrize(
    "name",
    [
        "model.pkl", "model.pt", "model.pt2", "model.pth", "kernel.so", "modeling.py", "model.safetensors.py",
        "model.PT", "run", "weights.bin", "pytorch_model.bin", "archive.zip", "compiled.o", "libx.so.1", "model.data",
    ],
)  # fmt: skip
def test_what_could_run_code_does_not(name: str) -> None:
    with pytest.raises(ValueError, match="is of no format that travels"):
        shipment.read(manifest([GOOD, promise(name)]))


def test_weights_travel_beside_their_openvino_graph_only() -> None:
    shipment.read(manifest([promise("a.bin"), promise("a.xml")]))
    for other in ("b.xml", "sub/a.xml"):
        with pytest.raises(ValueError, match=r"'a.bin' is of no format"):
            shipment.read(manifest([promise("a.bin"), promise(other)]))
    with pytest.raises(ValueError, match=r"'pytorch_model.bin' is of no format"):
        shipment.read(manifest([promise("pytorch_model.bin"), promise("pytorch_model.xml")]))


@pytest.mark.parametrize(
    "name",
    [
        "../up.json", "a/../../up.json", "/etc/cron.json", "a//b.json", "", ".", "..", "./a.json", "a/", "a/./b.json",
        ".hidden.json", "a/.hidden/b.json", "manifest.json", "a\\..\\b.json", "nul\0.json", "line\nbreak.json",
        "~/x.json/../..", "x" * 300 + ".json",
    ],
)  # fmt: skip
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a file inside"):
        shipment.read(manifest([GOOD, promise(name)]))


@hypothesis.given(st.text(st.sampled_from("./\\~a \0\n-"), max_size=12))
def test_whatever_is_taken_stays_inside_its_folder(text: str) -> None:
    name = f"{text}.json"
    if shipment.refusal([name]) is None:
        parts = name.split("/")
        assert all(part and not part.startswith(".") and set(part) <= set("a -.json~") for part in parts), name


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "no JSON object"),
        (b"{}", "names no files"),
        (manifest([]), "names no files"),
        (manifest({"name": "a.json"}), "names no files"),
        (manifest(["a.json"]), "without name and size"),
        (manifest([{**GOOD, "name": 3}]), "without name and size"),
        (manifest([{**GOOD, "bytes": -1}]), "without name and size"),
        (manifest([{**GOOD, "bytes": "1"}]), "without name and size"),
        (manifest([{**GOOD, "bytes": True}]), "without name and size"),
        (manifest([{**GOOD, "sha256": "../../etc/passwd"}]), "no SHA-256"),
        (manifest([{**GOOD, "sha256": GOOD["sha256"].upper()}]), "no SHA-256"),
        (manifest([{**GOOD, "sha256": None}]), "no SHA-256"),
        (manifest([GOOD, GOOD]), "twice"),
        (manifest([promise("a.json"), promise("a.json/b.json")]), "as a folder too"),
        (manifest([GOOD], facts=[]), "'facts'"),
        (manifest([GOOD], recipe=None), "'recipe'"),
        (manifest([GOOD], prepare_s=None), "'prepare_s'"),
        (manifest([GOOD], prepare_s=-1), "'prepare_s'"),
        (manifest([GOOD], prepare_s=True), "'prepare_s'"),
        (manifest([GOOD], prepare_s=float("nan")), "NaN is no number"),
        (manifest([GOOD], facts={"x": float("inf")}), "Infinity is no number"),
        (json.dumps({"files": [GOOD]}).encode(), "'prepare_s'"),
    ],
)
def test_a_manifest_that_is_none_is_refused_with_the_reason(data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        shipment.read(data)


@hypothesis.given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
)
def test_nothing_that_json_can_hold_raises_anything_else(document: Any) -> None:
    for data in (json.dumps(document).encode(), manifest(document), manifest([document])):
        try:
            shipment.read(data)
        except ValueError:
            continue
