"""Make the demo's dataset: sentences to a travel and banking assistant, 20 intents and `out_of_scope`.

    python examples/make_intents.py OUT_DIR [--seed 7]

writes `train.parquet`, `validation.parquet`, `test.parquet` and `skewed.parquet` (short rows of one class: a poor
calibration sample, made on purpose) with the columns `text` and `intent`, a ClassLabel to `datasets`. The same seed
gives the same files.

How the parts are kept apart: a phrase with its alternatives chosen but its slots open ("send {amount} to {person}")
belongs to one part only, by its hash, and of cities and names some occur in one part only. No test row is thus a
train row with another city in it (but for those of a few words: "flight to {city}" is all there is to say). What
makes it hard enough to tell quantized models apart: clauses that use the words of other intents, sentences that turn
one intent down and ask for another, typos.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import yaml

PHRASES = Path(__file__).parent / "intents" / "phrases.yaml"
ROWS = {"train": 300, "validation": 40, "test": 70}  # of each intent
OUT_OF_SCOPE = "out_of_scope"
OUT_OF_SCOPE_TIMES = 2  # as many rows as other intents
SKEWED_ROWS, SKEWED_INTENT, SKEWED_BRIEF = 200, "check_balance", 0.9

BUCKETS = {"train": range(75), "validation": range(75, 85), "test": range(85, 100)}  # of a phrase's hash, in 100
OWN_VALUES = {"validation": range(5), "test": range(5, 15)}  # slot values that no other part has, in 100
OPEN_SLOT = 25  # values from which on a slot counts as open: of "yen" and "rupees" none can be spared

BRIEF = 0.12  # share of rows of a few words
AGAINST = 0.04  # share of imperatives set against another intent
CONTEXT = 0.22  # share of sentences with a clause that says nothing about the intent
OPENER, CLOSER, HESITATION = 0.12, 0.10, 0.12
TYPO = 0.12  # share of rows with one or two wrong keys
WRITTEN = 0.30  # share of rows with capital letter and full stop
MOST_WORDS = 32

KEYS = {"a": "sq", "e": "wr", "i": "uo", "n": "bm", "o": "ip", "r": "et", "s": "ad", "t": "ry", "l": "k", "c": "xv"}


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """The phrases file, and the part of the dataset that sentences are made for."""

    document: Mapping[str, Any]
    part: str
    rng: random.Random

    def phrase(self, templates: Sequence[str]) -> str:
        """A template with its alternatives chosen, slots open, that belongs to this part."""
        for _ in range(1000):
            chosen = _choose(self.rng.choice(templates), self.rng)
            if _hash(chosen) in BUCKETS[self.part]:
                return chosen
        raise ValueError(f"no phrase for {self.part} among {templates[:2]}; add alternatives")

    def fill(self, phrase: str) -> str:
        """A phrase with a value in each slot; no two slots of one name get the same value."""
        taken: set[str] = set()
        while found := re.search(r"\{(\w+)\}", phrase):
            values = [value for value in self.values(found[1]) if value not in taken]
            value = self.rng.choice(values)
            taken.add(value)
            phrase = phrase[: found.start()] + value + phrase[found.end() :]
        return phrase

    def values(self, slot: str) -> list[str]:
        """The slot's values that this part may use."""
        values = [str(value) for value in self.document["slots"][slot]]
        if len(values) < OPEN_SLOT:
            return values
        others = [bucket for part, bucket in OWN_VALUES.items() if part != self.part]
        return [value for value in values if not any(_hash(f"{slot}={value}") in bucket for bucket in others)]

    def sentence(self, intent: str) -> str:
        """One utterance of an intent, before typos."""
        phrases = self.document["intents"][intent]
        if self.rng.random() < BRIEF:
            return self.brief(phrases["brief"])
        asks = self.rng.random() < 0.5
        said = self.fill(self.phrase(phrases["ask"])) if asks else self.imperative(phrases)
        if self.rng.random() < CONTEXT:
            said = self.frame("context", say=said)
        return self.spoken(said)

    def brief(self, templates: Sequence[str]) -> str:
        """A few words; there are too few of their phrases to share out, so their fillings are."""
        while True:
            text = self.fill(_choose(self.rng.choice(templates), self.rng))
            if _hash(text) in BUCKETS[self.part]:
                return text

    def imperative(self, phrases: Mapping[str, Any]) -> str:
        """A request in one of its forms, now and then set against what is not wanted."""
        do = self.fill(self.phrase(phrases["do"]))
        if phrases["near"] and self.rng.random() < AGAINST * 2:
            near = self.document["intents"][self.rng.choice(phrases["near"])]
            return self.frame("against", do=do, other=self.fill(self.phrase(near["do"])))
        # "i want to tell me" is nobody's English: wishes only for what a person does
        kind = "wish" if not re.search(r"\b(me|us)\b", do) and self.rng.random() < 0.4 else "do"
        return self.frame(kind, do=do)

    def frame(self, kind: str, **parts: str) -> str:
        """A frame around finished phrases; `{context}` is drawn for each place."""
        frame = _choose(self.rng.choice(self.document["frames"][kind]), self.rng)
        while "{context}" in frame:
            frame = frame.replace("{context}", self.fill(self.phrase(self.document["contexts"])), 1)
        for name, text in parts.items():
            frame = frame.replace(f"{{{name}}}", text)
        return frame

    def spoken(self, text: str) -> str:
        """Greetings, thanks and hesitations around and inside a sentence."""
        if self.rng.random() < OPENER:
            text = f"{self.rng.choice(self.document['openers'])} {text}"
        if self.rng.random() < CLOSER:
            text = f"{text} {self.rng.choice(self.document['closers'])}"
        if self.rng.random() < HESITATION:
            words = text.split()
            words.insert(self.rng.randrange(len(words)), self.rng.choice(self.document["hesitations"]))
            text = " ".join(words)
        return text

    def typed(self, text: str) -> str:
        """The sentence as somebody types it: spaces in order, some capitals and stops, some wrong keys."""
        text = re.sub(r"\s+([,'])", r"\1", " ".join(text.split()))
        text = re.sub(r"\bon (tomorrow|next|this|the (?:day after|end))\b", r"\1", text)
        if self.rng.random() < TYPO:
            for _ in range(self.rng.choice((1, 1, 2))):
                text = _mistype(text, self.rng)
        if self.rng.random() < WRITTEN:
            question = re.match(r"(what|when|why|how|who|which|where|is|are|can|could|will|do|does|has|am)\b", text)
            text = text[0].upper() + text[1:] + ("?" if question else ".")
        return text

    def row(self, intent: str, most_words: int = MOST_WORDS) -> str:
        """One text of the dataset, of 2 to `most_words` words."""
        while True:
            text = self.typed(self.sentence(intent))
            if 2 <= len(text.split()) <= most_words:
                return text


def _choose(template: str, rng: random.Random) -> str:
    """Alternatives resolved from the innermost outwards; spaces in order."""
    while found := re.search(r"\[([^\[\]]*)\]", template):
        template = template[: found.start()] + rng.choice(found[1].split("|")) + template[found.end() :]
    return " ".join(template.split())


@functools.cache
def _hash(text: str) -> int:
    """0 to 99, the same on every machine."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 100


def _mistype(text: str, rng: random.Random) -> str:
    """One letter swapped, dropped, doubled or beside its key, inside a word of at least four letters."""
    places = [match.start() for match in re.finditer(r"(?<=\w)\w(?=\w\w)", text)]
    if not places:
        return text
    at = rng.choice(places)
    before, letter, after = text[:at], text[at], text[at + 1 :]
    wrong = rng.choice((after[0] + letter + after[1:], after, letter + letter + after, _beside(letter, rng) + after))
    return before + wrong


def _beside(letter: str, rng: random.Random) -> str:
    return rng.choice(KEYS.get(letter, letter))


def make_part(document: Mapping[str, Any], part: str, seed: int, seen: set[str]) -> list[tuple[str, str]]:
    """Shuffled rows (text, intent) of one part; `seen` holds all texts so far, in lower case, and grows."""
    rng = random.Random(f"{seed}/{part}")
    grammar = Grammar(document=document, part=part, rng=rng)
    rows = []
    for intent in document["intents"]:
        wanted = ROWS[part] * (OUT_OF_SCOPE_TIMES if intent == OUT_OF_SCOPE else 1)
        while wanted:
            text = grammar.row(intent)
            if text.lower().strip(".?") not in seen:
                seen.add(text.lower().strip(".?"))
                rows.append((text, intent))
                wanted -= 1
    rng.shuffle(rows)
    return rows


def make_skewed(document: Mapping[str, Any], seed: int) -> list[tuple[str, str]]:
    """Rows of one class, nearly all of them a few words long; made like train rows, and some are."""
    rng = random.Random(f"{seed}/skewed")
    grammar = Grammar(document=document, part="train", rng=rng)
    brief = round(SKEWED_ROWS * SKEWED_BRIEF)
    return [
        (grammar.row(SKEWED_INTENT, most_words=5 if row < brief else MOST_WORDS), SKEWED_INTENT)
        for row in range(SKEWED_ROWS)
    ]


def make(seed: int) -> dict[str, list[tuple[str, str]]]:
    """All parts by name; no text occurs in two of train, validation and test."""
    document = yaml.safe_load(PHRASES.read_text(encoding="utf-8"))
    seen: set[str] = set()
    # Parts that nobody trains on come first: what they contain is then kept out of the train rows.
    held_out = {part: make_part(document, part, seed, seen) for part in ("test", "validation")}
    train = make_part(document, "train", seed, seen)
    # in the order of writing: where test.parquet is, the others are
    return {"train": train, "skewed": make_skewed(document, seed), **dict(reversed(held_out.items()))}


def write(rows: Sequence[tuple[str, str]], names: Sequence[str], path: Path) -> None:
    """A parquet file that `datasets` reads with a ClassLabel; it appears whole or not at all."""
    label = {"names": list(names), "_type": "ClassLabel"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "intent": label}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    fields = [("text", pyarrow.string()), ("intent", pyarrow.int64())]
    columns = [[text for text, _ in rows], [names.index(intent) for _, intent in rows]]
    table = pyarrow.table(columns, schema=pyarrow.schema(fields, metadata=metadata))
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    pyarrow.parquet.write_table(table, scratch)
    scratch.replace(path)


def main() -> None:
    """Read the command line, write the files, say what they hold."""
    parser = argparse.ArgumentParser(description="Make the demo's text-intent dataset.")
    parser.add_argument("out_dir", type=Path, help="folder for the parquet files; made when missing")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another dataset (default: 7)")
    options = parser.parse_args()
    options.out_dir.mkdir(parents=True, exist_ok=True)
    parts = make(options.seed)
    names = sorted({intent for _, intent in parts["train"]})
    for part, rows in parts.items():
        write(rows, names, options.out_dir / f"{part}.parquet")
        words = sorted(len(text.split()) for text, _ in rows)
        middle = words[len(words) // 2]
        print(f"{part + '.parquet':20} {len(rows):5} rows, {words[0]} to {words[-1]} words, half up to {middle}")


if __name__ == "__main__":
    main()
