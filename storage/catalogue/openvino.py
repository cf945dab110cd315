"""OpenVINO on the graph that it converts from PyTorch."""

from __future__ import annotations

from storage.catalogue.descriptions import SAMPLE, SAMPLED, Description
from storage.options import Option

_FLOAT = ("openvino", "torch", "transformers")
_PACKAGES = (*_FLOAT, "nncf")
_ARCH = ("x86_64", "aarch64")

_BF16 = ("avx512_bf16", "amx_bf16", "avx_ne_convert")
"""The CPU plugin knows bfloat16 on x86 alone (its precision_support.cpp); on Arm it would take float32."""

_DECOMPRESSION = ("avx2", "asimd")
"""What its products with compressed weights are written for; capped below AVX2 it ends in a segmentation fault."""

_DYNAMIC = ("avx512_vnni", "avx_vnni", "asimddp", "i8mm")
"""Dot products of int8: without them it multiplies compressed weights by float32 activations, and says nothing."""

DESCRIPTIONS = (
    Description(
        runtime="openvino",
        precision="fp32",
        summary="OpenVINO in float32, asked for: by itself it takes bfloat16 where the CPU has it",
        implementation="worker.engine.strategies.openvino:Float32",
        packages=_FLOAT,
        extra="openvino",
        needs_arch=_ARCH,
        cost="seconds: the conversion, once for each model",
    ),
    Description(
        runtime="openvino",
        precision="bf16",
        summary="OpenVINO computing in bfloat16 on float32 weights",
        implementation="worker.engine.strategies.openvino:BFloat16",
        packages=_FLOAT,
        extra="openvino",
        needs_arch=("x86_64",),
        needs_isa=_BF16,
        cost="seconds: the conversion, once for each model",
    ),
    Description(
        runtime="openvino",
        precision="int8-dynamic",
        summary="OpenVINO, int8 weights, activations quantized call by call in groups",
        implementation="worker.engine.strategies.openvino_quantized:Int8Dynamic",
        packages=_PACKAGES,
        extra="openvino",
        needs_arch=_ARCH,
        needs_isa=_DYNAMIC,
    ),
    Description(
        runtime="openvino",
        precision="int8-static",
        summary="OpenVINO, weights and activations in int8, scales fixed by a calibration sample (NNCF)",
        implementation="worker.engine.strategies.openvino_quantized:Int8Static",
        packages=_PACKAGES,
        extra="openvino",
        options=(
            Option(
                name="preset",
                type="choice",
                default="performance",
                choices=("performance", "mixed"),
                help="symmetric scales throughout, or asymmetric ones for activations",
            ),
            *SAMPLE,
        ),
        needs_arch=_ARCH,
        cost="seconds to a minute: the calibration rows run once in float32",
        data_unless=SAMPLED,
    ),
    Description(
        runtime="openvino",
        precision="int8-weight-only",
        summary="OpenVINO, int8 weights, activations in float32 (its own quantization of activations switched off)",
        implementation="worker.engine.strategies.openvino_quantized:Int8WeightOnly",
        packages=_PACKAGES,
        extra="openvino",
        needs_arch=_ARCH,
        needs_isa=_DECOMPRESSION,
    ),
    Description(
        runtime="openvino",
        precision="int4-weight-only",
        summary="OpenVINO, 4-bit weights in groups, activations in float32 (its own quantization of them switched off)",
        implementation="worker.engine.strategies.openvino_quantized:Int4WeightOnly",
        packages=_PACKAGES,
        extra="openvino",
        options=(
            Option(
                name="group",
                type="choice",
                default="128",
                choices=("32", "64", "128"),
                help="weights of a row that share a scale",
            ),
        ),
        needs_arch=_ARCH,
        needs_isa=_DECOMPRESSION,
    ),
)
