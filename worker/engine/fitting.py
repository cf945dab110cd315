"""The training itself: a WordPiece vocabulary, a BERT-shaped encoder, AdamW with warm-up and linear decay."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers
import torch
import transformers

from storage import errors, records
from worker.engine import readers

if TYPE_CHECKING:
    from worker.engine.train import Tell, TrainOptions

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WARM_UP = 0.1  # share of the steps over which the learning rate rises
WEIGHT_DECAY = 0.01
CLIP = 1.0  # norm of the gradient
DROPOUT = 0.1
INITIAL = 0.05  # standard deviation of fresh weights: BERT's 0.02 suits its width, and starts slowly at a quarter of it
HIDDEN_TOKENS = 0.1  # share of a training row's tokens that `[MASK]` covers: names and typos must not decide
PATIENCE = 3  # epochs without a better validation accuracy before it ends
BUCKET = 16  # batches that are sorted by length together: little padding, still random batches
TELL_EVERY = 10  # steps
EVALUATION_BATCH = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Texts and their classes; `labels[i]` is an index into `names`."""

    texts: Sequence[str]
    labels: Sequence[int]
    names: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """Token ids of each row, with its class index."""

    ids: Sequence[Sequence[int]]
    labels: Sequence[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """How the optimization went."""

    epochs: int
    best_epoch: int
    steps: int
    stopped: str
    loss: float
    validation_accuracy: float | None


def fit(options: TrainOptions, folder: Path, tell: Tell) -> dict[str, Any]:
    """Train into `folder` (model and tokenizer, loadable with the Auto classes); the facts of a TrainReport."""
    parts = _read(options)
    names = parts["train"].names
    with _settled(options):
        tell({"phase": "tokenizer"})
        tokenizer = make_tokenizer(parts["train"].texts, vocab=options.vocab, max_length=options.max_length)
        encoded = {part: _encode(tokenizer, rows) for part, rows in parts.items()}
        model = make_model(options, names, len(tokenizer))
        fitted = _optimize(model, encoded["train"], encoded.get("validation"), options, tell)
        tell({"phase": "evaluate"})
        test = accuracy(model, encoded["test"]) if "test" in encoded else None
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return {
        "rows": {part: len(rows.labels) for part, rows in parts.items()},
        "classes": len(names),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "vocabulary": len(tokenizer),
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "steps": fitted.steps,
        "stopped": fitted.stopped,
        "loss": fitted.loss,
        "validation_accuracy": fitted.validation_accuracy,
        "test_accuracy": test,
    }


def _read(options: TrainOptions) -> dict[str, Rows]:
    """The parts that are given, their classes numbered alike: by name, or as the integers say."""
    parts = {part: _read_file(path, options) for part, path in options.files().items()}
    names = _names(parts["train"].labels)
    if len(names) < 2:
        raise errors.DatasetError(f"dataset {options.train}: rows of one class only; a classifier needs two")
    index = {name: at for at, name in enumerate(names)}
    for part, rows in parts.items():
        unknown = sorted({str(label) for label in rows.labels} - set(names))
        if unknown:
            raise errors.DatasetError(
                f"dataset {options.files()[part]}: {len(unknown)} classes that the training rows do not have: "
                f"{', '.join(unknown[:3])}{errors.nearest(unknown[0], names)}"
            )
    return {
        part: Rows(texts=rows.texts, labels=[index[str(label)] for label in rows.labels], names=names)
        for part, rows in parts.items()
    }


def _read_file(path: Path, options: TrainOptions) -> readers.Labelled:
    return readers.read(records.DatasetRef(source="local", location=str(path), text=options.text, label=options.label))


def _names(labels: Sequence[str] | Sequence[int]) -> list[str]:
    """The classes in order: names sorted; integers as they count, those that no row has among them."""
    whole = [label for label in labels if isinstance(label, int)]
    return [str(index) for index in range(max(whole) + 1)] if whole else sorted({str(label) for label in labels})


@contextlib.contextmanager
def _settled(options: TrainOptions) -> Iterator[None]:
    """Seed and threads of this training; the process gets its own back."""
    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            torch.set_num_threads(options.threads or before)
            yield
    finally:
        torch.set_num_threads(before)


def make_tokenizer(texts: Sequence[str], *, vocab: int, max_length: int) -> Any:
    """A lower-casing WordPiece tokenizer of BERT's kind, its vocabulary learnt from `texts`, the same every time."""
    core = _bert_like(_learnt(_bert_like({}), texts, vocab))
    core.decoder = tokenizers.decoders.WordPiece()
    core.add_special_tokens(list(SPECIAL_TOKENS))
    ends = [(token, core.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    core.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS},
    )


def _bert_like(vocabulary: Mapping[str, int]) -> Any:
    core = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab=dict(vocabulary), unk_token=SPECIAL_TOKENS[1]))
    core.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return core


def _learnt(core: Any, texts: Sequence[str], size: int) -> dict[str, int]:
    """Token → id. The trainer numbers the `##` letters in the order of a hash map that is seeded anew each time, and
    breaks ties by number; given as special tokens they have their numbers from the start.
    """
    words = {word for text in texts for word, _ in _words(core, text)}
    letters = sorted({f"##{letter}" for word in words for letter in word[1:]})
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[*SPECIAL_TOKENS, *letters], show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = core.get_vocab(with_added_tokens=False)
    return vocabulary


def _words(core: Any, text: str) -> Any:
    return core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(text))


def make_model(options: TrainOptions, names: Sequence[str], vocabulary: int) -> Any:
    """A BERT-shaped classifier with fresh weights; positions beyond the longest training text stay untrained."""
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        intermediate_size=4 * options.hidden,
        max_position_embeddings=options.max_length,
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
        initializer_range=INITIAL,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    return transformers.BertForSequenceClassification(config)


def _encode(tokenizer: Any, rows: Rows) -> Encoded:
    ids = tokenizer(list(rows.texts), truncation=True, padding=False)["input_ids"]
    return Encoded(ids=ids, labels=rows.labels)


def _optimize(model: Any, rows: Encoded, held_out: Encoded | None, options: TrainOptions, tell: Tell) -> Fitted:
    """The epochs; leaves the best one's weights in the model. One function, as every line shares the loop's state."""
    shuffle = random.Random(options.seed)  # noqa: S311  (order of batches, not a secret)
    batches = -(-len(rows.labels) // options.batch)
    total = batches * options.epochs
    optimizer, schedule = make_optimizer(model, options.learning_rate, total)
    best, best_epoch, best_weights, held = -1.0, 0, None, None
    step, epoch, loss = 0, 0, 0.0
    for epoch in range(1, options.epochs + 1):
        model.train()
        losses = []
        for batch in shuffled_batches(rows, options.batch, shuffle):
            losses.append(_step(model, optimizer, schedule, _covered(_collate(rows, batch))))
            step += 1
            if step % TELL_EVERY == 0 or step == total:
                loss = sum(losses[-TELL_EVERY:]) / len(losses[-TELL_EVERY:])
                tell(_progress(epoch, options.epochs, step, total, loss, held))
        loss = sum(losses) / len(losses)
        held = accuracy(model, held_out) if held_out is not None else None
        tell(_progress(epoch, options.epochs, step, total, loss, held))
        if held is None or held > best:
            best, best_epoch = held if held is not None else best, epoch
            best_weights = {name: value.clone() for name, value in model.state_dict().items()}
        elif epoch - best_epoch >= PATIENCE:
            break
    model.load_state_dict(best_weights)
    model.eval()
    return Fitted(
        epochs=epoch,
        best_epoch=best_epoch,
        steps=step,
        stopped="epochs" if epoch == options.epochs else "no improvement",
        loss=loss,
        validation_accuracy=best if held_out is not None else None,
    )


def _progress(epoch: int, epochs: int, step: int, steps: int, loss: float, held: float | None) -> Mapping[str, Any]:
    return {
        "phase": "train",
        "epoch": epoch,
        "epochs": epochs,
        "step": step,
        "steps": steps,
        "loss": round(loss, 4),
        "validation_accuracy": held,
    }


def make_optimizer(model: Any, rate: float, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW with linear warm-up and decay over `steps`; what gets no gradient stays as it is."""
    # Biases and the scales of layer norms are not decayed, as in BERT's own training.
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    plain = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, fused=True)
    warm_up = max(1, round(WARM_UP * steps))
    return optimizer, transformers.get_linear_schedule_with_warmup(optimizer, warm_up, steps)


def _step(model: Any, optimizer: torch.optim.Optimizer, schedule: Any, call: Mapping[str, torch.Tensor]) -> float:
    loss = model(**call).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def shuffled_batches(rows: Encoded, size: int, shuffle: random.Random) -> Iterator[list[int]]:
    """Each row once, in random batches of like lengths."""
    order = list(range(len(rows.labels)))
    shuffle.shuffle(order)
    batches = []
    for start in range(0, len(order), size * BUCKET):
        bucket = sorted(order[start : start + size * BUCKET], key=lambda row: len(rows.ids[row]))
        batches += [bucket[at : at + size] for at in range(0, len(bucket), size)]
    shuffle.shuffle(batches)
    yield from batches


def _collate(rows: Encoded, batch: Sequence[int]) -> dict[str, torch.Tensor]:
    """Rows padded to the longest of them with id 0, `[PAD]`."""
    width = max(len(rows.ids[row]) for row in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(batch):
        tokens = torch.tensor(rows.ids[row])
        ids[at, : len(tokens)] = tokens
        mask[at, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([rows.labels[row] for row in batch])}


def _covered(call: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    ids = call["input_ids"]
    chosen = (torch.rand(ids.shape) < HIDDEN_TOKENS) & (ids >= len(SPECIAL_TOKENS))
    return {**call, "input_ids": ids.masked_fill(chosen, SPECIAL_TOKENS.index("[MASK]"))}


def accuracy(model: Any, rows: Encoded) -> float:
    """Share of the rows that the model puts into their class."""
    model.eval()
    order = sorted(range(len(rows.labels)), key=lambda row: len(rows.ids[row]))
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(order), EVALUATION_BATCH):
            call = _collate(rows, order[start : start + EVALUATION_BATCH])
            labels = call.pop("labels")
            correct += int((model(**call).logits.argmax(dim=-1) == labels).sum())
    return correct / len(order)
