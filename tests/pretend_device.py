"""A device that is not there: tensors with real numbers that refuse to be mixed with the processor's, like a GPU's.

They are called "meta", the one device that any build of PyTorch knows and whose gradients run on the processor. What
is allowed is what CUDA allows: copies between devices, numbers without dimensions, and indices on the processor.
"""

from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torchmetrics.functional.image import psnr

DEVICE = torch.device("meta")
COPIES = ("aten::copy_", "aten::_to_copy", "aten::_foreach_copy_")
crossings: list[tuple[str, tuple[int, ...]]] = []
"""Each copy from one device to the other: where to, and the shape."""
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


class OnDevice(torch.Tensor):
    """A tensor of the device; `inner` has its numbers."""

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE,
        )  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return dispatch(function, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self):
        return self.inner.tolist()

    # PyTorch makes tensors of the device from numbers without asking for the numbers, so these two go by the processor.

    def new_tensor(self, data, **kwargs):
        return self.inner.new_tensor(data, **kwargs).to(DEVICE)

    def __getitem__(self, index):
        return super().__getitem__(torch.tensor(index) if isinstance(index, list) else index)


class Device(TorchDispatchMode):
    """While it is active, tensors can be moved to the device and made there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return dispatch(function, args, kwargs or {})


def dispatch(function, args, kwargs):
    """Compute on the processor what all of its tensors are on one device for."""
    name, given = function._schema.name, tree_flatten((args, kwargs))[0]
    there = [one for one in given if isinstance(one, OnDevice)]
    here = [one for one in given if isinstance(one, torch.Tensor) and not isinstance(one, OnDevice) and one.dim()]
    if name in INDEXED:
        indices = tree_flatten(args[1])[0]
        here = [one for one in here if not any(one is index for index in indices)]
    if there and here and name not in COPIES:
        raise RuntimeError(f"{name}: tensors on two devices")
    device = kwargs.get("device")
    target = bool(there) if device is None else torch.device(device).type == DEVICE.type
    if name == "aten::copy_":
        target = isinstance(args[0], OnDevice)
    if name in COPIES[:2]:
        source = args[name == "aten::copy_"]
        if isinstance(source, OnDevice) != target:
            crossings.append((DEVICE.type if target else "cpu", tuple(source.shape)))
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(one.inner): one for one in there}
    plain = tree_map(lambda one: one.inner if isinstance(one, OnDevice) else one, (args, kwargs))
    found = function(*plain[0], **plain[1])

    def wrapped(one):
        if not isinstance(one, torch.Tensor):
            return one
        return (known.get(id(one)) if id(one) in known else OnDevice(one)) if target else one

    return tree_map(wrapped, found)


@contextmanager
def device():
    """The device is there; autocast on it is that of the processor."""
    autocast = torch.autocast

    def on_processor(device_type, *args, **kwargs):
        return autocast("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)

    made = torch.tensor

    def tensor(data, *, device=None, **kwargs):  # as OnDevice.new_tensor
        there = device is not None and torch.device(device).type == DEVICE.type
        return made(data, **kwargs).to(DEVICE) if there else made(data, device=device, **kwargs)

    with (
        patch.object(torch, "autocast", on_processor),
        patch.object(torch, "tensor", tensor),
        patch.object(psnr, "tensor", tensor),
        Device(),
    ):
        yield DEVICE
