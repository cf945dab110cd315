"""What this worker refuses to touch, whoever asks: a study may come from elsewhere, the files are this host's."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from storage import digests, errors, records, settings

Signature = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of change of files: while they stay, so does the content."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Policy:
    """The rules of one worker, and the digests that it has computed while it lives."""

    def __init__(self, config: settings.Settings) -> None:
        self._folders = tuple(folder.resolve() for folder in config.folders)
        self._pinned = config.pinned
        self._pickle = config.pickle
        self._digests: dict[tuple[Path, Signature], str] = {}

    def admit(self, case: records.Case) -> records.Case:
        """The case as it may be measured here; Unsupported, with what to do about it, when it may not or cannot.

        The study's word for a pickled checkpoint is taken back where this worker loads none: what a model of the
        hub consists of is only seen when it is fetched.
        """
        self._check_model(case.model)
        for dataset in (case.dataset, *case.data.values()):
            if dataset is not None:
                self._check_dataset(dataset)
        if self._pickle or not case.model.allow_pickle:
            return case
        return dataclasses.replace(case, model=dataclasses.replace(case.model, allow_pickle=False))

    def _check_model(self, model: records.ModelRef) -> None:
        what = f"model {model.name!r}"
        if model.source == "hub":
            self._check_revision(what, model.revision)
        if model.source != "local":
            return
        folder = self._allowed(what, model.location)
        if not _there(folder.is_dir):
            raise errors.Unsupported(f"the folder {folder} of {what} is not on this host")
        if model.digest is not None:
            self._check_digest(what, folder, model.digest, digests.model_digest, _files(folder))
        if model.allow_pickle and not self._pickle and not any(folder.glob("*.safetensors")):
            raise errors.Unsupported(
                f"{what} has only pickled weights, which can run code when they are loaded, and this worker loads "
                "none: convert it to safetensors, or set QUANTFLEET_PICKLE=true for the worker"
            )

    def _check_dataset(self, dataset: records.DatasetRef) -> None:
        if dataset.source == "hub":
            self._check_revision(f"dataset {dataset.location!r}", dataset.revision)
            return
        file = self._allowed("the dataset", dataset.location)
        if not _there(file.is_file):
            raise errors.Unsupported(f"the dataset {file} is not on this host")
        if dataset.digest is not None:
            self._check_digest("the dataset", file, dataset.digest, digests.file_digest, [file])

    def _check_revision(self, what: str, revision: str | None) -> None:
        if self._pinned and not _COMMIT.fullmatch(revision or ""):
            named = f"names {revision!r}" if revision else "names none"
            raise errors.Unsupported(
                f"{what} of the hub {named}, and this worker takes commits only (QUANTFLEET_PINNED): write the 40 "
                "digits of a commit as its revision"
            )

    def _allowed(self, what: str, location: str) -> Path:
        """The path of a local file or folder, as the study names it; symbolic links count for where they lead."""
        path = Path(location)
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as exc:  # a loop of links
            raise errors.Unsupported(f"{what}: {path} cannot be found on this host: {exc}") from exc
        if self._folders and not any(real.is_relative_to(folder) for folder in self._folders):
            allowed = ", ".join(map(str, self._folders))
            raise errors.Unsupported(
                f"{what}: {path} lies outside of what this worker may read ({allowed}; QUANTFLEET_FOLDERS sets it)"
            )
        return path

    def _check_digest(
        self, what: str, path: Path, planned: str, compute: Callable[[Path], str], files: Iterable[Path]
    ) -> None:
        try:
            key = path, _signature(files)
            if key not in self._digests:
                self._digests[key] = compute(path)
        except (errors.ModelError, errors.DatasetError) as exc:
            raise errors.Unsupported(f"on this host: {exc}") from exc
        except OSError as exc:
            raise errors.Unsupported(f"{what}: {path} cannot be read on this host: {exc.strerror}") from exc
        if self._digests[key] != planned:
            raise errors.Unsupported(
                f"{what}: another content lies at {path} on this host (digest {self._digests[key]}, planned "
                f"{planned}); copy the planned one here, or submit the study again if it has changed"
            )


def _files(folder: Path) -> list[Path]:
    return sorted({file for pattern in digests.MODEL_FILES for file in folder.glob(pattern)})


def _signature(files: Iterable[Path]) -> Signature:
    stats = ((file.name, file.stat()) for file in files)
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _there(look: Callable[[], bool]) -> bool:
    try:
        return look()
    except OSError:  # no right to look
        return False
