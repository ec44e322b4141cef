"""Weights files of ncnn: a `.param` file names the layers, and the `.bin` file beside it has their numbers.

Source: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure, and `src/modelbin.cpp` of ncnn.
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from faig_lab.files import RefusedError

PARAM, BIN = ".param", ".bin"

_FIRST_LINE = "7767517"
_FLOAT16, _FLOAT32 = 0x01306B47, 0
_TAGS: Mapping[int, np.dtype[Any]] = {_FLOAT16: np.dtype("<f2"), _FLOAT32: np.dtype("<f4")}

_WITH_WEIGHTS = ("Convolution", "Deconvolution")
_WITHOUT_WEIGHTS = (
    *("Input", "Split", "ReLU", "Sigmoid", "TanH", "Clip", "BinaryOp", "Eltwise"),
    *("Concat", "Crop", "Interp", "PixelShuffle", "Pooling"),
)


class _Layer(NamedTuple):
    """One line of a `.param` file: its type, its name, and its numbered whole-number parameters."""

    kind: str
    name: str
    values: Mapping[int, int]


def ncnn_files(path: Path) -> tuple[Path, Path] | None:
    """Return the `.param` and the `.bin` file of a network that one of them names; None for any other file.

    A `.bin` file may also be written by `torch.save`. It is ncnn's if a `.param` file is beside it, or if it begins
    with ncnn's tag of float16.
    """
    suffix = path.suffix.lower()
    if suffix == PARAM:
        return path, path.with_suffix(BIN)
    if suffix != BIN or not path.is_file():
        return None
    param = path.with_suffix(PARAM)
    with path.open("rb") as file:
        tagged = file.read(4) == struct.pack("<I", _FLOAT16)
    return (param, path) if param.is_file() or tagged else None


def read_ncnn(param: Path, weights: Path) -> dict[str, Tensor]:
    """Read the weights of convolutions and transposed convolutions as torch holds them. Nothing is executed.

    Args:
        param: names the layers, in the order of the numbers.
        weights: has for each layer a tag of 4 bytes, the kernel as float16 (padded to a multiple of 4 bytes) or as
            float32, and the bias as float32.

    Returns:
        `<layer>.weight` and `<layer>.bias` in the precision of the file. A kernel is (out, in, height, width). The
        kernel of a transposed convolution is (in, out, height, width), as torch has it; in the file `out` is first.

    Raises:
        RefusedError: one of both files is missing or damaged, does not fit the other, or has a layer or a precision
            that is not supported. The message is one line.
    """
    for path in (param, weights):
        if not path.is_file():
            raise RefusedError(f"it is one of two files of ncnn, and there is no {path.name} beside it")
    layers = _layers(param)
    content, place = weights.read_bytes(), 0
    state: dict[str, Tensor] = {}
    for layer in layers:
        kernel, place = _kernel(layer, content, place, weights.name)
        state[f"{layer.name}.weight"] = kernel
        if layer.values.get(5, 0):
            out = layer.values[0]
            state[f"{layer.name}.bias"] = _numbers(content, place, out, _TAGS[_FLOAT32], f"{weights.name} {layer.name}")
            place += 4 * out
    if place != len(content):
        raise RefusedError(f"{weights.name} has {len(content):,} bytes, and the layers of {param.name} take {place:,}")
    return state


def _layers(param: Path) -> list[_Layer]:
    """Return the layers with weights in the order of the file."""
    lines = param.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != _FIRST_LINE:
        raise RefusedError(f"{param.name} is no text file of ncnn, whose first line is {_FIRST_LINE}")
    rows = [line.split() for line in lines[2:] if line.strip()]
    layers = [_layer(row, param.name) for row in rows if row[0] not in _WITHOUT_WEIGHTS]
    names = [layer.name for layer in layers]
    if not layers:
        raise RefusedError(f"{param.name} has no layer with weights")
    if len(set(names)) < len(names):
        raise RefusedError(f"{param.name} has two layers of one name")
    return layers


def _layer(row: list[str], file: str) -> _Layer:
    """Read a line: type, name, number of inputs and of outputs, their names, and `number=value` for each parameter."""
    kind, name = row[0], row[1] if len(row) > 1 else "without a name"
    if kind not in _WITH_WEIGHTS:
        raise RefusedError(f"{file}: the layer {name} is {kind}; only {' and '.join(_WITH_WEIGHTS)} are read")
    try:
        first = 4 + int(row[2]) + int(row[3])
        pairs = [word.split("=") for word in row[first:]]
        # Numbers below -23300 hold arrays, for example the slope of an activation. No array is about the weights.
        values = {int(number): int(value) for number, value in pairs if int(number) >= 0 and "." not in value}
    except (IndexError, ValueError):
        raise RefusedError(f"{file}: the line of the layer {name} cannot be read") from None
    if values.get(8, 0) or values.get(19, 0):
        raise RefusedError(f"{file}: the layer {name} has 8-bit or computed weights; only stored floats are read")
    return _Layer(kind, name, values)


def _kernel(layer: _Layer, content: bytes, place: int, file: str) -> tuple[Tensor, int]:
    """Read the kernel of a layer at a place of the file; return the kernel and the place behind the kernel."""
    out, width, size = (layer.values.get(number, 0) for number in (0, 1, 6))
    height = layer.values.get(11, width)
    if min(out, width, height, size) < 1 or size % (out * height * width):
        raise RefusedError(f"the layer {layer.name} has {size} weights, which are no {out} kernels of {height}×{width}")
    tag = int.from_bytes(content[place : place + 4], "little")
    if tag not in _TAGS:
        raise RefusedError(f"{file}: the layer {layer.name} has the tag {tag:#010x}; only float16 and float32 are read")
    values = _numbers(content, place + 4, size, _TAGS[tag], f"{file} {layer.name}")
    shape = (out, size // (out * height * width), height, width)
    kernel = values.reshape(shape)
    if layer.kind == "Deconvolution":
        kernel = kernel.transpose(0, 1).contiguous()
    return kernel, place + 4 + 4 * math.ceil(size * _TAGS[tag].itemsize / 4)


def _numbers(content: bytes, place: int, count: int, kind: np.dtype[Any], where: str) -> Tensor:
    """Return a copy of numbers in the file; the file and layer are named if the file is too short."""
    if place + count * kind.itemsize > len(content):
        raise RefusedError(f"{where}: the file ends within the numbers of this layer, after {len(content):,} bytes")
    return torch.from_numpy(np.frombuffer(content, kind, count, place).astype(kind.newbyteorder("=")))
