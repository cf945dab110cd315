"""torch.compile: PyTorch's graph compiled for this CPU, weights frozen into it."""

from __future__ import annotations

from storage.catalogue.descriptions import BF16, SAMPLE, SAMPLED, Arithmetic, Description
from storage.options import Option

_PACKAGES = ("torch", "transformers")
_NEEDS = "a C++ compiler (g++) on the host, to prepare"
_COST = "up to a minute: the graph is compiled once, and its code is kept with the artifact"

DESCRIPTIONS = (
    Description(
        runtime="inductor",
        precision="fp32",
        summary="torch.compile in float32, weights frozen into the graph",
        implementation="worker.engine.strategies.inductor:Float32",
        packages=_PACKAGES,
        extra="worker",
        needs=_NEEDS,
        cost=_COST,
    ),
    Description(
        runtime="inductor",
        precision="bf16",
        summary="torch.compile with weights and activations in bfloat16",
        implementation="worker.engine.strategies.inductor:BFloat16",
        packages=_PACKAGES,
        extra="worker",
        slow_without=BF16,
        needs=_NEEDS,
        cost=_COST,
    ),
    Description(
        runtime="inductor",
        precision="int8-dynamic",
        summary="torch.compile, int8 weights, activations quantized call by call",
        implementation="worker.engine.strategies.inductor_quantized:Int8Dynamic",
        packages=(*_PACKAGES, "torchao"),
        extra="torchao",
        options=(
            Option(
                name="by",
                type="choice",
                default="torchao",
                choices=("torchao", "pt2e"),
                help="who quantizes: torchao's tensor subclasses (a scale a token), or PT2E on the exported graph "
                "(a scale a tensor)",
                needs_arch={"pt2e": ("x86_64",)},
            ),
        ),
        needs=_NEEDS,
        cost=_COST,
    ),
    Description(
        runtime="inductor",
        precision="int8-static",
        summary="PT2E with oneDNN's int8 kernels: activation scales fixed by a calibration sample, then torch.compile",
        implementation="worker.engine.strategies.inductor_quantized:Int8Static",
        packages=(*_PACKAGES, "torchao"),
        extra="torchao",
        options=SAMPLE,
        needs_arch=("x86_64",),
        needs=_NEEDS,
        cost=_COST,
        data_unless=SAMPLED,
    ),
    Description(
        runtime="inductor",
        precision="int8-weight-only",
        summary="torch.compile with torchao's int8 weights, activations in floating point",
        implementation="worker.engine.strategies.inductor_quantized:Int8WeightOnly",
        packages=(*_PACKAGES, "torchao"),
        extra="torchao",
        options=(
            Option(
                name="activations",
                type="choice",
                default="bf16",
                choices=("bf16", "fp32"),
                help="bf16 has a kernel that reads int8 weights; with fp32 freezing turns them back into float32, so "
                "that only the artifact is small",
            ),
        ),
        arithmetic=Arithmetic(
            products="bf16", weight_bits=8, by_option="activations", by_value={"bf16": "bf16", "fp32": "fp32"}
        ),
        needs=_NEEDS,
        cost=_COST,
    ),
)
