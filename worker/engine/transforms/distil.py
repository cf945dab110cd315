"""`distil`: a smaller student trained on what its teacher answers (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from storage import errors, records, strategies
from worker.engine import inputs, models, samples
from worker.engine.strategies import base
from worker.engine.transforms import resuming, students, training

TRAINER_VERSION = 1
"""Raised when the same options would train another student."""

HELD_OUT = 0.05
"""Share of the rows that the student is not trained on, to see how often it says what its teacher says."""

MOST_HELD_OUT = 1000
"""Rows that are held out at most."""


class Distil:
    """A student of some of the teacher's layers, as wide as the teacher or narrower."""

    def recipe(self, step: strategies.Step) -> Mapping[str, Any]:
        """All options in force, and the trainer's version.

        The instruction set is left out on purpose. Training adds up rounding errors, so that each kind of CPU (and
        each number of threads) ends with a student of its own; with the instruction set in the key, hosts of a fleet
        would each train one and compare unlike models. Whoever trains first decides, the others take that student;
        and what is made of it later is keyed by its content, so that unlike students never share an artifact.
        """
        options = {option.name: step.option(option.name) for option in step.part.options if option.name != "data"}
        return {"trainer": TRAINER_VERSION, **options}

    def apply(self, source: base.Source, step: strategies.Step, folder: Path) -> Mapping[str, Any]:
        """Train a student into a model folder; goes on where a killed process stopped.

        Raises StrategyError for a student larger than its teacher, Unsupported for architectures that it cannot cut,
        DatasetError for rows that cannot be read or whose labels, where they count, are not the model's classes.
        """
        teacher = models.load(source.model)
        _require_classes(source.model, teacher)
        student = students.make(teacher, *_size(step))
        with training.settled(step.whole("seed"), training.usable_threads()):
            lesson = _lesson(source, step, teacher)
            course = _course(source, step, student, lesson)
            course.run()
            agreement = _agreement(student.model, lesson)
            facts = _course_facts(course, lesson)  # in here: afterwards the process has its own threads back
        models.save(student.model, source.model, folder)
        return {
            "teacher": _teacher_facts(source.model, teacher),
            "student": _student_facts(student),
            **facts,
            "agreement": agreement,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """Rows with their teacher's answers."""

    sample: samples.Sample
    answers: torch.Tensor  # the teacher's logits [rows, classes], float32
    labels: torch.Tensor | None  # class of each row; None when only the teacher counts
    train: Sequence[int]  # rows to learn from
    held_out: Sequence[int]  # rows to be asked about afterwards
    temperature: float
    hard_weight: float

    def loss(self, student: Any, rows: Sequence[int]) -> torch.Tensor:
        """(1 - w) T² KL(teacher at T ‖ student at T) + w cross-entropy, the mean over `rows`, places in `train`.

        Hinton et al. 2015, section 2: T² keeps the gradient of the soft part of one size whatever the temperature.
        """
        chosen = [self.train[row] for row in rows]
        said = student(**training.tensors(self.sample.tokens, chosen)).logits
        loss = (1 - self.hard_weight) * _divergence(self.answers[chosen], said, self.temperature)
        if self.labels is None:
            return loss
        hard: torch.Tensor = functional.cross_entropy(said, self.labels[chosen])
        return loss + self.hard_weight * hard


def _divergence(teacher: torch.Tensor, student: torch.Tensor, temperature: float) -> torch.Tensor:
    said, right = (functional.log_softmax(logits / temperature, dim=-1) for logits in (student, teacher))
    return functional.kl_div(said, right, reduction="batchmean", log_target=True) * temperature**2


def _require_classes(model: records.ModelRef, teacher: torch.nn.Module) -> None:
    classes = int(students.config_of(teacher).num_labels)
    if classes < 2:
        raise errors.Unsupported(f"distil needs a teacher that chooses between classes; {model.name!r} has {classes}")


def _size(step: strategies.Step) -> tuple[int | None, int | None]:
    """Layers and width; None for the words that stand for "half of them" and "the teacher's"."""
    layers = None if step.option("layers") == "half" else step.whole("layers")
    return layers, None if step.option("hidden") == "same" else step.whole("hidden")


def _lesson(source: base.Source, step: strategies.Step, teacher: torch.nn.Module) -> Lesson:
    hard_weight = step.number("hard_weight")
    # every row, in an order that the seed decides: the first ones are held out
    sample = samples.draw(source.model, source.dataset, rows=None, seed=step.whole("seed"), name=step.data)
    labels = _labels(source, sample) if hard_weight else None
    held_out = min(MOST_HELD_OUT, max(1, int(HELD_OUT * len(sample)))) if len(sample) > 1 else 0
    return Lesson(
        sample=sample,
        answers=_answers(teacher, sample.tokens, source.tell),
        labels=labels,
        train=range(held_out, len(sample)),
        held_out=range(held_out),
        temperature=step.number("temperature"),
        hard_weight=hard_weight,
    )


def _labels(source: base.Source, sample: samples.Sample) -> torch.Tensor:
    if source.dataset is None:
        raise errors.DatasetError("distil: hard_weight= above 0 needs labels, and no dataset is named")
    return torch.from_numpy(samples.classes(source.model, source.dataset, sample))


def _answers(teacher: torch.nn.Module, tokens: inputs.Tokenized, tell: base.Tell) -> torch.Tensor:
    """The teacher's logits of all rows, asked for once: without dropout they are the same in every epoch."""
    total = len(tokens)
    paced = training.Paced(tell)
    return training.logits(
        teacher, tokens, range(total), lambda done: paced({"phase": "teacher", "done": done, "total": total})
    )


def _course(source: base.Source, step: strategies.Step, student: students.Student, lesson: Lesson) -> training.Training:
    batch = step.whole("batch")
    steps = step.whole("epochs") * -(-len(lesson.train) // batch)
    lengths = [len(lesson.sample.tokens.ids[row]) for row in lesson.train]
    return training.Training(
        student.model.requires_grad_(True).eval(),
        lesson.loss,
        lengths,
        training.Plan(steps=steps, batch=batch, learning_rate=step.number("learning_rate"), seed=step.whole("seed")),
        kept=resuming.Checkpoints(source.scratch),
        tell=source.tell,
        phase="distilling",
    )


def _agreement(student: torch.nn.Module, lesson: Lesson) -> float | None:
    """Share of the held-out rows on which student and teacher choose the same class; None without such rows."""
    if not lesson.held_out:
        return None
    said = training.logits(student, lesson.sample.tokens, lesson.held_out)
    same = said.argmax(dim=-1) == lesson.answers[list(lesson.held_out)].argmax(dim=-1)
    return float(same.float().mean())


def _teacher_facts(model: records.ModelRef, teacher: torch.nn.Module) -> dict[str, Any]:
    return {
        "model": model.name,
        "digest": models.identify(model),
        "layers": len(students.layers_of(teacher)),
        "hidden": int(students.config_of(teacher).hidden_size),
        "parameters": _parameters(teacher),
    }


def _student_facts(student: students.Student) -> dict[str, Any]:
    config = students.config_of(student.model)
    return {
        "layers": len(student.layers),
        "from_layers": list(student.layers),  # of the teacher, counted from 0
        "hidden": int(config.hidden_size),
        "heads": int(config.num_attention_heads),
        "parameters": _parameters(student.model),
    }


def _course_facts(course: training.Training, lesson: Lesson) -> dict[str, Any]:
    progress = course.progress
    return {
        "sample": lesson.sample.facts,
        "rows": {"train": len(lesson.train), "held_out": len(lesson.held_out)},
        "steps": progress.step,
        "loss": {"first": progress.first_loss, "last": progress.loss},
        "resumed_at": course.resumed_at,
        "seconds": round(progress.seconds, 3),
        "cpu_seconds": round(progress.cpu_seconds, 3),
        "threads": torch.get_num_threads(),
    }


def _parameters(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
