"""HR patches for training: cut from photographs, each a pure function of (seed, stream, number).

`PatchDataset` cuts patches one by one on the processor, and `degrade` degrades a batch of them. On a GPU a step of a
network takes a millisecond or two, and such patches take longer. There `PatchesOnDevice` cuts and degrades the patches
of several steps at once, from photographs that lie on the device as one block of 8-bit pixels. Its random numbers come
from another generator (`SampleDraws`): the samples are others than those of `PatchDataset`, with the same distribution.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from faig_lab.data.degradations.draws import SampleDraws, sample_rng
from faig_lab.data.degradations.pipeline import Degradation, reflected, without_border
from faig_lab.data.photographs import Photograph
from faig_lab.errors import InputError

_Number = TypeVar("_Number", bound=np.number)

NumberedPatch = tuple[NDArray[np.uint8 | np.uint16], int]
"""The pixels of an HR patch with margin, and the number of its sample."""

AT_ONCE = 64
"""Steps whose patches are made together on the device, if they take no more than `MOST_BYTES`."""

MOST_BYTES = 2**28
"""Bytes of the patches that are made together, in float32."""


def cut(pixels: NDArray[_Number], top: int, left: int, size: tuple[int, int], margin: int = 0) -> NDArray[_Number]:
    """Cut a patch with a margin of real pixels. Beyond the photograph's border pixels are reflected.

    Args:
        pixels: (H, W, C).
        top: first row of the patch itself, without margin.
        left: first column.
        size: (h, w) of the patch; it lies inside the photograph.
        margin: pixels added on each side.

    Returns:
        (h + 2·margin, w + 2·margin, C); a view if the margin lies inside the photograph.
    """
    height, width = pixels.shape[:2]
    rows, columns = slice(top - margin, top + size[0] + margin), slice(left - margin, left + size[1] + margin)
    if rows.start >= 0 and columns.start >= 0 and rows.stop <= height and columns.stop <= width:
        return pixels[rows, columns]
    inside = [
        reflected(np.arange(side.start, side.stop), length) for side, length in ((rows, height), (columns, width))
    ]
    return pixels[np.ix_(*inside)]


class PatchDataset(Dataset[NumberedPatch]):
    """An endless stream of HR patches (uint8 or uint16) with margin; item n depends on (seed, stream, n) alone.

    A photograph is drawn with a probability in proportion to its pixels, then a place, a quarter turn and a flip.

    Args:
        photographs: patches are cut from them.
        patch_size: side of the square patch in HR pixels, without margin.
        margin: HR pixels on each side, for degradations that depend on neighbouring pixels.
        seed: the run's seed.
        stream: "baseline" or "target"; streams do not overlap.

    Raises:
        InputError: a photograph is smaller than the patch.
    """

    def __init__(
        self, photographs: Sequence[Photograph], patch_size: int, margin: int, *, seed: int, stream: str
    ) -> None:
        for photograph in photographs:
            height, width = photograph.pixels.shape[:2]
            if min(height, width) < patch_size:
                raise InputError(
                    "patch_size",
                    f"{patch_size} is larger than {photograph.name} ({width}×{height}); "
                    f"at most {min(height, width)} fits",
                )
        self.photographs = tuple(photographs)
        self.patch_size, self.margin, self.seed, self.stream = patch_size, margin, seed, stream
        pixels = np.array([p.pixels.shape[0] * p.pixels.shape[1] for p in photographs], dtype=np.float64)
        self._cumulated = np.cumsum(pixels / pixels.sum())

    def photograph_at(self, drawn: float | NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the index of the photograph for numbers drawn uniformly in [0, 1)."""
        return np.minimum(np.searchsorted(self._cumulated, drawn, side="right"), len(self.photographs) - 1)

    def __getitem__(self, number: int) -> NumberedPatch:
        """Return the patch (P + 2·margin, P + 2·margin, 3) of sample `number`, and the number."""
        rng = sample_rng(self.seed, f"{self.stream}/patch", number)
        pixels = self.photographs[int(self.photograph_at(rng.random()))].pixels
        top = int(rng.integers(pixels.shape[0] - self.patch_size + 1))
        left = int(rng.integers(pixels.shape[1] - self.patch_size + 1))
        patch = cut(pixels, top, left, (self.patch_size, self.patch_size), self.margin)
        patch = np.rot90(patch, k=int(rng.integers(4)))
        return (patch[:, ::-1] if rng.random() < 0.5 else patch), number


@dataclass(frozen=True)
class StepSampler(Sampler[list[int]]):
    """Batches of sample numbers for `steps` steps; rank r of R takes its share of each global batch.

    Step s has the samples s·B … (s + 1)·B − 1 for any number of ranks. A resumed run starts at `first`.
    """

    steps: int
    batch_size: int
    first: int = 0
    rank: int = 0
    world: int = 1

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the sample numbers of this rank, step by step."""
        for step in range(self.first, self.steps):
            yield self.numbers(step)

    def numbers(self, step: int) -> list[int]:
        """Return the sample numbers of this rank in a step."""
        start = step * self.batch_size
        return list(range(start + self.rank, start + self.batch_size, self.world))

    def __len__(self) -> int:
        return self.steps - self.first


@dataclass  # not frozen: Lightning refuses frozen dataclasses in the precisions that convert batches
class Batch:
    """A training batch on its way to the device: patches with margin and the samples' numbers."""

    patches: Tensor
    """(N, 3, P + 2·margin, P + 2·margin), uint8 or uint16."""
    numbers: tuple[int, ...]

    def to(self, device: torch.device, **_: object) -> "Batch":
        """Return the batch on `device`. Lightning calls this method; its further options have no effect."""
        return Batch(self.patches.to(device, non_blocking=True), self.numbers)

    def pin_memory(self) -> "Batch":
        """Return the batch in pinned memory, for an asynchronous copy to a GPU."""
        return Batch(self.patches.pin_memory(), self.numbers)


def collate(items: Sequence[NumberedPatch]) -> Batch:
    """Stack patches into a batch. 8- and 16-bit photographs may be mixed: 8 bits are widened to 16."""
    arrays = [array for array, _ in items]
    if len({array.dtype for array in arrays}) > 1:
        arrays = [a if a.dtype == np.uint16 else a.astype(np.uint16) * 257 for a in arrays]
    stacked = torch.from_numpy(np.stack(arrays).transpose(0, 3, 1, 2))
    return Batch(stacked, tuple(number for _, number in items))


def patch_loader(dataset: PatchDataset, sampler: StepSampler, workers: int = 0) -> DataLoader[NumberedPatch]:
    """Return the loader of a training. The batches are the same for any number of workers.

    Workers are forked from a server process, not from this one: fork can dead-lock with the threads of wandb. The
    server process imports `faig_lab.data` once for all workers.
    """
    context = multiprocessing.get_context("forkserver") if workers else None
    if context is not None:
        context.set_forkserver_preload(["faig_lab.data"])
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=context,
        persistent_workers=workers > 0,
    )


def degrade(batch: Batch, degradation: Degradation, seed: int, stream: str, clean: bool) -> tuple[Tensor, Tensor]:
    """Turn a batch into network input and ground truth, on the batch's device.

    Args:
        batch: patches with `degradation.margin`.
        degradation: the way from HR to LR.
        seed: the run's seed.
        stream: the stream of the dataset.
        clean: only downsample (the baseline); else the parts are drawn as `Degradation.choose` says (the target).

    Returns:
        LR (N, 3, P/scale, P/scale) and HR (N, 3, P, P), sharpened with `degradation.sharpen_truth`; float32 in [0, 1].
    """
    largest = 255.0 if batch.patches.dtype == torch.uint8 else 65535.0
    hr = batch.patches.float() / largest
    rngs, names = _draws(batch, degradation, seed, stream, clean)
    return degradation.apply(hr, names, rngs), without_border(degradation.truth(hr), degradation.margin)


def applied(batch: Batch, degradation: Degradation, seed: int, stream: str, clean: bool) -> list[frozenset[str]]:
    """Return the parts that `degrade`, called with the same arguments, applies to each sample of the batch."""
    return _draws(batch, degradation, seed, stream, clean)[1]


def _draws(
    batch: Batch, degradation: Degradation, seed: int, stream: str, clean: bool
) -> tuple[list[np.random.Generator], list[frozenset[str]]]:
    """Return each sample's generator and its parts, which are the first numbers taken from the generator."""
    rngs = [sample_rng(seed, f"{stream}/degradation", number) for number in batch.numbers]
    return rngs, [frozenset[str]() if clean else degradation.draw(rng) for rng in rngs]


@dataclass  # not frozen: Lightning refuses frozen dataclasses in the precisions that convert batches
class DegradedBatch:
    """A training batch on the device, degraded already."""

    lr: Tensor
    """(N, 3, P/scale, P/scale), float32 in [0, 1]."""
    hr: Tensor
    """(N, 3, P, P), float32 in [0, 1]."""
    names: tuple[frozenset[str], ...]
    """The parts that each sample got."""

    def to(self, device: torch.device, **_: object) -> "DegradedBatch":
        """Return the batch itself: it is on the device. Lightning calls this method."""
        return self


def bytes_on_device(photographs: Sequence[Photograph]) -> int:
    """Return the bytes that photographs take on the device.

    Raises:
        InputError: a photograph has 16 bits.
    """
    for photograph in photographs:
        if photograph.pixels.dtype != np.uint8:
            raise InputError("patches", f"device holds photographs of 8 bits, and {photograph.name} has 16; use host")
    return sum(photograph.pixels.size for photograph in photographs)


class Block:
    """Photographs on the device, and patches of them.

    Args:
        dataset: the photographs, the size of patches and their margin, seed and stream.
        device: where the pixels lie.
    """

    def __init__(self, dataset: PatchDataset, device: torch.device) -> None:
        self.dataset, self.device = dataset, device
        self._shapes = np.array([photograph.pixels.shape[:2] for photograph in dataset.photographs], dtype=np.int64)
        sizes = self._shapes.prod(axis=1)
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._pixels = torch.empty(bytes_on_device(dataset.photographs) // 3, 3, dtype=torch.uint8, device=device)
        for photograph, start, size in zip(dataset.photographs, self._starts, sizes, strict=True):
            self._pixels[start : start + size] = torch.tensor(photograph.pixels).view(-1, 3)
        # The pixel of the patch that a quarter turn (np.rot90) and then a flip bring to each place: (8, side, side).
        side = dataset.patch_size + 2 * dataset.margin
        pixels = np.arange(side**2).reshape(side, side)
        turned = np.stack([np.rot90(pixels, turns)[:, ::step] for turns in range(4) for step in (1, -1)])
        self._turned = torch.from_numpy(turned).to(device)

    def places(self, numbers: Sequence[int]) -> tuple[np.ndarray, ...]:
        """Draw the photograph, the place, the quarter turns and the flip of each sample.

        Returns:
            Photograph, first row, first column and quarter turns (0..3) as int64, flip as bool; all of length N.
        """
        dataset = self.dataset
        drawn = SampleDraws(dataset.seed, f"{dataset.stream}/patch", numbers, self.device).uniform(5)
        photograph = dataset.photograph_at(drawn[:, 0])
        free = self._shapes[photograph] - dataset.patch_size + 1
        top, left = (np.floor(drawn[:, 1:3] * free).astype(np.int64)).T
        return photograph, top, left, np.floor(4 * drawn[:, 3]).astype(np.int64), drawn[:, 4] < 0.5

    def patches(self, numbers: Sequence[int]) -> Tensor:
        """Cut the patches of samples: (N, 3, P + 2·margin, P + 2·margin), uint8, on the device.

        Beyond a photograph's border pixels are reflected, as in `cut`.
        """
        photograph, top, left, turns, flips = self.places(numbers)
        side, margin = self._turned.shape[-1], self.dataset.margin
        origin = self._turned[torch.from_numpy(2 * turns + flips).to(self.device)]
        small = np.stack([self._starts[photograph], *self._shapes[photograph].T, top - margin, left - margin])
        start, height, width, first_row, first_column = torch.from_numpy(small).to(self.device)[..., None, None]
        row, column = reflected(first_row + origin // side, height), reflected(first_column + origin % side, width)
        return self._pixels[start + row * width + column].permute(0, 3, 1, 2)


class PatchesOnDevice:
    """The batches of a training: a loader whose samples depend on (seed, stream, number) alone.

    Batches of `steps_at_once` steps are made together, from a multiple of this number of steps on. So a resumed
    training has the same bits.

    Args:
        dataset: photographs, patch size, margin, seed and stream.
        sampler: the samples of each step.
        degradation: the way from HR to LR.
        clean: only downsample (the baseline); else the parts are drawn as `Degradation.choose` says (the target).
        device: the device of the training.
    """

    def __init__(
        self, dataset: PatchDataset, sampler: StepSampler, degradation: Degradation, clean: bool, device: torch.device
    ) -> None:
        self.dataset, self.sampler, self.degradation, self.clean = dataset, sampler, degradation, clean
        self.device = device
        side = dataset.patch_size + 2 * dataset.margin
        step = len(sampler.numbers(0)) * 3 * 4 * side**2
        self.steps_at_once = max(1, min(AT_ONCE, MOST_BYTES // step))

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[DegradedBatch]:
        """Yield the batches, step by step."""
        block = Block(self.dataset, self.device)
        first, steps, each = self.sampler.first, self.sampler.steps, self.steps_at_once
        for start in range(first - first % each, steps, each):
            some = range(start, min(start + each, steps))
            batch = self.made(block, [number for step in some for number in self.sampler.numbers(step)])
            size = len(batch.names) // len(some)
            for k, step in enumerate(some):
                if step >= first:
                    part = slice(k * size, (k + 1) * size)
                    yield DegradedBatch(batch.lr[part], batch.hr[part], batch.names[part])

    @torch.no_grad()
    def made(self, block: Block, numbers: Sequence[int]) -> DegradedBatch:
        """Cut and degrade the patches of samples."""
        degradation = self.degradation
        rngs = SampleDraws(self.dataset.seed, f"{self.dataset.stream}/degradation", numbers, self.device)
        names = [frozenset[str]()] * len(numbers) if self.clean else degradation.draw_each(rngs)
        with torch.autocast(self.device.type, enabled=False):
            hr = block.patches(numbers).float() / 255
            lr = degradation.apply(hr, names, rngs)
            hr = without_border(degradation.truth(hr), degradation.margin)
            return DegradedBatch(lr.contiguous(), hr.contiguous(), tuple(names))
