"""How gradients are computed: precision, memory format, tiles, several points at once, a compiler."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from faig_lab.attribution.tiling import (
    ReceptiveField,
    Tile,
    bound_of_tiles,
    cut,
    difference_of_tiles,
    measure_receptive_field,
    remembered,
    whole,
)
from faig_lab.errors import InputError
from faig_lab.filters import State, evaluate

PRECISIONS: Mapping[str, tuple[torch.dtype, torch.dtype | None]] = {
    "float64": (torch.float64, None),
    "float32": (torch.float32, None),
    "bfloat16": (torch.float32, torch.bfloat16),
}
"""`attribution.precision` → precision of weights and sums, and of the network's operations where it is lower."""


Gradients = Sequence[Mapping[str, Tensor]]
"""∂f/∂γ γ'(α) by parameter at each of some points α."""

SINGLE, LOWER = 1e-3, 0.05
"""Largest relative difference of gradients at several points at once: in single precision and above, and below it."""

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
        points_per_batch: points of a path evaluated at once (`torch.func.vmap`). It pays where the device is not
            filled: tiny images or networks. Takes so many times the memory. The first gradients of every size are
            compared with those of one point after the other, which is used, with a warning, where they differ. The
            input gradients are evaluated one by one.
        compile: compile the network by `torch.compile` in this mode. It pays for many passes over images of one
            size. None: no.
        cuda_graphs: on a GPU, record a pass over a whole image at its third evaluation and replay the recording for
            images of the same size. Passes that are compiled, in tiles or at several points at once are not recorded.
    """

    autocast: torch.dtype | None = None
    memory: float | None = None
    points_per_batch: int = 1
    compile: CompileMode | None = None
    cuda_graphs: bool = True

    def __post_init__(self) -> None:
        if self.memory is not None and not self.memory > 0:
            raise ValueError(f"memory must be > 0 GB, not {self.memory}")
        if self.points_per_batch < 1:
            raise ValueError(f"points_per_batch must be > 0, not {self.points_per_batch}")

    @property
    def records(self) -> bool:
        """Whether passes may be recorded: a compiled network has recordings of its own."""
        return self.cuda_graphs and self.compile is None

    @property
    def forward(self) -> Callable[[nn.Module, State, Tensor], Tensor]:
        """The function that restores images: `filters.evaluate`, compiled if `compile` says so."""
        return evaluate if self.compile is None else _compiled(self.compile)

    def precision(self, lr: Tensor) -> AbstractContextManager[Any]:
        """Return the context that a forward pass on these images runs in."""
        return torch.autocast(lr.device.type, self.autocast, enabled=self.autocast is not None)

    def output(self, network: nn.Module, state: State, lr: Tensor) -> Tensor:
        """Compute the network's output with the weights of a state: LR (N, 3, H, W) → SR (N, 3, sH, sW)."""
        with self.precision(lr):
            return self.forward(network, state, lr)

    def tiles(self, network: nn.Module, state: State, lr: Tensor, scale: int) -> tuple[Tile, ...]:
        """Cut LR (N, 3, H, W) into the tiles of one gradient evaluation: one tile where memory allows.

        Raises:
            InputError: the image is too large, and the network cannot be cut, not that small, or not without changing
                its output.
        """
        height, width = lr.shape[-2:]
        pixels = lr.shape[0] * self.points_per_batch * height * width
        if self.memory is None or pixels <= _SIDES[1] ** 2:
            return whole(height, width, scale)
        key = "saved", lr.dtype, self.autocast
        saved = remembered(network, key, lambda: self._saved_per_pixel(network, state, lr))
        most = height * width * self.memory * GIGABYTE / (PEAK_PER_SAVED * max(saved, 1.0) * pixels)
        if height * width <= most:
            return whole(height, width, scale)
        field = remembered(network, "receptive field", lambda: measure_receptive_field(network, state, scale))
        little = f"{self.memory:g} GB are too little for {height}×{width} LR pixels, and {type(network).__name__}"
        enough = f"smaller images (`images`), or about {height * width / most * self.memory:.2g} GB"
        if field is None:
            raise InputError("memory", f"{little} sees too far to be cut into tiles: {enough}")
        tiles = cut(height, width, scale, field, most)
        wrong = remembered(
            network,
            ("tiles", field, lr.dtype, lr.device.type),
            lambda: self._wrong_in_tiles(network, state, lr, scale, field, most),
        )
        if not wrong <= bound_of_tiles(lr.dtype):
            raise InputError(
                "memory",
                f"{little} cannot be cut into tiles: their output differs from that of the whole image by "
                f"{100 * wrong:.2g} %, so it wraps round, depends on the position or compares. Use {enough}",
            )
        return tiles

    def _wrong_in_tiles(
        self, network: nn.Module, state: State, lr: Tensor, scale: int, field: ReceptiveField, most: float
    ) -> float:
        layout = memory_format(lr, None)
        fixed = in_format(state, layout)

        def run(image: Tensor) -> Tensor:
            return evaluate(network, fixed, image.contiguous(memory_format=layout))

        with full_precision():
            return difference_of_tiles(run, lr, scale, field, most)

    def _saved_per_pixel(self, network: nn.Module, state: State, lr: Tensor) -> float:
        """Bytes that a forward saves for its backward, per LR pixel; 0 where it cannot be measured."""
        try:
            small, large = (self._saved(network, state, lr.new_zeros(1, 3, side, side)) for side in _SIDES)
        except Exception as error:  # whatever a network of the user's has against images of this size
            log.debug("memory: not measured for %s (%s)", type(network).__name__, error)
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
        # The output holds what was saved until all is counted: an address that is freed would be used again.
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = Compute(self.autocast).output(
                network, leaves, lr.to(memory_format=memory_format(lr, self.autocast))
            )
        del output
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
    """Return the faster layout of images and kernels, by measurement (docs/performance.md).

    On processors channels last in single precision and below; on GPUs in lower precision, where tensor cores want it.
    """
    wanted = autocast is not None or (lr.device.type == "cpu" and lr.dtype != torch.float64)
    return torch.channels_last if wanted else torch.contiguous_format


def in_format(values: State, layout: torch.memory_format) -> dict[str, Tensor]:
    """Return tensors with four dimensions in this layout, the others as they are; copied only where they are not."""
    return {n: v.contiguous(memory_format=layout) if v.dim() == 4 else v for n, v in values.items()}


def points_agree(at_once: Callable[[], Gradients], one_by_one: Gradients, bound: float) -> bool:
    """Compare gradients at several points at once with those one by one; log a warning if they differ.

    PyTorch evaluates networks with different weights at once by grouped convolutions. On processors without
    instructions for bfloat16 or float16, oneDNN has a plain implementation of their backward pass. It gives a wrong
    gradient of the weights in these precisions if the input holds one image whose stride along the images is not the
    size of an image, which `vmap` makes of images in channels last (torch 2.13). Other devices may have other faults,
    so the gradients themselves are compared:

        def image(*shape): return torch.randn(shape, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
        x = image(1, 6, 30, 30)
        x = x.as_strided(x.shape, (6, *x.stride()[1:]))  # 6 in place of 5400: the same image
        torch.ops.aten.convolution_backward(  # its second result is off by 140 % with ONEDNN_MAX_CPU_ISA=AVX2
            image(1, 6, 30, 30), x, image(6, 3, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 2, [True] * 3)

    Args:
        at_once: evaluates the gradients at several points at once. A network may refuse that.
        one_by_one: gradients g' at the same points.
        bound: the largest difference Σ|g − g'| / Σ|g'| that passes. Gradients are multiplied by γ'(α) already.
    """
    size = sum(_size(point) for point in one_by_one)
    if not math.isfinite(size):
        return False
    try:
        batch = at_once()
    except RuntimeError as error:
        why = f"{len(one_by_one)} points cannot be evaluated at once ({' '.join(str(error).split())[:200]})"
    else:
        apart = sum(
            _size({name: value - plain[name] for name, value in point.items()})
            for point, plain in zip(batch, one_by_one, strict=True)
        )
        if apart <= bound * size:
            return True
        wrong = apart / size if size else math.inf
        why = f"gradients at {len(one_by_one)} points at once are wrong by {100 * wrong:.1f} %"
    log.warning("points per batch: %s; the points are evaluated one after the other", why)
    return False


def _size(gradients: Mapping[str, Tensor]) -> float:
    """Compute Σ|g| over all parameters; not a number if one of them is not."""
    return float(torch.stack([g.abs().double().sum() for g in gradients.values()]).sum())


@cache
def _compiled(mode: CompileMode) -> Callable[[nn.Module, State, Tensor], Tensor]:
    compiled: Callable[[nn.Module, State, Tensor], Tensor] = torch.compile(evaluate, mode=mode)
    return compiled
