"""Bringing the heavy libraries in: quietly, without threads, and only those that a runtime family needs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Sequence

ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets would ask the network how often a local file was read
    "DISABLE_SAFETENSORS_CONVERSION": "1",  # transformers would ask the hub to convert a pickled checkpoint
    "TOKENIZERS_PARALLELISM": "false",  # threads in a process that is measured or forked
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime's import would start a thread that reports home
    "TRANSFORMERS_VERBOSITY": "error",
    "KINETO_LOG_LEVEL": "99",  # torch's profiler, which prints when it starts and stops
    "TORCHINDUCTOR_COMPILE_THREADS": "1",  # more would be a pool of processes that outlives the compilation
}
"""What must be set before the libraries are imported; a value that is set already stays."""

MODELING = (
    "bert",
    "distilbert",
    "roberta",
    "xlm_roberta",
    "electra",
    "albert",
    "mpnet",
    "deberta_v2",
    "camembert",
    "modernbert",
)
"""Architectures whose code a nursery imports ahead; once the first is in, the others cost milliseconds."""


def settle() -> None:
    """Set the environment that silences the libraries and keeps them from starting threads."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # OpenVINO's converter and NNCF report home unless this package is absent; it also leaves files in the home folder
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    # deprecations of library calls that we know of; a person cannot act on them, and stderr is evidence
    for module in ("torch", "transformers", "datasets", "onnxscript", "onnx", "copyreg"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
    # torchao, which transformers imports where it is installed, tells of GPU libraries that it does not find
    for logger in ("torchao", "torch.utils._pytree"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="torch.quantize_per_tensor, torch.quantize_per_channel")


def silence_transformers() -> None:
    """Import transformers with its log and progress bars off."""
    settle()
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def preload(family: str) -> None:
    """Import everything heavy that a runtime family uses; starts no thread, so that a fork is safe afterwards.

    Nothing for the runtime of another package: its processes import what they need, each for itself.
    """
    settle()
    if family in _PRELOADS:
        _PRELOADS[family]()


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions by distribution, nothing imported; a missing one is absent."""
    found: dict[str, str] = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def isa() -> list[str]:
    """The instruction sets that this host's libraries may use, sorted: for artifacts whose bytes depend on them."""
    from worker import hardware

    return sorted(hardware.probe(os.environ).isa)


def _preload_torch() -> None:
    silence_transformers()
    import safetensors.torch  # noqa: F401
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

    for name in MODELING:
        with contextlib.suppress(ImportError):
            importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    from worker.engine.strategies import torch_dynamic, torch_float, torch_static  # noqa: F401

    if importlib.util.find_spec("torchao"):
        from worker.engine.strategies import torch_ao  # noqa: F401


def _preload_onnxruntime() -> None:
    import numpy as np  # noqa: F401
    import onnxruntime  # noqa: F401

    from worker.engine.strategies import onnx  # noqa: F401


def _preload_openvino() -> None:
    import numpy as np  # noqa: F401
    import openvino  # noqa: F401

    from worker import hardware  # noqa: F401
    from worker.engine.strategies import openvino as own  # noqa: F401
    from worker.engine.strategies import openvino_quantized  # noqa: F401


def _preload_inductor() -> None:
    """What opening compiled code takes: neither transformers nor the compiler."""
    from worker.engine.strategies import inductor, inductor_quantized  # noqa: F401


_PRELOADS = {
    "torch": _preload_torch,
    "inductor": _preload_inductor,
    "onnxruntime": _preload_onnxruntime,
    "openvino": _preload_openvino,
}
