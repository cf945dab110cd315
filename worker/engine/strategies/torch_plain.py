"""Quantized tensors as plain ones: what safetensors can hold, and nothing that is executed on load."""

from __future__ import annotations

import torch

from storage import errors

_PER_ROW = (torch.per_channel_affine, torch.per_channel_symmetric, torch.per_channel_affine_float_qparams)
_VALUES = {torch.qint8: "int8", torch.quint8: "uint8"}


def parts(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """A quantized tensor's integers, scale and zero point, named after it; the last two are scalars or [rows]."""
    if tensor.qscheme() in _PER_ROW:
        scales, zero_points = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    else:
        scales = torch.tensor(tensor.q_scale(), dtype=torch.float64)
        zero_points = torch.tensor(tensor.q_zero_point(), dtype=torch.int64)
    values = {f"{name}.{_VALUES[tensor.dtype]}": tensor.int_repr()}
    return {**values, f"{name}.scale": scales, f"{name}.zero_point": zero_points}


def take(name: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The reverse of `parts`; takes the parts out. Raises ModelError when they are not there."""
    kind = next((word for word in _VALUES.values() if f"{name}.{word}" in tensors), None)
    if kind is None:
        raise errors.ModelError(f"the artifact lacks the integers of {name}")
    values, scale, zero = (tensors.pop(f"{name}.{part}") for part in (kind, "scale", "zero_point"))
    if scale.dim() == 0:
        return torch._make_per_tensor_quantized_tensor(values, scale.item(), int(zero.item()))
    return torch._make_per_channel_quantized_tensor(values, scale, zero, 0)
