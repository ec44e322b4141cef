"""How gradients are computed: precision, memory format, tiles, several points at once, a compiler.

None of it changes what is computed but for rounding.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from faig_lab.attribution.agreement import bound_of_tiles, difference_of_tiles, remembered
from faig_lab.attribution.receptive_field import Reach, reach
from faig_lab.attribution.tiles import Tile, cut, whole
from faig_lab.errors import UserError
from faig_lab.filters import State, evaluate

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
"""Modes of `torch.compile`; reduce-overhead replays CUDA graphs."""

GIGABYTE = 2**30
PEAK_PER_SAVED = 1.6
"""Peak memory of a forward and a backward pass per byte that the forward saves for the backward.

Gradients on their way back, the work space of convolutions and what the allocator cannot use again come on top.
Measured on processors: 1.1 to 1.5 for the full SRResNet (benchmarks, part d), up to 1.8 for others; and 0.1 GB.
"""

_SIDES = (32, 64)
"""LR sides of the images that a network's memory is measured on; smaller images than these are never cut."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compute:
    """How gradients are computed.

    Args:
        autocast: run the network in this lower precision (e.g. bfloat16); sums stay as they are. None: no.
        memory: how much one gradient evaluation may take, in GB; larger images are cut into tiles that overlap by
            what the network sees, and their gradients added up. About that much: what a forward saves is measured,
            the rest estimated. None: no bound.
        together: points of a path evaluated at once (`torch.func.vmap`). It pays where the device is not filled: tiny
            images or networks. Takes so many times the memory. The first gradients of every size are compared with
            those of one point after the other, which is used, with a warning, where they differ. The input gradients
            are evaluated one by one.
        compile: compile the network by `torch.compile` in this mode. It pays for many passes over images of one
            size. None: no.
    """

    autocast: torch.dtype | None = None
    memory: float | None = None
    together: int = 1
    compile: CompileMode | None = None

    def __post_init__(self) -> None:
        if self.memory is not None and not self.memory > 0:
            raise ValueError(f"memory must be > 0 GB, not {self.memory}")
        if self.together < 1:
            raise ValueError(f"together must be > 0, not {self.together}")

    def output(self, network: nn.Module, state: State, lr: Tensor) -> Tensor:
        """The network's output with the weights of a state, LR (N, 3, H, W) → SR (N, 3, sH, sW)."""
        run = evaluate if self.compile is None else _compiled(self.compile)
        with torch.autocast(lr.device.type, self.autocast, enabled=self.autocast is not None):
            return run(network, state, lr)

    def tiles(self, network: nn.Module, state: State, lr: Tensor, scale: int) -> tuple[Tile, ...]:
        """What a gradient evaluation on LR (N, 3, H, W) is cut into: one tile where memory allows.

        Raises:
            UserError: the image is too large, and the network cannot be cut, not that small, or not without changing
                its output.
        """
        height, width = lr.shape[-2:]
        pixels = lr.shape[0] * self.together * height * width
        if self.memory is None or pixels <= _SIDES[1] ** 2:
            return whole(height, width, scale)
        kind = f"{lr.dtype} {self.autocast}"
        saved = remembered(_SAVED, network, kind, lambda: self._saved_per_pixel(network, state, lr))
        most = height * width * self.memory * GIGABYTE / (PEAK_PER_SAVED * max(saved, 1.0) * pixels)
        if height * width <= most:
            return whole(height, width, scale)
        sees = remembered(_REACH, network, "reach", lambda: reach(network, state, scale))
        if sees is None:
            raise UserError(
                f"attribution.memory: {self.memory:g} GB are too little for {height}×{width} LR pixels, and "
                f"{type(network).__name__} sees too far to be cut into tiles: smaller images (data.probe_crop), or "
                f"about {height * width / most * self.memory:.2g} GB"
            )
        tiles = cut(height, width, scale, sees, most)
        key = f"{sees} {lr.dtype} {lr.device.type}"
        wrong = remembered(_TILES, network, key, lambda: self._wrong_in_tiles(network, state, lr, scale, sees, most))
        if not wrong <= bound_of_tiles(lr.dtype):
            raise UserError(
                f"attribution.memory: {self.memory:g} GB are too little for {height}×{width} LR pixels, and "
                f"{type(network).__name__} cannot be cut into tiles: their output differs from that of the whole image "
                f"by {100 * wrong:.2g} %, so it wraps round, depends on the position or compares. Use smaller images "
                f"(data.probe_crop), or about {height * width / most * self.memory:.2g} GB"
            )
        return tiles

    def _wrong_in_tiles(
        self, network: nn.Module, state: State, lr: Tensor, scale: int, sees: Reach, most: float
    ) -> float:
        layout = memory_format(lr, None)
        fixed = in_format(state, layout)

        def run(image: Tensor) -> Tensor:
            return evaluate(network, fixed, image.contiguous(memory_format=layout))

        with full_precision():
            return difference_of_tiles(run, lr, scale, sees, most)

    def _saved_per_pixel(self, network: nn.Module, state: State, lr: Tensor) -> float:
        """Bytes that a forward saves for its backward, per LR pixel; 0 where it cannot be measured."""
        try:
            small, large = (self._saved(network, state, lr.new_zeros(1, 3, side, side)) for side in _SIDES)
        except Exception as error:  # whatever a network of the user's has against images of this size
            log.debug("attribution.memory: not measured for %s (%s)", type(network).__name__, error)
            return 0.0
        return (large - small) / (_SIDES[1] ** 2 - _SIDES[0] ** 2)

    def _saved(self, network: nn.Module, state: State, lr: Tensor) -> int:
        """Bytes that a forward saves."""
        storages: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            """Count a tensor's memory once, however many views of it are saved."""
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        parameters = {name for name, _ in network.named_parameters()}
        leaves = {
            name: value.detach().requires_grad_(name in parameters and value.is_floating_point())
            for name, value in state.items()
        }
        # `kept` holds what was saved until all is counted: an address that is freed would be used again.
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            kept = Compute(self.autocast).output(network, leaves, lr.to(memory_format=memory_format(lr, self.autocast)))
        del kept
        return sum(storages.values())


@contextmanager
def full_precision() -> Iterator[None]:
    """Let GPUs compute what is in float32 in float32; also a decorator.

    PyTorch lets cuDNN convolve float32 in TF32, with 10 bits of mantissa in place of 23. Autocast is not affected. A
    precision that the caller has chosen by PyTorch's newer interface (`fp32_precision`) stays.
    """
    before: list[tuple[Any, bool]] = []
    places: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
    for flags in places:
        with suppress(RuntimeError):  # raised where the newer interface was used
            before.append((flags, flags.allow_tf32))
            flags.allow_tf32 = False
    try:
        yield
    finally:
        for flags, allowed in before:
            flags.allow_tf32 = allowed


DEFAULT = Compute()
"""One image, one point at a time, whole, in the precision of the weights."""


def memory_format(lr: Tensor, autocast: torch.dtype | None) -> torch.memory_format:
    """The faster layout of images and kernels, by measurement (docs/performance.md).

    On processors channels last in single precision and below; on GPUs in lower precision, where tensor cores want it.
    """
    wanted = autocast is not None or (lr.device.type == "cpu" and lr.dtype != torch.float64)
    return torch.channels_last if wanted else torch.contiguous_format


def in_format(values: State, layout: torch.memory_format) -> dict[str, Tensor]:
    """Tensors with four dimensions in this layout, the others as they are; copied only where they are not."""
    return {n: v.contiguous(memory_format=layout) if v.dim() == 4 else v for n, v in values.items()}


_REACH: WeakKeyDictionary[nn.Module, dict[str, Reach | None]] = WeakKeyDictionary()
_TILES: WeakKeyDictionary[nn.Module, dict[str, float]] = WeakKeyDictionary()
_SAVED: WeakKeyDictionary[nn.Module, dict[str, float]] = WeakKeyDictionary()


@cache
def _compiled(mode: CompileMode) -> Callable[[nn.Module, State, Tensor], Tensor]:
    compiled: Callable[[nn.Module, State, Tensor], Tensor] = torch.compile(evaluate, mode=mode)
    return compiled
