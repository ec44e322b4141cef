"""HR patches that are cut and degraded on the device of the training, for several steps at once.

On a GPU a step of a network takes a millisecond or two. Patches that the processor cuts one by one take longer. Here
the photographs lie on the device as one block of 8-bit pixels. What is drawn for a sample is a function of
(seed, stream, number), as on the processor, but the numbers come from another generator (`SampleDraws`): the samples
are others than those of `PatchDataset`, with the same distribution.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from faig_lab.data.degradations.draws import SampleDraws
from faig_lab.data.degradations.pipeline import Degradation
from faig_lab.data.patches import PatchDataset, StepSampler
from faig_lab.data.photographs import Photograph
from faig_lab.errors import InputError

AT_ONCE = 64
"""Steps whose patches are made together, if they take no more than `MOST_BYTES`."""

MOST_BYTES = 2**28
"""Bytes of the patches that are made together, in float32."""


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
        shapes = np.array([photograph.pixels.shape[:2] for photograph in dataset.photographs], dtype=np.int64)
        self._shapes = shapes
        sizes = shapes.prod(axis=1)
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._pixels = torch.empty(bytes_on_device(dataset.photographs) // 3, 3, dtype=torch.uint8, device=device)
        for photograph, start, size in zip(dataset.photographs, self._starts, sizes, strict=True):
            self._pixels[start : start + size] = torch.tensor(photograph.pixels).view(-1, 3)

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

        Beyond a photograph's border pixels are reflected, as in `patches.cut`.
        """
        photograph, top, left, turns, flips = self.places(numbers)
        side, margin = self.dataset.patch_size + 2 * self.dataset.margin, self.dataset.margin
        # The pixel of the photograph that quarter turns (np.rot90) and then a flip put at row i and column j of the
        # patch is in row a i + b j + c, and in a column of the same form.
        sign, first, last = np.where(flips, -1, 1), np.where(flips, side - 1, 0), np.where(flips, 0, side - 1)
        zero, one, end = np.zeros_like(turns), np.ones_like(turns), np.full_like(turns, side - 1)
        row = np.choose(turns, [[one, zero, zero], [zero, sign, first], [-one, zero, end], [zero, -sign, last]])
        column = np.choose(turns, [[zero, sign, first], [-one, zero, end], [zero, -sign, last], [one, zero, zero]])
        row[2] += top - margin
        column[2] += left - margin
        small = np.stack([self._starts[photograph], *self._shapes[photograph].T, *row, *column])
        start, height, width, *form = torch.from_numpy(small).to(self.device)[..., None, None]
        place = torch.arange(side, device=self.device)
        i, j = place[:, None], place
        own_row = _reflected(form[0] * i + form[1] * j + form[2], height)
        own_column = _reflected(form[3] * i + form[4] * j + form[5], width)
        return self._pixels[start + own_row * width + own_column].permute(0, 3, 1, 2)


def _reflected(index: Tensor, length: Tensor) -> Tensor:
    """Fold indices back into 0 … length − 1, without repeating the border pixel, as `pipeline.reflected`."""
    period = (2 * (length - 1)).clamp(min=1)
    index = index.abs() % period
    return torch.minimum(index, period - index) * (length > 1)


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
        degradation, margin = self.degradation, self.degradation.margin
        rngs = SampleDraws(self.dataset.seed, f"{self.dataset.stream}/degradation", numbers, self.device)
        names = [frozenset[str]()] * len(numbers) if self.clean else degradation.draw_each(rngs)
        with torch.autocast(self.device.type, enabled=False):
            hr = block.patches(numbers).float() / 255
            lr = degradation.apply(hr, names, rngs)
            hr = degradation.truth(hr)[..., margin : hr.shape[-2] - margin, margin : hr.shape[-1] - margin]
            return DegradedBatch(lr.contiguous(), hr.contiguous(), tuple(names))
