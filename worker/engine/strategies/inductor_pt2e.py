"""PT2E: quantizing an exported graph for oneDNN's int8 kernels, and building the same graph again from safe files.

`prepare_pt2e` puts observers into the graph, a sample runs through it, `convert_pt2e` turns what they saw into
quantize and dequantize nodes with int8 weights. Of this an artifact keeps the tensors and each observer's scale and
zero point. The graph is exported and converted again from them, which takes no sample and gives the same result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from worker.engine.strategies import inductor_code

Ranges = Mapping[str, tuple[float, int]]
"""Observer → scale and zero point of the activation that it watches."""


def observed(graph: inductor_code.Graph, *, dynamic: bool, reduce_range: bool) -> Any:
    """The exported graph with observers, ready to see a sample.

    `reduce_range`: 7 bits for activations, which CPUs without VNNI need: there two products of 8 bits overflow the
    16-bit sums that they are added up in.
    """
    from torchao.quantization.pt2e import quantize_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    program = inductor_code.export(graph)
    config = x86.get_default_x86_inductor_quantization_config(is_dynamic=dynamic, reduce_range=reduce_range)
    quantizer = x86.X86InductorQuantizer().set_global(config)
    return quantize_pt2e.prepare_pt2e(program.module(check_guards=False), quantizer)


def ranges(graph: Any) -> dict[str, tuple[float, int]]:
    """What the observers of activations came to."""
    found: dict[str, tuple[float, int]] = {}
    for name, observer in _observers(graph):
        scale, zero_point = observer.calculate_qparams()
        found[name] = (float(scale), int(zero_point))
    return found


def converted(graph: Any, fixed: Ranges, call: Sequence[torch.Tensor]) -> torch.nn.Module:
    """The quantized graph, activations in the ranges given.

    A call passes through the observers first, any one: those of weights see their weights only then.
    """
    from torchao.quantization.pt2e import quantize_pt2e

    with torch.no_grad():
        graph(*call)
    for name, observer in _observers(graph):
        scale, zero_point = fixed[name]
        answer = torch.tensor([scale], dtype=torch.float32), torch.tensor([zero_point], dtype=torch.int64)
        observer.calculate_qparams = lambda answer=answer: answer
    with torch.no_grad():
        module: torch.nn.Module = quantize_pt2e.convert_pt2e(graph)
    return module


def used(module: Any) -> dict[str, torch.Tensor]:
    """The state that the graph reads; float weights that int8 ones have replaced are still in the module."""
    read = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    return {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if name in read}


def _observers(graph: Any) -> Iterator[tuple[str, Any]]:
    """Observers of activations whose range is fixed ahead, by name; one that stands at two places comes twice."""
    from torchao.quantization.pt2e.observer import HistogramObserver

    for name, module in graph.named_modules(remove_duplicate=False):
        if isinstance(module, HistogramObserver):
            yield name, module
