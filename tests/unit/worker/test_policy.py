"""What a worker refuses, each with what to do about it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from storage import digests, errors, records, settings
from tests import builders
from worker import policy

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def model_folder(folder: Path, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / weights).write_bytes(b"weights")
    return folder


def local(folder: Path, **given: Any) -> records.Case:
    return builders.case(model=records.ModelRef(name="mine", source="local", location=str(folder), **given))


def hub(revision: str | None, **given: Any) -> records.Case:
    return builders.case(
        model=records.ModelRef(name="theirs", source="hub", location="a/b", revision=revision, **given)
    )


def on_rows(file: Path, **given: Any) -> records.Case:
    random = records.ModelRef(name="r", source="random", location="bert")
    dataset = records.DatasetRef(source="local", location=str(file), **given)
    return builders.case("accuracy", model=random, dataset=dataset)


def rules(**given: Any) -> policy.Policy:
    return policy.Policy(settings.load(**given))


def test_what_is_here_and_as_planned_is_admitted_as_it_is(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    case = local(folder, digest=digests.model_digest(folder))
    assert rules().admit(case) is case
    assert rules(folders=[tmp_path]).admit(case) is case
    assert rules(pinned=True).admit(hub(COMMIT)) == hub(COMMIT)


def test_files_outside_of_the_allowed_folders_are_refused_wherever_a_link_to_them_lies(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", model_folder(tmp_path / "outside")
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    (outside / "rows.csv").write_text("text,label")
    (inside / "rows.csv").symlink_to(outside / "rows.csv")
    mine = rules(folders=[inside])
    for case in (
        local(outside),
        local(inside / "link"),
        local(inside / ".." / "outside"),
        on_rows(inside / "rows.csv"),
    ):
        with pytest.raises(errors.Unsupported, match="QUANTFLEET_FOLDERS"):
            mine.admit(case)


def test_the_allowed_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "disk" / "model")
    (tmp_path / "models").symlink_to(tmp_path / "disk")
    rules(folders=[tmp_path / "models"]).admit(local(tmp_path / "models" / "model"))
    rules(folders=[tmp_path / "models"]).admit(local(folder))


def test_what_is_not_on_this_host_is_unsupported_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(errors.Unsupported, match=f"the folder {tmp_path}/gone of model 'mine' is not on this host"):
        rules().admit(local(tmp_path / "gone"))
    with pytest.raises(errors.Unsupported, match=f"the dataset {tmp_path}/gone.csv is not on this host"):
        rules().admit(on_rows(tmp_path / "gone.csv"))


def test_another_content_than_planned_is_unsupported_until_it_is_put_right(tmp_path: Path) -> None:
    folder, rows = model_folder(tmp_path / "model"), tmp_path / "rows.csv"
    rows.write_text("text,label")
    cases = [local(folder, digest=digests.model_digest(folder)), on_rows(rows, digest=digests.file_digest(rows))]
    mine = rules()
    for case in cases:
        mine.admit(case)
    (folder / "model.safetensors").write_bytes(b"another")
    rows.write_text("text,labels")
    for case in cases:
        with pytest.raises(errors.Unsupported, match="another content lies at"):
            mine.admit(case)
    (folder / "model.safetensors").write_bytes(b"weights")
    mine.admit(cases[0])


def test_a_folder_that_holds_no_model_is_unsupported_where_one_was_planned(tmp_path: Path) -> None:
    with pytest.raises(errors.Unsupported, match=r"on this host.*no config\.json"):
        rules().admit(local(tmp_path, digest="planned"))


def test_unchanged_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(tmp_path / "model")
    really, hashed = digests.model_digest, list[Path]()
    case, mine = local(folder, digest=really(folder)), rules()

    def count(path: Path) -> str:
        hashed.append(path)
        return really(path)

    monkeypatch.setattr(digests, "model_digest", count)
    mine.admit(case)
    mine.admit(case)
    assert hashed == [folder]


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:12], COMMIT + "0"])
def test_a_revision_that_can_move_is_refused_where_commits_are_demanded(revision: str | None) -> None:
    rules().admit(hub(revision))
    with pytest.raises(errors.Unsupported, match="QUANTFLEET_PINNED"):
        rules(pinned=True).admit(hub(revision))
    dataset = records.DatasetRef(source="hub", location="c/d", revision=revision)
    with pytest.raises(errors.Unsupported, match=r"dataset 'c/d'.*QUANTFLEET_PINNED"):
        rules(pinned=True).admit(dataclasses.replace(hub(COMMIT), dataset=dataset))


def test_pickled_weights_are_refused_unless_the_worker_loads_them(tmp_path: Path) -> None:
    pickled = local(model_folder(tmp_path / "old", "pytorch_model.bin"), allow_pickle=True)
    with pytest.raises(errors.Unsupported, match="QUANTFLEET_PICKLE"):
        rules().admit(pickled)
    assert rules(pickle=True).admit(pickled) is pickled


def test_a_studys_word_for_pickles_is_taken_back_where_they_may_still_turn_up(tmp_path: Path) -> None:
    assert not rules().admit(hub(COMMIT, allow_pickle=True)).model.allow_pickle
    assert not rules().admit(local(model_folder(tmp_path), allow_pickle=True)).model.allow_pickle
    assert rules(pickle=True).admit(hub(COMMIT, allow_pickle=True)).model.allow_pickle
