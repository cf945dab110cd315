"""ONNX Runtime on the graph that PyTorch exports."""

from __future__ import annotations

from storage.catalogue.descriptions import PER_CHANNEL, SAMPLE, SAMPLED, Description
from storage.options import Option

_PACKAGES = ("onnxruntime", "onnx", "onnxscript", "torch", "transformers")

OPTIMIZE = Option(
    name="optimize",
    type="flag",
    default="false",
    help="fuse attention, layer norm and GELU with ONNX Runtime's transformer optimizer first",
)

REDUCE_RANGE = Option(
    name="reduce_range",
    type="flag",
    default="false",
    help="7-bit weights: keeps the 16-bit sums of CPUs without VNNI from overflowing",
)

_BLOCK = Option(
    name="block",
    type="choice",
    default="32",
    choices=("16", "32", "64", "128"),
    help="weights of a column that share a scale",
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
    ),
    Description(
        runtime="onnxruntime",
        precision="int8-dynamic",
        summary="ONNX Runtime, int8 weights (embeddings too), activations quantized call by call",
        implementation="worker.engine.strategies.onnx:Int8Dynamic",
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
                "the 99.99th percentile",
            ),
            Option(
                name="operators",
                type="choice",
                default="all",
                choices=("all", "matmul"),
                help="what is quantized: every operator that can be, or matrix products (MatMul, Gemm) alone",
            ),
            OPTIMIZE,
            PER_CHANNEL,
            REDUCE_RANGE,
            *SAMPLE,
        ),
        cost="seconds to a minute: the calibration rows run once in float32",
        data_unless=SAMPLED,
    ),
    Description(
        runtime="onnxruntime",
        precision="int8-weight-only",
        summary="ONNX Runtime, int8 weights in blocks (MatMulNBits), activations in float32",
        implementation="worker.engine.strategies.onnx_quantized:Int8WeightOnly",
        packages=_PACKAGES,
        extra="onnxruntime",
        options=(_BLOCK,),
    ),
    Description(
        runtime="onnxruntime",
        precision="int4-weight-only",
        summary="ONNX Runtime, 4-bit weights in blocks (MatMulNBits), activations in float32",
        implementation="worker.engine.strategies.onnx_quantized:Int4WeightOnly",
        packages=_PACKAGES,
        extra="onnxruntime",
        options=(_BLOCK,),
    ),
)
