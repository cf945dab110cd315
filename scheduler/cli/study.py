"""`quantfleet study`: the study file's schema, and a check of one without running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from scheduler.cli.options import DataOption, DatasetOption, ModelOption, StudyArgument

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Look at study files: their schema, and whether one is right."
)


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Print the JSON Schema of a study file, for editors.

    \b
    quantfleet study schema -o study.schema.json
    # then, as the first line of a study (VS Code, JetBrains, neovim):
    # yaml-language-server: $schema=study.schema.json
    """
    from scheduler import study
    from storage import errors

    text = json.dumps(study.schema(), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise errors.SettingsError(f"--output {output}: cannot write: {exc.strerror}") from exc


@app.command()
def check(
    path: StudyArgument,
    model: ModelOption = None,
    dataset: DatasetOption = None,
    data: DataOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check a study, its local models and its dataset, and run nothing.

    \b
    quantfleet study check examples/demo.yaml
    quantfleet study check examples/clinc150.yaml --model minilm=models/minilm --dataset rows.parquet
    """
    from scheduler.cli.common import read_study
    from storage import settings

    resolved = read_study(path, model, dataset, settings.load(), data=data)
    facts = _facts(resolved)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        for index, line in enumerate(lines):
            typer.echo(f"{name if index == 0 else '':<12}{line}")


def _facts(resolved: Any) -> dict[str, Any]:
    """What a checked study holds, as people read it."""
    study = resolved.study
    spec = study.spec
    datasets = list(dict.fromkeys(_dataset_line(model.dataset) for model in resolved.models if model.dataset))
    datasets += [f"{name}: {_dataset_line(dataset)}" for name, dataset in resolved.datasets.items()]
    return {
        "study": study.name,
        "models": [_model_line(model) for model in resolved.models],
        "datasets": datasets or ["none"],
        "strategies": list(spec.strategies),
        "baseline": spec.baseline,
        "threads": ", ".join(map(str, spec.threads)),
        **({"instances": ", ".join(map(str, spec.instances))} if spec.has_instances else {}),
        **({"serving": [entry.spec().label() for entry in spec.serving]} if spec.serving else {}),
        **({"tensors": _tensor_lines(spec)} if spec.tensors else {}),
        "inputs": ", ".join(asked.label() for asked in study.inputs),
        "kinds": ", ".join(spec.kinds),
        "precision": f"±{100 * spec.precision:g} %, at most {spec.max_seconds:g} s a job, "
        f"{spec.min_pairs} pairs of fresh processes at least",
        "prepare": spec.prepare,
        "replicas": spec.replicas,
        "targets": _targets_line(spec.targets),
    }


def _tensor_lines(spec: Any) -> list[str]:
    """Each operand with the operations on it."""
    found: dict[str, list[str]] = {}
    for entry in spec.tensors:
        for operand, name in entry.specs():
            found.setdefault(operand.label(), []).append(name)
    return [f"{operand}: {', '.join(names)}" for operand, names in found.items()]


def _targets_line(targets: Any) -> str:
    """`every-host`, or `isa avx2, avx512_vnni; label.region eu`."""
    if isinstance(targets, str):
        return targets
    values = {
        name: ", ".join(value) if isinstance(value, tuple) else f"{value:g}"
        for name, value in targets.conditions.items()
    }
    return "; ".join(f"{name} {value}" for name, value in values.items())


def _model_line(model: Any) -> str:
    ref = model.ref
    tail = f"digest {ref.digest}" if ref.digest else f"revision {ref.revision}" if ref.revision else ref.source
    return f"{ref.name}: {ref.location} ({tail})"


def _dataset_line(dataset: Any) -> str:
    which = ", ".join(filter(None, (dataset.config, dataset.split)))
    rows = "all rows" if dataset.rows is None else f"first {dataset.rows} rows"
    return f"{dataset.location}{f' ({which})' if which else ''}: {dataset.text} → {dataset.label}, {rows}"
