"""Artifacts as tests send them between stores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.artifacts import MANIFEST, ArtifactStore

KEY = "0123456789abcdef"

FILES = {"model.safetensors": b"w" * 1000, "config.json": b"{}", "tokenizer/vocab.txt": b"[PAD]\n[UNK]\n"}


def made(root: Path, key: str = KEY, files: Mapping[str, bytes] = FILES) -> ArtifactStore:
    """A store that holds one artifact of these files."""

    def build(folder: Path) -> Mapping[str, Any]:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return {"layers": 3}

    store = ArtifactStore(root)
    store.make(key, {"strategy": "torch/fp32"}, build)
    return store


def digest(data: bytes) -> str:
    """The name of a file in a shared store."""
    return hashlib.sha256(data).hexdigest()


def content(store: ArtifactStore, key: str = KEY) -> dict[str, bytes]:
    """Every file of an artifact by its name, the manifest too."""
    folder = store.folder(key)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest(files: Any, **more: Any) -> bytes:
    """A manifest that promises some files."""
    return json.dumps({"recipe": {}, "facts": {}, "prepare_s": 1.0, "files": files, **more}).encode()


def promise(name: str, data: bytes = b"") -> dict[str, Any]:
    """One file in a manifest."""
    return {"name": name, "bytes": len(data), "sha256": digest(data)}


def nothing_of(store: ArtifactStore, key: str = KEY) -> bool:
    """Whether a store has no artifact of a key and no part of one."""
    left = {path.name for path in store.root.iterdir()} if store.root.exists() else set()
    return not store.folder(key).exists() and left <= {".locks"} and MANIFEST not in left
