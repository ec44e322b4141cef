"""Weights files of other programs: checkpoints of other training code, and the two files of ncnn.

Checkpoints have dicts around the weights. The names of the weights differ by the prefixes of wrappers, and by the
naming of the same architecture.
"""

import math
import re
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faig_lab.files import RefusedError
from faig_lab.filters.functional import State

AVERAGED = ("params_ema", "params-ema", "state_dict_ema", "ema")
"""Keys of averaged weights. They are preferred, since the averaged weights are attributed."""

WRAPPERS = (*AVERAGED, "params", "state_dict", "model_state_dict", "model", "net", "netG", "generator")
"""Keys of weights, the preferred keys first. Sources: BasicSR, Lightning, timm, KAIR and common usage."""

_DEPTH = 2  # the largest number of nested wrappers


def unwrap(content: object) -> dict[str, State]:
    """Find every dict of tensors in the content of a file. The dict that is used comes first.

    Averaged weights come first, then weights under fewer keys, then the order of `WRAPPERS`.

    Args:
        content: tensors in plain containers.

    Returns:
        The keys that lead to the weights, e.g. `model.params_ema` and "" for a flat dict → at least one tensor, by
        name.

    Raises:
        ValueError: the averaged weights are a list without names, or are not tensors alone. Other weights of the file
            are not used in their place, since they are another θ.
    """
    _check_averaged(content, ())
    found = dict(_found(content, ()))
    order = sorted(found, key=lambda keys: (not set(keys) & set(AVERAGED), len(keys), [*map(WRAPPERS.index, keys)]))
    return {".".join(keys): found[keys] for keys in order}


def _found(content: object, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], State]]:
    """Yield every dict of tensors, and the keys that lead to it."""
    if not isinstance(content, Mapping):
        return
    if content and all(isinstance(value, Tensor) for value in content.values()):
        yield keys, {str(name): value for name, value in content.items()}
    elif len(keys) < _DEPTH:
        for key in WRAPPERS:
            yield from _found(content.get(key), (*keys, key))


def _check_averaged(content: object, keys: tuple[str, ...]) -> None:
    """Raise ValueError if a place where weights are searched holds averaged weights in a form that is not read."""
    if not isinstance(content, Mapping):
        return
    for key in ("shadow_params", *AVERAGED):
        value = content.get(key)
        if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
            raise ValueError(
                f"{'.'.join((*keys, key))} holds the averaged weights as a list of {len(value)} tensors without names; "
                "copy them into the network with the code that wrote the file, and save its state_dict()"
            )
    for key in WRAPPERS if len(keys) < _DEPTH else ():
        _check_averaged(content.get(key), (*keys, key))
    for key in AVERAGED:
        value = content.get(key)
        if not isinstance(value, Mapping) or any(_found(value, (*keys, key))):
            continue
        inner = [part for item in value.values() for part in (item.values() if isinstance(item, Mapping) else [item])]
        if any(isinstance(part, Tensor) for part in inner):
            other = next(name for name, item in value.items() if not isinstance(item, Tensor))
            raise ValueError(
                f"{'.'.join((*keys, key))} holds averaged weights in an unknown form: {other} in it is no tensor; save "
                "the averaged weights as a dict of tensors"
            )


PREFIXES = ("network.", "module.", "_orig_mod.", "net.", "model.", "generator.")
"""Prefixes of our Lightning checkpoints, of `torch.nn.DataParallel`, of `torch.compile` and of other training code."""

_LAYERS = 4  # the largest number of prefixes on one name

ESRGAN, ESRGAN_OLD, BSRGAN = "ESRGAN (BasicSR's names)", "ESRGAN, old names", "BSRGAN"
SRRESNET, SRCNN_STYLE = "SRResNet", "SRCNN style"

_INNER = {
    ESRGAN: r"body\.\d+\.rdb\d\.conv\d\.",
    ESRGAN_OLD: r"model\.1\.sub\.\d+\.RDB\d\.conv\d\.0\.",
    BSRGAN: r"RRDB_trunk\.\d+\.RDB\d\.conv\d\.",
}
"""Naming → start of the names of its inner layers. One such name is enough to recognise the naming."""

_ALL = {
    SRRESNET: r"(conv_first|body\.\d+\.conv[12]|upconv[12]|conv_hr|conv_last)\.(weight|bias)$",
    SRCNN_STYLE: r"features\.\d+\.(weight|bias)$",
}
"""Naming → pattern that all of its names match."""

_RENAMINGS: Mapping[str, tuple[tuple[str, str], ...]] = {
    ESRGAN_OLD: (
        (r"model\.0\.", "conv_first."),
        (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3."),
        (r"model\.1\.sub\.\d+\.(?=(weight|bias)$)", "conv_body."),
    ),
    BSRGAN: (
        (r"RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
        (r"trunk_conv\.", "conv_body."),
        (r"upconv(\d)\.", r"conv_up\1."),
        (r"HRconv\.", "conv_hr."),
    ),
}
"""Naming → starts of its names as regular expressions, and BasicSR's names of the same layers.

Sources: xinntao/ESRGAN (`RRDBNet_arch.py` and `transer_RRDB_models.py`) and cszn/BSRGAN. The layers behind the blocks
of the old ESRGAN are in `_after_blocks`, since their numbers depend on the upscaling factor.
"""


def naming_of(names: Collection[str]) -> str | None:
    """Return the naming of names without prefixes: one of the constants above, or None."""
    for naming, inner in _INNER.items():
        if any(re.match(inner, name) for name in names):
            return naming
    return next((naming for naming, form in _ALL.items() if names and all(re.match(form, n) for n in names)), None)


def common_names(names: Sequence[str]) -> list[str]:
    """Return the names in BasicSR's naming if they follow another known naming, otherwise unchanged.

    Two names can become the same name. A caller that needs different names has to check this.
    """
    renamed = list(names)
    for naming, rows in _RENAMINGS.items():
        if any(re.match(_INNER[naming], name) for name in names):
            table = [*rows, *(_after_blocks(names) if naming == ESRGAN_OLD else ())]
            for place, name in enumerate(renamed):
                fitting = next((row for row in table if re.match(row[0], name)), None)
                renamed[place] = re.sub(f"^{fitting[0]}", fitting[1], name) if fitting else name
    return renamed


def _after_blocks(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return patterns and BasicSR's names for the layers behind the blocks of the old ESRGAN.

    The result is empty if the layers do not have the expected numbers.

    With n upsampling stages their convolutions are `model.3`, `model.6`, … `model.3n`. Conv_hr is `model.(3n + 2)`,
    and conv_last is `model.(3n + 4)`. Upsampling and activations have the numbers between them.
    """
    matches = (re.match(r"model\.(\d+)\.(weight|bias)$", name) for name in names)
    numbers = sorted({int(match[1]) for match in matches if match} - {0, 1})
    stages = len(numbers) - 2
    layers = [(3 * k, f"conv_up{k}") for k in range(1, stages + 1)]
    layers += [(3 * stages + 2, "conv_hr"), (3 * stages + 4, "conv_last")]
    if numbers != [number for number, _ in layers]:
        return []
    return [(rf"model\.{number}\.", f"{name}.") for number, name in layers]


def own_names(names: Sequence[str], expected: Collection[str]) -> list[str]:
    """Return the network's names for the tensors of a file.

    The smallest number of prefixes is removed with which the names are those of the network. A part of a network may
    itself be called `network` or `module`, so a prefix that the network has is kept. Names of another known naming are
    replaced if the new names are those of the network.

    Args:
        names: the names in the file, all different.
        expected: the network's names.

    Returns:
        The new name of each tensor, all different. If no form has exactly the network's names, the form with most of
        them is returned; among equally good forms, the form with the fewest prefixes left.

    Raises:
        ValueError: two names of the file stand for the same name of the network, in two namings.
    """
    wanted = set(expected)
    candidates = _without_prefixes(names)
    for candidate in candidates:
        if set(candidate) == wanted:
            return list(candidate)
    names_in_network = dict(zip(common_names(list(expected)), expected, strict=True))
    renamed = [tuple(names_in_network.get(name, name) for name in common_names(candidate)) for candidate in candidates]
    for candidate in renamed:
        if set(candidate) == wanted:
            twice = next((name for name, count in Counter(candidate).items() if count > 1), None)
            if twice is not None:
                both = [name for name, new in zip(names, candidate, strict=True) if new == twice]
                raise ValueError(f"holds {both[0]} and {both[1]}, which are both {twice} of the network")
            return list(candidate)
    # Reversed, since `max` takes the first of equals. Prefixes in an error message would hide the names that differ.
    distinct = [candidate for candidate in reversed(renamed) if len(set(candidate)) == len(candidate)]
    return list(max([*reversed(candidates), *distinct], key=lambda x: len(wanted.intersection(x))))


def without_prefixes(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names without the prefixes that all names share, and these prefixes. No network is needed.

    A prefix that belongs to a known naming is kept: the names of the old ESRGAN start with `model.`.
    """
    left, removed = list(names), []
    while naming_of(left) is None:
        prefix = next((p for p in PREFIXES if left and all(name.startswith(p) for name in left)), None)
        if prefix is None:
            break
        left = [name.removeprefix(prefix) for name in left]
        removed.append(prefix)
    inner = [name.replace("._orig_mod.", ".") for name in left]
    if inner != left and len(set(inner)) == len(inner):
        left, removed = inner, [*removed, "_orig_mod."]
    return left, removed


def _without_prefixes(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the names with no prefix removed, one removed, and so on; only forms in which all names are different."""
    layers = [[tuple(names)]]
    for _ in range(_LAYERS):
        forms = []
        for candidate in layers[-1]:
            forms += [tuple(name.removeprefix(prefix) for name in candidate) for prefix in PREFIXES]
            # `torch.compile` also prefixes inner modules.
            forms.append(tuple(name.replace("._orig_mod.", ".") for name in candidate))
        layers.append([form for form in dict.fromkeys(forms) if len(set(form)) == len(form)])
    return list(dict.fromkeys(candidate for layer in layers for candidate in layer))


PARAM, BIN = ".param", ".bin"
"""Suffixes of the two files of ncnn: `.param` names the layers, and `.bin` has their numbers.

Source: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure, and `src/modelbin.cpp` of ncnn.
"""

_FIRST_LINE = "7767517"
_FLOAT16, _FLOAT32 = 0x01306B47, 0
_TAGS: Mapping[int, np.dtype[Any]] = {_FLOAT16: np.dtype("<f2"), _FLOAT32: np.dtype("<f4")}

_WITH_WEIGHTS = ("Convolution", "Deconvolution")
_WITHOUT_WEIGHTS = (
    *("Input", "Split", "ReLU", "Sigmoid", "TanH", "Clip", "BinaryOp", "Eltwise"),
    *("Concat", "Crop", "Interp", "PixelShuffle", "Pooling"),
)


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
    layers = _ncnn_layers(param)
    content, place = weights.read_bytes(), 0
    state: dict[str, Tensor] = {}

    def numbers(name: str, count: int, kind: np.dtype[Any]) -> Tensor:
        """Return a copy of the next numbers of the file. They take a multiple of 4 bytes."""
        nonlocal place
        start, place = place, place + 4 * math.ceil(count * kind.itemsize / 4)
        if start + count * kind.itemsize > len(content):
            raise RefusedError(
                f"{weights.name} {name}: the file ends within the numbers of this layer, after {len(content):,} bytes"
            )
        return torch.from_numpy(np.frombuffer(content, kind, count, start).astype(kind.newbyteorder("=")))

    for name, (kind, values) in layers.items():
        out, width, size = (values.get(number, 0) for number in (0, 1, 6))
        height = values.get(11, width)
        if min(out, width, height, size) < 1 or size % (out * height * width):
            raise RefusedError(f"the layer {name} has {size} weights, which are no {out} kernels of {height}×{width}")
        tag = int.from_bytes(content[place : place + 4], "little")
        if tag not in _TAGS:
            raise RefusedError(
                f"{weights.name}: the layer {name} has the tag {tag:#010x}; only float16 and float32 are read"
            )
        place += 4
        kernel = numbers(name, size, _TAGS[tag]).reshape(out, size // (out * height * width), height, width)
        state[f"{name}.weight"] = kernel if kind == "Convolution" else kernel.transpose(0, 1).contiguous()
        if values.get(5, 0):
            state[f"{name}.bias"] = numbers(name, out, _TAGS[_FLOAT32])
    if place != len(content):
        raise RefusedError(f"{weights.name} has {len(content):,} bytes, and the layers of {param.name} take {place:,}")
    return state


def _ncnn_layers(param: Path) -> dict[str, tuple[str, dict[int, int]]]:
    """Return each layer with weights by name, in the order of the file: its type and its numbered whole numbers.

    A line has a type, a name, the numbers of inputs and of outputs, their names, and `number=value` for each parameter.
    """
    lines = param.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != _FIRST_LINE:
        raise RefusedError(f"{param.name} is no text file of ncnn, whose first line is {_FIRST_LINE}")
    layers: dict[str, tuple[str, dict[int, int]]] = {}
    for row in (line.split() for line in lines[2:] if line.strip()):
        kind, name = row[0], row[1] if len(row) > 1 else "without a name"
        if kind in _WITHOUT_WEIGHTS:
            continue
        if kind not in _WITH_WEIGHTS:
            raise RefusedError(f"{param.name}: the layer {name} is {kind}; only {' and '.join(_WITH_WEIGHTS)} are read")
        try:
            pairs = [word.split("=") for word in row[4 + int(row[2]) + int(row[3]) :]]
            # Numbers below -23300 hold arrays, for example the slope of an activation. No array is about the weights.
            values = {int(number): int(value) for number, value in pairs if int(number) >= 0 and "." not in value}
        except (IndexError, ValueError):
            raise RefusedError(f"{param.name}: the line of the layer {name} cannot be read") from None
        if values.get(8, 0) or values.get(19, 0):
            raise RefusedError(
                f"{param.name}: the layer {name} has 8-bit or computed weights; only stored floats are read"
            )
        if name in layers:
            raise RefusedError(f"{param.name} has two layers of one name")
        layers[name] = kind, values
    if not layers:
        raise RefusedError(f"{param.name} has no layer with weights")
    return layers
