"""Finding a model, knowing it by its content, and loading it in float32; what is wrong with it becomes a ModelError."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage import digests, errors, keys, records
from worker.engine import libraries, structure

if TYPE_CHECKING:
    import torch

SHIFTED_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "data2vec-text", "mpnet",
     "longformer", "ibert", "xmod"}
)  # fmt: skip
"""Architectures that number positions from `pad_token_id + 1`, so that as many positions are lost."""

TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "spm*", "special_tokens_map.json", "added_tokens.json",
                   "sentencepiece*")  # fmt: skip

HUB_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", *TOKENIZER_FILES)


def identify(model: records.ModelRef) -> str:
    """The model's content identity, the same on every host.

    Raises ModelError for a model that cannot be found, or whose content is another than the planner saw.
    """
    if model.source == "random":
        return keys.digest(keys.model_identity(model))
    found = digests.model_digest(locate(model))
    if model.digest is not None and model.digest != found:
        raise errors.ModelError(
            f"model {model.name!r} at {model.location} is another than when the study was planned "
            f"(digest {found}, planned {model.digest}); submit the study again"
        )
    return found


def locate(model: records.ModelRef) -> Path:
    """The folder of a local model, or of a hub model's snapshot, which is fetched where it is not cached."""
    if model.source == "local":
        folder = Path(model.location)
        if not folder.is_dir():
            raise errors.ModelError(f"model {model.name!r}: folder {folder} does not exist")
        return folder
    if model.source == "hub":
        return _snapshot(model.location, model.revision, model.allow_pickle)
    raise errors.ModelError(f"model {model.name!r} has random weights and no files")


def config(model: records.ModelRef) -> Any:
    """The transformers config of a model, checked to be a sequence classifier's."""
    libraries.silence_transformers()
    if model.source == "random":
        return _random_config(model)
    from transformers import AutoConfig

    folder = locate(model)
    _require_classifier(model, folder)
    with _translated(model):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load(model: records.ModelRef) -> torch.nn.Module:
    """The classifier in float32, in evaluation mode, whatever dtype its checkpoint has.

    Raises ModelError when weights are missing, damaged, pickled (without the study's leave), or when the
    classifier's own weights are not among them: a randomly initialized head is never measured.
    """
    settings = config(model)
    if model.source == "random":
        built = _random_model(model, settings)
    elif structure.is_cut(settings):
        built = _load_cut(model, locate(model))
    else:
        built = _load_weights(model, locate(model))
    module: torch.nn.Module = built.eval().requires_grad_(False)
    return module


def hollow(model: records.ModelRef) -> torch.nn.Module:
    """The classifier's layers in their shapes, on the meta device: no weight is read, nothing takes memory."""
    settings = config(model)
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.device("meta"), _translated(model):
        built = AutoModelForSequenceClassification.from_config(settings, dtype=torch.float32)
        module: torch.nn.Module = structure.apply(built, settings)
    return module.eval().requires_grad_(False)


def save(loaded: torch.nn.Module, like: records.ModelRef, folder: Path) -> None:
    """Write a model that was made from `like` as a model folder: configuration, float32 safetensors, tokenizer.

    Layers that were cut are described in the configuration (`structure`), so that `load` and every artifact made from
    the folder know their shapes.
    """
    from transformers import AutoModelForSequenceClassification
    from transformers.initialization import no_init_weights

    saved: Any = loaded
    with no_init_weights():
        usual = AutoModelForSequenceClassification.from_config(saved.config)
    shapes = structure.describe(loaded, usual)
    if shapes:
        setattr(saved.config, structure.FIELD, shapes)
    saved.config.dtype = "float32"
    saved.save_pretrained(folder)
    if like.source != "random":
        for path in sorted({path for pattern in TOKENIZER_FILES for path in locate(like).glob(pattern)}):
            shutil.copy(path, folder / path.name)


def input_names(config: Any) -> tuple[str, ...]:
    """The inputs of a call; token types only for models that know more than one type of token."""
    names = ("input_ids", "attention_mask")
    return (*names, "token_type_ids") if (getattr(config, "type_vocab_size", None) or 0) > 1 else names


def longest_input(config: Any) -> int | None:
    """Tokens that a row may have at most, None where the architecture sets no bound."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    if config.model_type in SHIFTED_POSITIONS:
        return int(positions) - int(config.pad_token_id or 0) - 1
    return int(positions)


def facts(model: records.ModelRef, loaded: torch.nn.Module) -> dict[str, Any]:
    """What a result keeps of the model itself."""
    settings: Any = loaded.config
    return {
        "architecture": type(loaded).__name__,
        "parameters": sum(parameter.numel() for parameter in loaded.parameters()),
        "classes": int(settings.num_labels),
        "source_dtype": "float32" if model.source == "random" else stored_dtype(locate(model)),
    }


def stored_dtype(folder: Path) -> str:
    """The dtype of most of the checkpoint's values, from the headers of its safetensors files."""
    counts: dict[str, int] = {}
    for entry in safetensors_header(folder).values():
        size = entry["data_offsets"][1] - entry["data_offsets"][0]
        counts[entry["dtype"]] = counts.get(entry["dtype"], 0) + size
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
    most = max(counts, key=lambda dtype: counts[dtype], default="unknown")
    return names.get(most, most)


def safetensors_header(folder: Path) -> dict[str, Any]:
    """Name → dtype, shape and offsets of every tensor in a folder's safetensors files; nothing else is read."""
    entries: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > path.stat().st_size:
                raise errors.ModelError(f"{path} is damaged: its header would be longer than the file")
            try:
                entries |= json.loads(stream.read(length))
            except ValueError as exc:
                raise errors.ModelError(f"{path} is damaged: its header cannot be read") from exc
    entries.pop("__metadata__", None)
    return entries


@functools.cache  # one look at the hub for each process: a revision that moves must not move within an operation
def _snapshot(location: str, revision: str | None, allow_pickle: bool) -> Path:
    """The folder of a hub model's files, from the hub's cache where the hub is switched off."""
    libraries.settle()
    import huggingface_hub
    from huggingface_hub import errors as hub_errors

    patterns = [*HUB_FILES, "*.bin"] if allow_pickle else list(HUB_FILES)
    try:
        folder = huggingface_hub.snapshot_download(location, revision=revision, allow_patterns=patterns)
    except hub_errors.RevisionNotFoundError as exc:
        raise errors.ModelError(f"model {location!r} has no revision {revision!r} on the hub") from exc
    except hub_errors.RepositoryNotFoundError as exc:
        raise errors.ModelError(f"the hub has no model {location!r}, or it is private") from exc
    except Exception as exc:  # the client's network errors have no common root
        raise errors.ModelError(
            f"model {location!r} is not in this host's hub cache and the hub cannot be reached "
            f"({type(exc).__name__}); allow the network (HF_HUB_OFFLINE unset), fetch it once with "
            f"`hf download {location}`, or name a local folder in the study"
        ) from exc
    return Path(folder)


def _random_config(model: records.ModelRef) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

    if model.location not in CLASSIFIERS:
        near = errors.nearest(model.location, CLASSIFIERS)
        raise errors.ModelError(f"transformers has no classifier of architecture {model.location!r}{near}")
    with _translated(model):
        return AutoConfig.for_model(model.location, **dict(model.config))


def _random_model(model: records.ModelRef, settings: Any) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]), _translated(model):
        torch.manual_seed(model.seed)
        return AutoModelForSequenceClassification.from_config(settings, dtype=torch.float32)


def _require_classifier(model: records.ModelRef, folder: Path) -> None:
    """Refuse before loading: the weights say it too, but less clearly."""
    try:
        settings = json.loads((folder / "config.json").read_text())
        architectures = settings.get("architectures") or []
    except FileNotFoundError:
        raise errors.ModelError(f"model {model.name!r}: folder {folder} has no config.json") from None
    except (OSError, ValueError, AttributeError) as exc:
        raise errors.ModelError(f"model {model.name!r}: config.json in {folder} cannot be read: {exc}") from exc
    if not any(name.endswith("ForSequenceClassification") for name in architectures):
        what = ", ".join(architectures) or "none named"
        raise errors.ModelError(
            f"model {model.name!r} at {model.location} is not a sequence classifier (architectures: {what})"
        )


def _load_weights(model: records.ModelRef, folder: Path) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification

    safe = _has_safe_weights(model, folder)
    with _translated(model):
        loaded, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=safe,
            weights_only=True,
            ignore_mismatched_sizes=True,  # reported below, with their names
            output_loading_info=True,
        )
    _require_complete(model, info)
    return loaded.float()


def _load_cut(model: records.ModelRef, folder: Path) -> Any:
    """A model whose layers were cut: built to its configuration's shapes, then filled, nothing left undefined."""
    from safetensors.torch import load_file

    from worker.engine import checkpoints

    with _translated(model):
        built = checkpoints.empty_model(folder)
        tensors = load_file(folder / checkpoints.WEIGHTS)
        missing, unexpected = built.load_state_dict(tensors, strict=False, assign=True)
        tied = set(getattr(built, "all_tied_weights_keys", None) or ())
    lacking = sorted(set(missing) - tied)
    if lacking or unexpected:
        raise errors.ModelError(
            f"model {model.name!r} at {model.location} does not fit its config: {_some([*lacking, *unexpected])}"
        )
    return built.float()


def _has_safe_weights(model: records.ModelRef, folder: Path) -> bool:
    if any(folder.glob("*.safetensors")):
        safetensors_header(folder)
        return True
    if not any(folder.glob("*.bin")):
        raise errors.ModelError(f"model {model.name!r}: folder {folder} has no weights (*.safetensors)")
    if not model.allow_pickle:
        raise errors.ModelError(
            f"model {model.name!r} at {model.location} has only pickled weights (*.bin), which can run code when "
            "they are loaded; convert it to safetensors, or say `allow_pickle: true` for a model of your own"
        )
    return False


def _require_complete(model: records.ModelRef, info: Mapping[str, Any]) -> None:
    mismatched = sorted(key[0] for key in info["mismatched_keys"])
    if mismatched:
        raise errors.ModelError(
            f"model {model.name!r} at {model.location}: weights of other shapes than its config says: "
            f"{_some(mismatched)}"
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise errors.ModelError(
            f"model {model.name!r} at {model.location} lacks weights of a classifier: {_some(missing)}; "
            "they would have been random"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextlib.contextmanager
def _translated(model: records.ModelRef) -> Iterator[None]:
    """What transformers, safetensors and torch raise over a bad model, as a ModelError; lack of memory passes."""
    import safetensors

    kinds = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, ArithmeticError, RuntimeError)
    try:
        yield
    except (safetensors.SafetensorError, *kinds) as exc:
        if "allocate" in str(exc):  # every library has its own class for it; the text is what they share
            raise
        damaged = "has damaged weights" if isinstance(exc, safetensors.SafetensorError) else "cannot be loaded"
        raise errors.ModelError(f"model {model.name!r} at {model.location} {damaged}: {exc}") from exc
