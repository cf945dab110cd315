"""The group `quantfleet model`: `train` a small classifier, `inspect` what a model is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from scheduler import worker_process
from scheduler.cli import model_tables
from storage import errors, records, strategies

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

PHASES = {"tokenizer": "learning the vocabulary", "train": "training", "evaluate": "reading the test rows"}

DEFAULT_STRATEGY = "torch/int8-dynamic"

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False, help="Train or inspect a model."
)


@app.command()
def train(
    dataset: Annotated[Path, typer.Option(help="Rows to train on: parquet, CSV or JSON lines.")],
    output: Annotated[Path, typer.Option(help="Model folder: new, empty, or made by an earlier training.")],
    validation: Annotated[Path | None, typer.Option(help="Rows that choose the best epoch.")] = None,
    test: Annotated[Path | None, typer.Option(help="Rows for the accuracy that is reported.")] = None,
    text: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    label: Annotated[str, typer.Option(help="Column of the classes: names or integers.")] = "label",
    layers: Annotated[int | None, typer.Option(help="Encoder layers.", show_default="3")] = None,
    hidden: Annotated[int | None, typer.Option(help="Width of the encoder.", show_default="192")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads.", show_default="4")] = None,
    vocab: Annotated[int | None, typer.Option(help="WordPiece tokens, at most.", show_default="2000")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs, at most.", show_default="5")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows in one step.", show_default="16")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.", show_default="5e-4")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of a text, at most.", show_default="128")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and order.", show_default="0")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads.", show_default="as torch chooses")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a small BERT-shaped classifier from scratch: a real model without a download.

    The folder can be loaded with transformers' Auto classes and named in a study. The same data, options and
    library versions find the finished model and return at once.

    \b
    Examples:
      quantfleet model train --dataset train.parquet --label intent --output models/intents
      quantfleet model train --dataset train.csv --validation dev.csv --test test.csv --output models/small --layers 2
    """
    given = {
        "train": _absolute(dataset),
        "output": _absolute(output),
        "validation": _absolute(validation),
        "test": _absolute(test),
        "text": text,
        "label": label,
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "vocab": vocab,
        "epochs": epochs,
        "batch": batch,
        "learning_rate": learning_rate,
        "max_length": max_length,
        "seed": seed,
        "threads": threads,
    }
    options = {name: value for name, value in given.items() if value is not None}
    report = _trained(options)
    if as_json:
        _print_json(report)
    else:
        _print_report(report)


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="Folder, hub id, or with --random an architecture such as distilbert.")],
    strategy: Annotated[
        str | None, typer.Option(help="What is to become of the layers.", show_default=DEFAULT_STRATEGY)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="A line for each layer, also for those that are alike.")] = False,
    layer: Annotated[str | None, typer.Option(help="One layer's weight, before and after quantization.")] = None,
    picture: Annotated[Path | None, typer.Option(help="With --layer: its histograms as a PNG file.")] = None,
    revision: Annotated[str | None, typer.Option(help="Hub only: branch, tag or commit.")] = None,
    random: Annotated[bool, typer.Option("--random", help="MODEL is an architecture; its weights are random.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="With --random: a field of its config.")
    ] = None,
    allow_pickle: Annotated[bool, typer.Option(help="Load a pickled checkpoint that you trust.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a model is made of, what a strategy makes of its layers, and why its file shrinks as it does.

    The strategy is really carried out, into the cache that runs use. With --layer: what rounding one weight to 8
    bits loses, with one scale or one a row.

    \b
    Examples:
      quantfleet model inspect models/intents
      quantfleet model inspect models/intents --strategy torch/int8-dynamic:embeddings --all
      quantfleet model inspect models/intents --layer classifier --picture classifier.png
      quantfleet model inspect --random distilbert --set n_layers=3
      quantfleet model inspect models/intents --json | jq '.layers[] | select(.quantized) | .name'
    """
    _require_together(strategy, every, layer, picture)
    reference = records.to_document(_reference(model, revision, random, set_ or [], allow_pickle))
    if layer is None:
        chosen = str(strategies.parse(strategy or DEFAULT_STRATEGY))
        answer = worker_process.ask("inspect", {"model": reference, "strategy": chosen})
    else:
        answer = worker_process.ask("weigh", {"model": reference, "layer": layer, "picture": _absolute(picture)})
    if as_json:
        _print_json(answer)
    elif layer is None:
        model_tables.print_model(answer, every=every)
    else:
        model_tables.print_weight(answer)


def _require_together(strategy: str | None, every: bool, layer: str | None, picture: Path | None) -> None:
    if picture is not None and layer is None:
        raise errors.SettingsError("--picture shows the weight of one layer: name it with --layer")
    if layer is not None and (strategy is not None or every):
        given = "--all" if every else "--strategy"
        raise errors.SettingsError(f"{given} goes with the table of all layers; --layer shows one, under every scheme")


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.expanduser().absolute())


def _trained(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The training's report; a bar on the terminal's error stream while it runs."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from scheduler.cli import bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bars.WIDTH),
        TextColumn("{task.fields[seen]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with bars.bar(*columns, refresh_per_second=2) as bar:
        task = bar.add_task("starting", total=None, seen="")

        def show(event: Mapping[str, Any]) -> None:
            words = PHASES.get(event["phase"], event["phase"])
            if event["phase"] == "train":
                bar.update(task, completed=event["step"], total=event["steps"])
            bar.update(task, description=words, seen=_seen(event))

        return worker_process.ask("train", options, show)


def _seen(event: Mapping[str, Any]) -> str:
    if event["phase"] != "train":
        return ""
    held = event.get("validation_accuracy")
    said = "" if held is None else f", validation {held:.1%}"
    return f"epoch {event['epoch']}/{event['epochs']}, loss {event['loss']:.3f}{said}"


def _reference(
    model: str, revision: str | None, random: bool, fields: list[str], allow_pickle: bool
) -> records.ModelRef:
    """What the person means by MODEL: a folder where there is one, or where it is written like one."""
    if fields and not random:
        raise errors.SettingsError("--set changes an architecture's config: it goes with --random only")
    if random:
        return records.ModelRef(name=model, source="random", location=model, config=dict(map(_field, fields)))
    path = Path(model).expanduser()
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        place = str(path.absolute())
        return records.ModelRef(name=path.name, source="local", location=place, allow_pickle=allow_pickle)
    return records.ModelRef(name=model, source="hub", location=model, revision=revision, allow_pickle=allow_pickle)


def _field(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise errors.SettingsError(f"--set {text!r}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:  # a word needs no quotes
        return name, value


def _print_json(document: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _print_report(report: Mapping[str, Any]) -> None:
    rows = ", ".join(f"{count:,} {part}" for part, count in report["rows"].items())
    epochs = f"{report['epochs']} ({report['steps']:,} steps), the best was number {report['best_epoch']}"
    how = "found finished" if report["cached"] else "trained"
    model_tables.print_pairs(
        f"{how}: {report['output']}",
        [
            ("rows", f"{rows}; {report['classes']} classes"),
            ("size", f"{report['parameters']:,} parameters, {report['vocabulary']:,} tokens in the vocabulary"),
            ("epochs", f"{epochs}; ended by: {report['stopped']}"),
            ("validation accuracy", _share(report["validation_accuracy"])),
            ("test accuracy", _share(report["test_accuracy"])),
            ("training took", f"{report['seconds']:.0f} s ({report['cpu_seconds']:.0f} s of CPU time)"),
            ("digest", report["model_digest"]),
        ],
    )


def _share(value: float | None) -> str:
    return "no rows given" if value is None else f"{value:.2%}"
