"""task=inspect: the content of a weights file, and how two files differ. No code is executed, no network is built."""

import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isqrt, prod
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from faig_lab.config import check
from faig_lab.files import weights_file
from faig_lab.filters import State, objection
from faig_lab.filters.checkpoints import (
    BSRGAN,
    ESRGAN,
    ESRGAN_OLD,
    SRCNN_STYLE,
    SRRESNET,
    common_names,
    naming_of,
    ncnn_files,
)
from faig_lab.filters.checkpoints import without_prefixes as without
from faig_lab.filters.weights import SAFETENSORS, read_wrapped, shown_shape

_SHOWN = 3  # names in a row


def run(cfg: DictConfig, folder: Path) -> None:
    """Print the content of the file. With a second file print both, and whether they have one architecture.

    Raises:
        UserError: a file is not there, or holds no weights.
    """
    settings = check(cfg)
    assert settings.file is not None  # config/rules.py
    named = {"file": settings.file} | ({} if settings.other is None else {"other": settings.other})
    paths = {key: weights_file(name, key) for key, name in named.items()}
    states = {}
    for key, path in paths.items():
        lines, states[key] = describe(path, key)
        print("\n".join(lines))
    if len(states) > 1:
        print("\n".join(compare(states["file"], states["other"])))


def describe(path: Path, key: str) -> tuple[list[str], State]:
    """Return the content of a weights file as lines of text, and the weights that are taken under the file's names.

    Args:
        path: the file.
        key: the setting to name in errors.

    Raises:
        UserError: there is no such file, or the file holds no weights.
    """
    found = read_wrapped(path, key)
    taken = next(iter(found))
    state = found[taken]
    names, prefixes = without(list(state))
    naming = naming_of(names)
    size = sum(value.numel() for value in state.values())
    kernels = {name: value for name, value in state.items() if _is_kernel(name, value)}
    filters = sum(prod(value.shape[:2]) for value in kernels.values())
    precisions = Counter(str(value.dtype).removeprefix("torch.") for value in state.values())
    form = "torch.save" if zipfile.is_zipfile(path) else "torch.save before torch 1.6"
    if path.suffix.lower() == SAFETENSORS or ncnn_files(path) is not None:
        form = "safetensors" if path.suffix.lower() == SAFETENSORS else "ncnn"
    shown = [f"{name} {shown_shape(value)}" for name, value in state.items()]
    faults = [  # objections to the tensors as float32
        f"{name} {fault}"
        for name, value in state.items()
        if (fault := objection(value, torch.float32 if value.is_floating_point() else value.dtype)) is not None
    ]
    rows = {
        "format": f"{form}, {path.stat().st_size / 1000:,.1f} kB",
        "weights": ", ".join(keys + (" (taken)" if keys == taken else "") for keys in found),
        "tensors": f"{len(state):,} with {size:,} numbers; {filters:,} filters in {len(kernels):,} 2-D convolutions",
        "precision": ", ".join(f"{kind} ({count} tensors)" for kind, count in precisions.items()),
        "prefixes": f"{', '.join(prefixes)}; removed unless the network's names have them" if prefixes else "none",
        "naming": naming or "none of the known ones",
        "scale": scale_of(naming, dict(zip(common_names(names), state.values(), strict=True))) or "cannot be told",
        "first": ", ".join(shown[:_SHOWN]),
        "last": ", ".join(shown[-_SHOWN:]),
        "values": _some(faults) if faults else "finite",
    }
    if not taken:
        rows["weights"] = "tensors by name, without a wrapper"
    return [str(path), *(f"  {title:<9}  {text}" for title, text in rows.items())], state


def scale_of(naming: str | None, state: State) -> str | None:
    """Return the upscaling factor in words, e.g. ×4; None if the shapes do not tell the factor.

    Args:
        naming: of the file, a constant of `faig_lab.filters.checkpoints`.
        state: tensors in BasicSR's names (`common_names`).
    """
    shapes = {name.removesuffix(".weight"): value.shape for name, value in state.items() if value.ndim == 4}
    if naming in (ESRGAN, ESRGAN_OLD, BSRGAN):
        return _esrgan_scale(naming, shapes)
    if naming == SRRESNET:
        stages = [_shuffle(shapes[name][0], shapes[name][1]) for name in ("upconv1", "upconv2") if name in shapes]
    elif naming == SRCNN_STYLE:
        layers = [shapes[name] for name in sorted(shapes, key=lambda name: int(name.split(".")[1]))]
        stages = [_shuffle(a[0], b[1]) for a, b in pairwise(layers)]
    else:
        return None
    known = [stage for stage in stages if stage is not None]
    return f"×{prod(known)}" if len(known) == len(stages) else None


def _esrgan_scale(naming: str, shapes: Mapping[str, Sequence[int]]) -> str | None:
    """Return the factor: each stage doubles the size. Real-ESRGAN's ×2 and ×1 shrink the image first."""
    if not {"conv_first", "conv_last"} <= shapes.keys():
        return None
    stages = sum(bool(re.fullmatch(r"conv_up\d", name)) for name in shapes)
    shrunk = _shuffle(shapes["conv_first"][1], shapes["conv_last"][0])
    if shrunk is None or 2**stages % shrunk:
        return None
    one_stage = naming == ESRGAN_OLD and stages == 1
    return f"×{2**stages // shrunk}{' or ×3, whose weights have the same shapes' if one_stage else ''}"


def _shuffle(before: int, after: int) -> int | None:
    """Return the factor of a pixel shuffle from `before` to `after` channels; None if there is no such factor."""
    factor = isqrt(before // after) if after else 0
    return factor if factor and factor**2 * after == before else None


def compare(state: State, other: State) -> list[str]:
    """Return whether two files have one architecture, as lines: the number of different filters, or the differences.

    Prefixes do not count. A known naming does not count either.
    """
    first, second = _in_common_names(state), _in_common_names(other)
    shared = [name for name in first if name in second]
    reshaped = [
        f"{name} is {shown_shape(first[name])} in file and {shown_shape(second[name])} in other"
        for name in shared
        if first[name].shape != second[name].shape
    ]
    only = {"file": [n for n in first if n not in second], "other": [n for n in second if n not in first]}
    differences = [f"only in {key}: {_some(names)}" for key, names in only.items() if names]
    differences += [_some(reshaped)] if reshaped else []
    if differences:
        return ["not one architecture", *(f"  {line}" for line in differences)]
    return [f"one architecture: {len(first):,} tensors of the same names and shapes", *_changes(first, second)]


def _changes(first: State, second: State) -> list[str]:
    """Return the number of filters and of other tensors that differ, and a note on different precisions."""
    differ = {name: _differ(value, second[name]) for name, value in first.items()}
    kernels = [name for name, value in first.items() if _is_kernel(name, value)]
    filters = sum(prod(first[name].shape[:2]) for name in kernels)
    changed = sum(int(differ[name].flatten(2).any(2).sum()) for name in kernels)
    others = [name for name in first if name not in kernels]
    other = sum(bool(differ[name].any()) for name in others)
    lines = [
        f"  filters that differ         {changed:,} of {filters:,}{f' ({changed / filters:.1%})' if filters else ''}",
        f"  other tensors that differ   {other:,} of {len(others):,}",
    ]
    mixed = [name for name in first if first[name].dtype != second[name].dtype]
    if mixed:
        lines.append(f"  precision differs in {len(mixed):,} tensors, so rounding counts as a difference")
    return lines


def _differ(first: Tensor, second: Tensor) -> Tensor:
    """Return where two tensors of one shape differ. A tensor without ordinary values differs everywhere."""
    if any(tensor.is_meta or tensor.is_quantized or tensor.layout is not torch.strided for tensor in (first, second)):
        return torch.ones(first.shape, dtype=torch.bool)
    if first.is_floating_point() and second.is_floating_point():
        return first.double() != second.double()
    return first != second


def _in_common_names(state: State) -> dict[str, Tensor]:
    """Return the tensors without prefixes, in BasicSR's names if all these names are different."""
    names, _ = without(list(state))
    common = common_names(names)
    return dict(zip(common if len(set(common)) == len(common) else names, state.values(), strict=True))


def _is_kernel(name: str, value: Tensor) -> bool:
    return value.ndim == 4 and name.endswith("weight")


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
    return f"{', '.join(texts[:_SHOWN])}{more}"
