from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import yaml

EXAMPLE = Path(__file__).parents[3] / "examples" / "make_intents.py"
Parts = dict[str, list[tuple[str, str]]]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_intents", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parts(generator: ModuleType) -> Parts:
    made: Parts = generator.make(7)
    return made


def words(text: str) -> set[str]:
    return set(text.lower().strip(".?").replace(",", "").split())


def test_the_same_seed_gives_the_same_rows_and_files_and_another_seed_others(
    generator: ModuleType, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["make_intents.py", str(tmp_path / "new" / "folder"), "--seed", "7"])
    generator.main()
    names = sorted({intent for _, intent in parts["train"]})
    document = yaml.safe_load(generator.PHRASES.read_text())

    for part, rows in parts.items():
        generator.write(rows, names, tmp_path / f"{part}.parquet")
        again = tmp_path / "new" / "folder" / f"{part}.parquet"
        assert again.read_bytes() == (tmp_path / f"{part}.parquet").read_bytes()
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 4
    assert generator.make_part(document, "test", 7, set()) == parts["test"]
    assert generator.make_part(document, "test", 8, set()) != parts["test"]


def test_no_text_is_in_two_parts_and_few_test_rows_resemble_a_train_row(parts: Parts) -> None:
    train = [words(text) for text, _ in parts["train"]]
    held_out = [words(text) for text, _ in parts["test"]][::30]

    texts = [text.lower().strip(".?") for part in ("train", "validation", "test") for text, _ in parts[part]]
    likeness = [max(len(row & other) / len(row | other) for other in train) for row in held_out]

    assert len(set(texts)) == len(texts)
    assert sorted(likeness)[len(likeness) // 2] < 0.7
    assert sum(value >= 0.9 for value in likeness) < 0.1 * len(likeness)


def test_every_part_holds_every_intent_and_the_skewed_one_a_single_class_of_short_rows(parts: Parts) -> None:
    counts = {part: Counter(intent for _, intent in rows) for part, rows in parts.items()}
    short = [len(text.split()) <= 5 for text, _ in parts["skewed"]]

    assert len(counts["train"]) == 21
    assert counts["train"].keys() == counts["validation"].keys() == counts["test"].keys()
    assert set(counts["skewed"]) == {"check_balance"}
    assert sum(short) / len(short) >= 0.9


def test_no_single_word_gives_the_intent_away(parts: Parts) -> None:
    """A classifier that knows each word's most likely intent, and believes the surest word, stays far below 90 %."""
    by_word: dict[str, Counter[str]] = {}
    for text, intent in parts["train"]:
        for word in words(text):
            by_word.setdefault(word, Counter())[intent] += 1

    def guess(text: str) -> str:
        known = [by_word[word] for word in words(text) if word in by_word and by_word[word].total() >= 5]
        surest = max(known, key=lambda seen: seen.most_common(1)[0][1] / seen.total(), default=Counter({"": 1}))
        return surest.most_common(1)[0][0]

    right = sum(guess(text) == intent for text, intent in parts["test"])
    assert right / len(parts["test"]) < 0.8


def test_datasets_reads_the_intent_as_a_class_label_with_names(
    generator: ModuleType, parts: Parts, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    generator.write([("hi there", "b"), ("bye now", "a")], ["a", "b"], tmp_path / "x.parquet")

    read = datasets.Dataset.from_parquet(str(tmp_path / "x.parquet"), cache_dir=str(tmp_path / "cache"))

    assert read.features["intent"].names == ["a", "b"]
    assert read["intent"][:] == [1, 0]
