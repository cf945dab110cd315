"""ONNX Runtime on quantized graphs, each made from the float graph that was exported once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage import errors, strategies
from worker.engine import libraries
from worker.engine.strategies import base, onnx, onnx_graphs
from worker.engine.strategies.onnx_graphs import BLOCK_KERNELS, GRAPH, INT8_KERNELS

if TYPE_CHECKING:
    from onnx import ModelProto

FLOAT = "onnxruntime/fp32"


class _Quantized(onnx.Float32):
    """What the quantized graphs have in common: where they start, and how they are opened."""

    def builds_on(self, strategy: strategies.Strategy) -> strategies.Strategy | None:
        """The float graph, as exported or optimized."""
        options = dict(strategy.options)
        return strategies.parse(f"{FLOAT}:optimize" if options.get("optimize") == "true" else FLOAT)


class _Int8(_Quantized):
    """What the graphs with int8 kernels have in common: a probe of how those kernels add up."""

    def open(self, folder: Path, strategy: strategies.Strategy, threads: int) -> onnx.OnnxSession:
        """As a float graph; the session's facts say whether int8 sums are exact on this CPU."""
        session = super().open(folder, strategy, threads)
        session.note(int8_sums=onnx_graphs.int8_sums(folder))
        return session


class Int8Dynamic(_Int8):
    """`onnxruntime/int8-dynamic`: int8 weights, embeddings too; activations quantized call by call."""

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """Everything but the weights themselves."""
        flags = {name: strategy.flag(name) for name in ("optimize", "per_channel", "reduce_range")}
        return {"strategy": strategy.name, **flags}

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Quantize the float graph's weights."""
        below = _below(source)
        with onnx_graphs.copied(below, folder) as graph, onnx_graphs.silent():
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(
                graph,
                folder / GRAPH,
                per_channel=strategy.flag("per_channel"),
                reduce_range=strategy.flag("reduce_range"),
                weight_type=QuantType.QInt8,
            )
        told = {"reduce_range": strategy.flag("reduce_range")}
        return _finished(below, folder, strategy, INT8_KERNELS, told)


class Int8Static(_Int8):
    """`onnxruntime/int8-static`: quantize and dequantize nodes around operators, activation ranges from a sample.

    Activations are uint8 and weights int8, as ONNX Runtime's documentation recommends for x86-64 with and without
    VNNI; it runs such graphs on Arm too, whereas with int8 activations x86-64 leaves attention's products in float.
    """

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """Every option, and the CPU's instruction sets: ranges come from float kernels, which differ by them."""
        flags = {name: strategy.flag(name) for name in ("optimize", "per_channel", "reduce_range")}
        words = {name: strategy.option(name) for name in ("method", "operators", "draw", "rows", "seed")}
        return {"strategy": strategy.name, **flags, **words, "isa": libraries.isa()}

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Draw the sample, take the ranges on it, and write the quantized graph."""
        from worker.engine import samples
        from worker.engine.strategies import onnx_static

        below = _below(source)
        sample = samples.of_strategy(source.model, source.dataset, strategy)
        order = onnx_static.Order(
            method=strategy.option("method"),
            operators=strategy.option("operators"),
            per_channel=strategy.flag("per_channel"),
            reduce_range=strategy.flag("reduce_range"),
        )
        with onnx_graphs.copied(below, folder) as graph, onnx_graphs.silent():
            told = onnx_static.quantize(graph, folder / GRAPH, order, sample.calls(), source.tell)
        return _finished(below, folder, strategy, INT8_KERNELS, {**told, "sample": sample.facts})


class _WeightOnly(_Quantized):
    """Weights of linear layers in few bits, a scale and a zero point for each block of a column; the rest in float32.

    The operator's `accuracy_level` decides what it computes in. Unset, its CPU kernel multiplies in float32; 4 has it
    quantize activations to int8, block by block.
    """

    bits: int

    def recipe(self, strategy: strategies.Strategy) -> Mapping[str, Any]:
        """Bits by name, blocks, and what is computed in."""
        return {
            "strategy": strategy.name,
            "block": strategy.option("block"),
            "compute": strategy.option("compute"),
        }

    def prepare(self, source: base.Source, strategy: strategies.Strategy, folder: Path) -> Mapping[str, Any]:
        """Quantize every matrix product with constant weights."""
        below = _below(source)
        compute = strategy.option("compute")
        with onnx_graphs.silent():
            from onnx import load
            from onnxruntime.quantization import matmul_nbits_quantizer as nbits

            config = nbits.DefaultWeightOnlyQuantConfig(
                block_size=strategy.whole("block"),
                is_symmetric=False,
                accuracy_level=4 if compute == "int8" else None,
                bits=self.bits,
            )
            quantizer = nbits.MatMulNBitsQuantizer(gemms_as_products(load(below / GRAPH)), algo_config=config)
            quantizer.process()
            quantizer.model.save_model_to_file(str(folder / GRAPH), onnx_graphs.is_split(below))
        return _finished(below, folder, strategy, BLOCK_KERNELS, {"weight_bits": self.bits, "compute": compute})


class Int8WeightOnly(_WeightOnly):
    """`onnxruntime/int8-weight-only`."""

    bits = 8


class Int4WeightOnly(_WeightOnly):
    """`onnxruntime/int4-weight-only`."""

    bits = 4


def gemms_as_products(model: ModelProto) -> ModelProto:
    """Change plain Gemm nodes with constant weights into MatMul and Add, in place: the only form that is quantized."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        how = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        plain = how.get("alpha", 1) == how.get("beta", 1) == 1 and not how.get("transA", 0)
        if node.op_type != "Gemm" or not plain or node.input[1] not in constants:
            nodes.append(node)
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        name, output = f"{node.output[0]}/weight", node.output[0]
        turned = weight.T.copy() if how.get("transB", 0) else weight
        model.graph.initializer.append(numpy_helper.from_array(turned, name))
        bias = list(node.input[2:])
        product = f"{output}/product" if bias else output
        nodes.append(helper.make_node("MatMul", [node.input[0], name], [product], name=product))
        nodes += [helper.make_node("Add", [product, *bias], [output], name=f"{output}/sum")] if bias else []
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _below(source: base.Source) -> Path:
    assert source.base is not None  # noqa: S101  # `builds_on` names it
    return source.base


def _finished(
    below: Path, folder: Path, strategy: strategies.Strategy, kernels: tuple[str, ...], told: Mapping[str, Any]
) -> dict[str, Any]:
    """Facts of a quantized graph, kept beside it: what ONNX Runtime itself says that it runs here.

    Raises Unsupported when it runs no quantized layer at all.
    """
    ran = onnx_graphs.optimized(folder / GRAPH)
    if not ran.count(kernels):
        raise errors.Unsupported(
            f"{strategy.name}: of this model's graph ONNX Runtime runs no layer quantized here (it runs "
            f"{', '.join(ran.nodes)})"
        )
    facts = {**onnx_graphs.read_facts(below), "nodes": dict(ran.nodes), "quantized_layers": ran.count(kernels), **told}
    if ran.products(kernels):
        facts["quantized_products"] = ran.products(kernels)
    if kernels is INT8_KERNELS:
        onnx_graphs.write_probe(folder)
    onnx_graphs.write_recipe(folder, strategy, facts)
    return facts
