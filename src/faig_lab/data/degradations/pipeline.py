"""The whole way from HR to LR: named parts around a downsampling."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from faig_lab.data.degradations.downsample import Downsample

CLEAN = "clean"
"""The name of an input that is only downsampled."""


def sample_rng(seed: int, stream: str, *index: int) -> np.random.Generator:
    """The generator of one sample: a pure function of its arguments, independent of every other sample.

    Args:
        seed: the run's seed, >= 0.
        stream: what the numbers are for ("target", "evaluation/blur/coffee"); streams do not overlap.
        index: position in the stream, e.g. the sample's number since the start of training.
    """
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), *index])


class Part(Protocol):
    """One degradation: a degree of freedom of its own in the mix."""

    domain: Literal["hr", "lr"]
    probability: float

    @property
    def reach(self) -> int:
        """How many HR pixels away an output pixel still sees (0 for a pointwise part)."""

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Degrade (N, 3, H, W) in [0, 1]; one generator per image."""


@dataclass(frozen=True)
class Degradation:
    """The way from HR to LR: named parts around a downsampling.

    Args:
        parts: name → part; HR parts are applied before downsampling and LR parts after it, in order.
        downsample: the downsampling of every sample, degraded or not.
        scale: the network's factor, HR pixels per LR pixel.
        quantise: round LR to 8 bits and clip it to [0, 1], as images on disk are.
    """

    parts: Mapping[str, Part]
    downsample: Downsample
    scale: int
    quantise: bool = True

    @property
    def margin(self) -> int:
        """HR pixels to cut around a patch so that no pixel of its LR sees a border; a multiple of `scale`."""
        reach = sum(part.reach for part in self.parts.values() if part.domain == "hr")
        return -(-(reach + self.downsample.reach(self.scale)) // self.scale) * self.scale

    def inputs(self) -> dict[str, frozenset[str]]:
        """The inputs that are evaluated: clean, each part alone, and all parts together where there are several."""
        inputs = {CLEAN: frozenset[str](), **{name: frozenset({name}) for name in self.parts}}
        if len(self.parts) > 1:
            inputs["+".join(self.parts)] = frozenset(self.parts)
        return inputs

    def apply(self, hr: Tensor, names: Sequence[frozenset[str]], rngs: Sequence[np.random.Generator]) -> Tensor:
        """Degrade a batch.

        Args:
            hr: (N, 3, H + 2·margin, W + 2·margin) in [0, 1]; H and W multiples of `scale`.
            names: per sample, which parts it gets.
            rngs: per sample, where its randomness comes from.

        Returns:
            (N, 3, H/scale, W/scale); in [0, 1] where `quantise` is on, else noise may leave the range.
        """
        for name, part in self.parts.items():
            if part.domain == "hr":
                hr = _apply_where(part, hr, [name in chosen for chosen in names], rngs)
        lr = self.downsample.apply(hr, self.scale)
        border = self.margin // self.scale
        lr = lr[..., border : lr.shape[-2] - border, border : lr.shape[-1] - border]
        for name, part in self.parts.items():
            if part.domain == "lr":
                lr = _apply_where(part, lr, [name in chosen for chosen in names], rngs)
        return torch.round(lr.clamp(0, 1) * 255) / 255 if self.quantise else lr

    def draw(self, rng: np.random.Generator) -> frozenset[str]:
        """Which parts a training sample of the target gets: each with its own probability, independently."""
        return frozenset(name for name, part in self.parts.items() if rng.random() < part.probability)


def _apply_where(part: Part, images: Tensor, chosen: Sequence[bool], rngs: Sequence[np.random.Generator]) -> Tensor:
    """Apply `part` to the chosen images of the batch and leave the others as they are."""
    index = [i for i, yes in enumerate(chosen) if yes]
    if not index:
        return images
    degraded = part.apply(images[index], [rngs[i] for i in index])
    if len(index) == len(chosen):
        return degraded
    images = images.clone()
    images[index] = degraded
    return images
