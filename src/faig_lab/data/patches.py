"""HR patches for training: cut from photographs, each a pure function of (seed, stream, number)."""

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from faig_lab.data.degradations.draws import sample_rng
from faig_lab.data.degradations.pipeline import Degradation, reflected
from faig_lab.data.photographs import Photograph
from faig_lab.errors import InputError

_Number = TypeVar("_Number", bound=np.number)

NumberedPatch = tuple[NDArray[np.uint8 | np.uint16], int]
"""The pixels of an HR patch with margin, and the number of its sample."""


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
    return pixels[np.ix_(reflected(rows.start, rows.stop, height), reflected(columns.start, columns.stop, width))]


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
    rngs = _generators(batch, seed, stream)
    names = _drawn(rngs, degradation, clean)
    lr = degradation.apply(hr, names, rngs)
    margin, hr = degradation.margin, degradation.truth(hr)
    return lr, hr[..., margin : hr.shape[-2] - margin, margin : hr.shape[-1] - margin]


def applied(batch: Batch, degradation: Degradation, seed: int, stream: str, clean: bool) -> list[frozenset[str]]:
    """Return the parts that `degrade`, called with the same arguments, applies to each sample of the batch."""
    return _drawn(_generators(batch, seed, stream), degradation, clean)


def _generators(batch: Batch, seed: int, stream: str) -> list[np.random.Generator]:
    return [sample_rng(seed, f"{stream}/degradation", number) for number in batch.numbers]


def _drawn(rngs: Sequence[np.random.Generator], degradation: Degradation, clean: bool) -> list[frozenset[str]]:
    """Draw each sample's parts, which are the first numbers taken from its generator."""
    return [frozenset[str]() if clean else degradation.draw(rng) for rng in rngs]
