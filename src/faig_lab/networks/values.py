"""What a given tensor must be to stand for a tensor of a network."""

import torch
from torch import Tensor

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def objection(value: Tensor, dtype: torch.dtype) -> str | None:
    """Why a tensor cannot be used where a network holds one of type `dtype`, to follow the tensor's name.

    A floating number can be of any precision as long as `dtype` can hold it. Integers and truth values (counters,
    indices) can be of any such type that converts without a change.

    Returns:
        None if it can be used.
    """
    kind = _kind(value)
    if kind is not None:
        return f"is {kind}; expected an ordinary tensor of {dtype}"
    if dtype.is_floating_point:
        if value.dtype not in _FLOATS:
            return f"is {value.dtype}; expected floating numbers of 16 to 64 bits, as {dtype}"
        if not torch.isfinite(value).all():
            return "has values that are not finite"
        if not torch.isfinite(value.to(dtype)).all():
            return f"has values up to {float(value.abs().max()):.3g}, too large for {dtype}"
        return None
    if dtype.is_complex:
        if value.dtype != dtype:
            return f"is {value.dtype}; expected {dtype}"
        return None if torch.isfinite(value).all() else "has values that are not finite"
    if value.is_floating_point() or value.is_complex():
        return f"is {value.dtype}; expected {dtype}"
    if not torch.equal(value.to(dtype).to(value.dtype), value):
        return f"is {value.dtype} with values that {dtype} cannot hold"
    return None


def as_stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor itself if it holds floating numbers, which keep their precision; integers in the network's type."""
    return value if dtype.is_floating_point or dtype.is_complex else value.to(dtype)


def _kind(value: Tensor) -> str | None:
    """What a tensor is, if it is no ordinary tensor with one value per element; else None."""
    if value.is_nested:
        return "a nested tensor"
    if value.is_meta and type(value) in (Tensor, torch.nn.Parameter):  # a subclass may hold values of its own
        return "a meta tensor, which has a shape and no values"
    if value.is_quantized:
        return f"quantised ({value.dtype})"
    if value.layout is not torch.strided:
        return f"sparse ({value.layout})" if "sparse" in str(value.layout) else f"of layout {value.layout}"
    return None
