"""ONNX Runtime's transformer optimizer on an exported graph: fusions that must not change the answers.

It looks for the patterns of known exporters. What it finds differs by architecture and by exporter: on the graphs of
PyTorch's dynamo exporter it fuses layer norm with the residual sum and GELU with the bias, in some models the
embeddings, and does not recognize attention. ONNX Runtime fuses the first two by itself while loading a float graph:
`changes_float_run` says whether anything came of it; a graph that is quantized afterwards is another, since what is
fused is not quantized. Heads are detected layer by layer, since those of a pruned model differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from storage import errors
from worker.engine.strategies import onnx_graphs
from worker.engine.strategies.onnx_graphs import GRAPH

if TYPE_CHECKING:
    import onnx

MOST = 1e-4
"""Largest difference of a logit from the graph that was not optimized."""

_PROBES = ((1, 4), (3, 11))
"""Batch and length of the calls that are compared."""


def optimize(base: Path, folder: Path) -> dict[str, Any]:
    """Write the fused graph of a float artifact; returns facts.

    Where fusing changes an answer by more than `MOST`, it is done again without attention. Raises Unsupported when
    that does not help either, and for a graph that the optimizer stumbles over.
    """
    differences = []
    for attention in (True, False):
        fused = _fuse(base, folder, attention=attention)
        differences.append(_difference(base / GRAPH, folder / GRAPH))
        if differences[-1] <= MOST:
            return _facts(base, folder, fused, differences[-1])
    raise errors.Unsupported(
        f"the transformer optimizer changes this model's answers by {min(differences):.2g}, at most {MOST:g} is "
        "accepted; leave optimize away"
    )


def _facts(base: Path, folder: Path, fused: Mapping[str, int], difference: float) -> dict[str, Any]:
    before = onnx_graphs.read_facts(base)
    nodes = dict(onnx_graphs.optimized(folder / GRAPH).nodes)
    told = {
        "fused": fused,
        "changes_float_run": nodes != before["nodes"],
        "largest_difference": float(f"{difference:.3g}"),
    }
    return {**before, "nodes": nodes, "optimizer": told}


def _fuse(base: Path, folder: Path, *, attention: bool) -> dict[str, int]:
    """Write the fused graph; returns the nodes that it has more of, by type."""
    with onnx_graphs.silent():
        from onnxruntime.transformers import optimizer
        from onnxruntime.transformers.fusion_options import FusionOptions

        options = FusionOptions("bert")
        options.enable_attention = attention
        # heads and width 0: detected; "bert" stands for every encoder
        try:
            found = optimizer.optimize_model(
                str(base / GRAPH), model_type="bert", num_heads=0, hidden_size=0, optimization_options=options
            )
        except MemoryError:
            raise
        except Exception as exc:  # its pattern matching raises whatever a graph unknown to it leads to
            raise errors.Unsupported(
                f"the transformer optimizer cannot read this architecture's graph ({type(exc).__name__}: {exc}); leave "
                "optimize away"
            ) from exc
        found.save_model_to_file(str(folder / GRAPH), use_external_data_format=onnx_graphs.is_split(base))
        names = found.get_fused_operator_statistics()
        return _more(base, found.model, names)


def _more(base: Path, model: onnx.ModelProto, names: Mapping[str, int]) -> dict[str, int]:
    import onnx

    before = Counter(node.op_type for node in onnx.load(base / GRAPH, load_external_data=False).graph.node)
    after = Counter(node.op_type for node in model.graph.node)
    return {name: after[name] - before[name] for name in names if after[name] > before[name]}


def _difference(one: Path, other: Path) -> float:
    """The largest difference of a logit over the probes."""
    return max(float(np.abs(left - right).max()) for left, right in zip(_answers(one), _answers(other), strict=True))


def _answers(graph: Path) -> Iterator[npt.NDArray[np.float32]]:
    options = onnx_graphs.session_options(1)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    for batch, length in _PROBES:
        ids = np.random.default_rng(batch).integers(0, 64, (batch, length))
        mask = np.ones_like(ids)
        mask[-1, length // 2 + 1 :] = 0
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        answer: Any = session.run(None, {node.name: given[node.name] for node in session.get_inputs()})
        yield answer[0]
