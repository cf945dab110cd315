"""Tiny real models, made on the spot, and a dataset that fits them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage import records
from worker.engine import libraries

NAMES = ("greet", "leave", "pay", "oos")
TEXTS = (
    ("hello there", "greet"),
    ("good morning my friend", "greet"),
    ("bye", "leave"),
    ("see you tomorrow then my good friend", "leave"),
    ("pay the bill", "pay"),
    ("send money to my friend tomorrow morning then pay the bill", "pay"),
    ("what", "oos"),
    ("there you see", "oos"),
)
WORDS = sorted({word for text, _ in TEXTS for word in text.split()})
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
POSITIONS = 32

Make = Callable[..., records.ModelRef]


@pytest.fixture(autouse=True)
def process_settings() -> Iterator[None]:
    """Torch's threads and engine belong to the process: put them back, where torch is there already."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads, engine = torch.get_num_threads(), torch.backends.quantized.engine
    yield
    torch.set_num_threads(threads)
    torch.backends.quantized.engine = engine


def make_model(
    folder: Path, architecture: str = "bert", *, dtype: str = "float16", layers: int = 2
) -> records.ModelRef:
    """A small classifier with its tokenizer, stored in half precision as the real checkpoint is."""
    libraries.silence_transformers()
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    common = {"vocab_size": 64, "max_position_embeddings": POSITIONS, "pad_token_id": 0}
    sizes = {
        "bert": {"hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 64},
        "distilbert": {"dim": 32, "n_layers": layers, "n_heads": 2, "hidden_dim": 64},
    }
    config = AutoConfig.for_model(architecture, **common, **sizes[architecture], id2label=dict(enumerate(NAMES)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForSequenceClassification.from_config(config)
        for parameter in model.parameters():  # larger than a fresh model's, so that rows really differ
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    make_tokenizer(folder)
    return records.ModelRef(name=f"tiny-{architecture}", source="local", location=str(folder))


def make_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    tokens = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=core, **tokens).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> records.ModelRef:
    return make_model(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def tiny_distilbert(tmp_path_factory: pytest.TempPathFactory) -> records.ModelRef:
    return make_model(tmp_path_factory.mktemp("distilbert"), "distilbert")


def shared(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that is the same for all processes of one test run."""
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for tests that do not ask whether something was built, of all processes: what one has prepared or
    compiled serves the others, as with several workers on a machine."""
    return shared(tmp_path_factory, "cache")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> records.DatasetRef:
    """Parquet with class names in another order than the model's."""
    import datasets

    names = sorted(NAMES)
    assert tuple(names) != NAMES
    features = datasets.Features({"text": datasets.Value("string"), "intent": datasets.ClassLabel(names=names)})
    rows = {"text": [text for text, _ in TEXTS], "intent": [names.index(label) for _, label in TEXTS]}
    path = tmp_path_factory.mktemp("dataset") / "validation.parquet"
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    return records.DatasetRef(source="local", location=str(path), label="intent")
