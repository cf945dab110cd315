"""PyTorch in eager mode."""

from __future__ import annotations

from storage.catalogue.descriptions import BF16, PER_CHANNEL, SAMPLE, SAMPLED, Arithmetic, Description
from storage.options import Option

_PACKAGES = ("torch", "transformers")

AUTO_ENGINES = {"x86_64": "x86", "aarch64": "qnnpack"}
"""Architecture → the library of int8 kernels that `engine=auto` takes there."""

ENGINE = Option(
    name="engine",
    type="choice",
    default="auto",
    choices=("auto", "x86", "fbgemm", "onednn", "qnnpack"),
    help="library of int8 kernels; auto takes "
    + ", ".join(f"{engine} on {architecture}" for architecture, engine in AUTO_ENGINES.items()),
    needs_isa={"x86": ("avx2",), "fbgemm": ("avx2",)},
    needs_arch={
        "x86": ("x86_64",),
        "fbgemm": ("x86_64",),
        "onednn": ("x86_64", "aarch64"),
        "qnnpack": ("x86_64", "aarch64"),
    },
)

DESCRIPTIONS = (
    Description(
        runtime="torch",
        precision="fp32",
        summary="PyTorch eager in float32, whatever dtype the checkpoint is stored in; the usual baseline",
        implementation="worker.engine.strategies.torch_float:Float32",
        packages=_PACKAGES,
        extra="worker",
    ),
    Description(
        runtime="torch",
        precision="bf16",
        summary="PyTorch eager with weights and activations in bfloat16; half the size",
        implementation="worker.engine.strategies.torch_float:BFloat16",
        packages=_PACKAGES,
        extra="worker",
        slow_without=BF16,
    ),
    Description(
        runtime="torch",
        precision="fp16",
        summary="PyTorch eager with weights and activations in float16; half the size",
        implementation="worker.engine.strategies.torch_float:Float16",
        packages=_PACKAGES,
        extra="worker",
        slow_without=("avx512_fp16", "amx_fp16", "asimdhp"),
        means="float16 ends at 65504: an activation beyond it becomes infinite and its row's answer worthless",
    ),
    Description(
        runtime="torch",
        precision="int8-dynamic",
        summary="PyTorch eager, linear layers with int8 weights, activations quantized call by call",
        implementation="worker.engine.strategies.torch_dynamic:Int8Dynamic",
        packages=_PACKAGES,
        extra="worker",
        options=(
            ENGINE,
            PER_CHANNEL,
            Option(
                name="embeddings",
                type="flag",
                default="false",
                help="int8 embedding tables too, a scale and zero point a row: the file shrinks to a quarter",
            ),
        ),
    ),
    Description(
        runtime="torch",
        precision="int8-static",
        summary="PyTorch eager, int8 linear layers with activation scales fixed by a calibration sample",
        implementation="worker.engine.strategies.torch_static:Int8Static",
        packages=_PACKAGES,
        extra="worker",
        options=(
            ENGINE,
            PER_CHANNEL,
            Option(
                name="observer",
                type="choice",
                default="minmax",
                choices=("minmax", "histogram"),
                help="how a range is taken from the sample: its extremes, or the range of least squared error",
            ),
            *SAMPLE,
        ),
        cost="seconds to minutes: the calibration rows run once in float32, one by one",
        means="a range of activations is a fact about the calibration sample: what lies outside of it is cut off",
        data_unless=SAMPLED,
    ),
    Description(
        runtime="torch",
        precision="int8-weight-only",
        summary="PyTorch eager with torchao: int8 weights, activations and sums in floating point",
        implementation="worker.engine.strategies.torch_ao:Int8WeightOnly",
        packages=(*_PACKAGES, "torchao"),
        extra="torchao",
        means="smaller, not faster: in eager mode each call turns the int8 weights into float32 and multiplies those; "
        "no int8 kernel runs (inductor/int8-weight-only fuses the two)",
    ),
    Description(
        runtime="torch",
        precision="int4-weight-only",
        summary="PyTorch eager with torchao: 4-bit weights in groups, activations in bfloat16",
        implementation="worker.engine.strategies.torch_ao:Int4WeightOnly",
        packages=(*_PACKAGES, "torchao"),
        extra="torchao",
        options=(
            Option(
                name="group",
                type="choice",
                default="64",
                choices=("32", "64", "128"),
                help="weights of a row that share a scale and a zero point",
            ),
        ),
        slow_without=BF16,
        arithmetic=Arithmetic(products="bf16", weight_bits=4),
        needs="linear layers whose inputs are a multiple of the group and whose outputs are one of 16; others, and the "
        "embedding tables, stay in bfloat16",
        means="the layers that stayed in bfloat16 are named in the artifact's facts",
    ),
)
