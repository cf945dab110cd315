"""ONNX Runtime on the graph that PyTorch exports."""

from __future__ import annotations

from collections.abc import Mapping

from storage.catalogue.descriptions import PER_CHANNEL, SAMPLE, SAMPLED, Arithmetic, Description, Products
from storage.options import Option

_PACKAGES = ("onnxruntime", "onnx", "onnxscript", "torch", "transformers")

OPTIMIZE = Option(
    name="optimize",
    type="flag",
    default="false",
    help="fuse what ONNX Runtime's transformer optimizer recognizes in the exported graph: layer norm with the sum "
    "before it, GELU with its bias, some embeddings; not attention, whose pattern it does not know from this exporter",
)

REDUCE_RANGE = Option(
    name="reduce_range",
    type="flag",
    default="false",
    help="7-bit weights: keeps the 16-bit sums of x86-64 CPUs without VNNI from overflowing, which the fact "
    "`int8_sums` tells; elsewhere it only costs precision",
)

_BLOCK = Option(
    name="block",
    type="choice",
    default="32",
    choices=("16", "32", "64", "128"),
    help="weights of a column that share a scale",
)

_COMPUTE = Option(
    name="compute",
    type="choice",
    default="fp32",
    choices=("fp32", "int8"),
    help="what the kernel multiplies in: weights widened to float32, or activations quantized to int8 call by call "
    "(the operator's accuracy_level 4), which is weight-only in storage alone",
)

_COMPUTES: Mapping[str, Products] = {"fp32": "fp32", "int8": "int8"}

_FUSES = (
    "with optimize=true as without, ONNX Runtime fuses layer norm and GELU while loading a float graph, so that the "
    "same may run; the fact `optimizer` says what was fused and whether it changed what runs"
)

DESCRIPTIONS = (
    Description(
        runtime="onnxruntime",
        precision="fp32",
        summary="ONNX Runtime in float32 on the graph that PyTorch exports",
        implementation="worker.engine.strategies.onnx:Float32",
        packages=_PACKAGES,
        extra="onnxruntime",
        options=(OPTIMIZE,),
        cost="seconds: the export, once for each model",
        means=_FUSES,
    ),
    Description(
        runtime="onnxruntime",
        precision="int8-dynamic",
        summary="ONNX Runtime, int8 weights (embeddings too), activations quantized call by call",
        implementation="worker.engine.strategies.onnx_quantized:Int8Dynamic",
        packages=_PACKAGES,
        extra="onnxruntime",
        options=(OPTIMIZE, PER_CHANNEL, REDUCE_RANGE),
    ),
    Description(
        runtime="onnxruntime",
        precision="int8-static",
        summary="ONNX Runtime, quantize and dequantize nodes with activation scales fixed by a calibration sample",
        implementation="worker.engine.strategies.onnx_quantized:Int8Static",
        packages=_PACKAGES,
        extra="onnxruntime",
        options=(
            Option(
                name="method",
                type="choice",
                default="minmax",
                choices=("minmax", "entropy", "percentile"),
                help="how a range is taken from the sample: its extremes, the least Kullback-Leibler divergence, or "
                "the middle 99.99 per cent",
            ),
            Option(
                name="operators",
                type="choice",
                default="all",
                choices=("all", "matmul"),
                help="what is quantized: every operator that can be (embeddings too), or matrix products (MatMul, "
                "Gemm) alone; the attention mask and its softmax stay in float",
            ),
            OPTIMIZE,
            PER_CHANNEL,
            REDUCE_RANGE,
            *SAMPLE,
        ),
        cost="seconds to a minute: the calibration rows run in float32, once, or twice for another method than minmax; "
        "method=entropy then searches for a minute or more",
        data_unless=SAMPLED,
    ),
    Description(
        runtime="onnxruntime",
        precision="int8-weight-only",
        summary="ONNX Runtime, int8 weights in blocks (MatMulNBits), embeddings and activations in float32",
        implementation="worker.engine.strategies.onnx_quantized:Int8WeightOnly",
        packages=_PACKAGES,
        extra="onnxruntime",
        options=(_BLOCK, _COMPUTE),
        arithmetic=Arithmetic(products="fp32", weight_bits=8, by_option="compute", by_value=_COMPUTES),
    ),
    Description(
        runtime="onnxruntime",
        precision="int4-weight-only",
        summary="ONNX Runtime, 4-bit weights in blocks (MatMulNBits), embeddings and activations in float32",
        implementation="worker.engine.strategies.onnx_quantized:Int4WeightOnly",
        packages=_PACKAGES,
        extra="onnxruntime",
        options=(_BLOCK, _COMPUTE),
        arithmetic=Arithmetic(products="fp32", weight_bits=4, by_option="compute", by_value=_COMPUTES),
    ),
)
